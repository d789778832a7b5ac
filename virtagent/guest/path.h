/*
 * path.h - paths in the guest: opened once, then only the descriptor counts
 *
 * A method names a path; what it acts on is the descriptor opened here (or the
 * parent directory's descriptor and the last component), so that no swap of a
 * component between check and use changes the object.  The policy's path
 * prefixes are held against the path the kernel says the descriptor has
 * (/proc/self/fd), not against the caller's text; without /proc every path is
 * refused where there are such rules.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_PATH_H
#define VA_GUEST_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "virtagent/method.h"

/* A path argument: not empty, absolute, at most PATH_MAX - 1 bytes, no NUL. */
int guest_arg_path(struct va_call *call, size_t i, const char **ret);

/* Fails the call as "PATH: what: errno's text", the path escaped. */
int guest_path_fail(struct va_call *call, int err, const char *path,
		    const char *what);

/* open(2) with O_CLOEXEC | O_NOCTTY | O_NONBLOCK added, checked against the
 * policy.  The fd, or the failed call's negative errno. */
int guest_open(struct va_call *call, const char *path, int flags);

/* The last component of a path within its opened directory. */
struct guest_entry {
	int dir_fd;
	char name[256];
};

#define GUEST_ENTRY_INIT { .dir_fd = -1 }

/* Opens the parent directory of path.  "/", "." and ".." as the last component
 * are refused with -EINVAL.  Release with guest_entry_done(). */
int guest_open_parent(struct va_call *call, const char *path,
		      struct guest_entry *ret);
void guest_entry_done(struct guest_entry *e);
#define CLEANUP_ENTRY CLEANUP(guest_entry_done)

/* Text that may hold any byte: a string where it is clean UTF-8, else base64. */
struct va_value *guest_text(const char *s);

/* A file's metadata as the struct that guest.stat returns. */
struct va_value *guest_stat_value(const struct stat *st);
const char *guest_file_type(mode_t mode);

#endif
