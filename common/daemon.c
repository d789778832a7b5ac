/*
 * daemon.c - see daemon.h
 *
 * Locks are flock()s: they belong to the open file, so a second channel of the
 * same process is refused like one of another process, and a lock outlives the
 * forks of daemon_detach().  The holder's pid is the file's text, written after
 * the lock is held; the text of a file that nobody locks means nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/seal.h"
#include "common/str.h"

static int ready_fd = -1;

void daemon_early_init(void)
{
	int fd;

	umask(077);
	signal(SIGPIPE, SIG_IGN);
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

/* Puts fd on /dev/null. */
static void blank_fd(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, fd);
	if (null != fd)
		close(null);
}

int daemon_detach(void)
{
	int fds[2];
	pid_t pid;
	char byte;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (pid > 0) {
		ssize_t n;

		close(fds[1]);
		do
			n = read(fds[0], &byte, 1);
		while (n < 0 && errno == EINTR);
		_exit(n == 1 ? 0 : 1);
	}
	close(fds[0]);
	setsid();
	pid = fork();
	if (pid != 0)
		_exit(pid < 0 ? 1 : 0);
	ready_fd = fds[1];
	blank_fd(0);
	blank_fd(1);
	return chdir("/") < 0 ? -errno : 0;
}

void daemon_ready(void)
{
	if (ready_fd >= 0) {
		ssize_t n = write(ready_fd, "1", 1);

		(void)n; /* the parent was killed: nobody waits */
		close(ready_fd);
		ready_fd = -1;
		blank_fd(2);
	}
	daemon_notify("READY=1");
}

void daemon_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	CLEANUP_CLOSE int fd = -1;
	size_t n = path ? strlen(path) : 0;
	ssize_t sent;

	if (n < 2 || n >= sizeof(sun.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(sun.sun_path, path, n);
	if (path[0] == '@')
		sun.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL,
		      (struct sockaddr *)&sun,
		      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
	(void)sent;
}

/* The pid that stands in a lock file; 0 when there is none. */
static pid_t read_pid(int fd)
{
	char text[24];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	int64_t pid = 0;

	if (n <= 0)
		return 0;
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	return str_to_i64(text, 1, INT32_MAX, &pid) == 0 ? (pid_t)pid : 0;
}

static int lock_with_mode(const char *path, mode_t mode, int *ret_fd,
			  pid_t *holder)
{
	CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC |
						  O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
				    mode);
	struct stat st;
	char text[24];
	int n;

	if (holder)
		*holder = 0;
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EEXIST;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (holder)
			*holder = read_pid(fd);
		return -EBUSY;
	}
	fchmod(fd, mode); /* the umask took some of it */
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
		return errno ? -errno : -EIO;
	*ret_fd = take_fd(fd);
	return 0;
}

int daemon_pidfile(const char *path, int *ret_fd, pid_t *holder)
{
	return lock_with_mode(path, 0644, ret_fd, holder);
}

void daemon_pidfile_remove(const char *path, int fd)
{
	/* While the lock is held nobody else believes the file is his. */
	unlink(seal_path(path));
	close(fd);
}

int lock_file(const char *path, int *ret_fd, pid_t *holder)
{
	return lock_with_mode(path, 0600, ret_fd, holder);
}

/* BASE/virtagent with BASE from the environment, or HOME plus sub; NULL when
 * there is neither. */
static const char *xdg_dir(char *to, size_t size, const char *variable,
			   const char *sub)
{
	const char *base = getenv(variable), *home = getenv("HOME");
	int n = -1;

	if (base && base[0] == '/')
		n = snprintf(to, size, "%s/virtagent", base);
	else if (sub && home && home[0] == '/')
		n = snprintf(to, size, "%s/%s/virtagent", home, sub);
	return n > 0 && (size_t)n < size ? to : NULL;
}

static const char *find_dir(char *to, size_t size, const char *override,
			    const char *system, const char *variable,
			    const char *sub)
{
	const char *set = getenv(override), *dir;

	if (set && *set)
		return set;
	if (geteuid() == 0)
		return system;
	dir = xdg_dir(to, size, variable, sub);
	if (dir)
		return dir;
	/* A user without a home or session still gets a place of his own. */
	snprintf(to, size, "/tmp/virtagent-%u", (unsigned)geteuid());
	return to;
}

const char *dir_runtime(void)
{
	static char dir[256];

	return find_dir(dir, sizeof(dir), "VA_RUNTIME_DIR", "/run/virtagent",
			"XDG_RUNTIME_DIR", NULL);
}

const char *dir_state(void)
{
	static char dir[256];

	return find_dir(dir, sizeof(dir), "VA_STATE_DIR",
			LOCALSTATEDIR "/lib/virtagent", "XDG_STATE_HOME",
			".local/state");
}

const char *dir_conf(void)
{
	static char dir[256];

	return find_dir(dir, sizeof(dir), "VA_CONF_DIR", SYSCONFDIR "/virtagent",
			"XDG_CONFIG_HOME", ".config");
}

int dir_make_private(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);
	struct stat st;

	if (!copy)
		return -ENOMEM;
	if (!*copy)
		return -EINVAL;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(copy, 0700) < 0 && errno != EEXIST && errno != EROFS &&
		    errno != EACCES)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, 0700) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (lstat(copy, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()))
		return -EPERM;
	return 0;
}
