/*
 * daemon.h - what every daemon does at start and end
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_DAEMON_H
#define VA_COMMON_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * First call of a daemon: umask 077, SIGPIPE ignored, descriptors 0-2 open
 * (on /dev/null where they were not), core size as inherited.
 */
void daemon_early_init(void);
/*
 * Goes to the background: double fork, setsid, chdir /, 0-2 on /dev/null.  The
 * parent returns only when the child called daemon_ready() (exit 0) or died
 * (exit 1 and its message on stderr).
 */
int daemon_detach(void);
/* Tells the waiting parent, and systemd when NOTIFY_SOCKET is set (READY=1). */
void daemon_ready(void);
/* sd_notify(3)-style state without the library; no-op without NOTIFY_SOCKET. */
void daemon_notify(const char *state);

/*
 * Writes and locks a pid file (O_NOFOLLOW, 0644); the fd stays open.  -EBUSY
 * when another process holds it, its pid then in *holder.
 */
int daemon_pidfile(const char *path, int *ret_fd, pid_t *holder);
void daemon_pidfile_remove(const char *path, int fd);

/* An exclusive lock on a file, made 0600; -EBUSY with *holder as above. */
int lock_file(const char *path, int *ret_fd, pid_t *holder);

/*
 * Directories.  runtime: /run/virtagent for root, $XDG_RUNTIME_DIR/virtagent
 * otherwise; VA_RUNTIME_DIR overrides.  state: /var/lib/virtagent, or
 * $XDG_STATE_HOME (~/.local/state)/virtagent; VA_STATE_DIR overrides.  conf:
 * SYSCONFDIR/virtagent or $XDG_CONFIG_HOME (~/.config)/virtagent; VA_CONF_DIR.
 * The string is static.
 */
const char *dir_runtime(void);
const char *dir_state(void);
const char *dir_conf(void);
/* mkdir -p with 0700 for what is made; an existing last part must be a
 * directory of ours (or root's), not a symbolic link: -EPERM otherwise. */
int dir_make_private(const char *path);

#endif
