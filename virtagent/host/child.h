/*
 * child.h - programs that va-hostd starts
 *
 * One table of children on the loop's thread, one SIGCHLD handler.  Programs
 * are started with posix_spawn(), so that a process with threads forks nothing,
 * and each in a session of its own: a signal to va-hostd's group does not reach
 * them, and a whole group can be killed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_CHILD_H
#define VA_HOST_CHILD_H

#include <sys/types.h>

#include "common/loop.h"

struct children;

/* status: as waitpid(2) gives it. */
typedef void (*child_fn)(void *arg, pid_t pid, int status);

/* NULL with errno. */
struct children *children_new(struct loop *loop);
/* Forgets the children; kills none. */
void children_free(struct children *c);

struct child_spec {
	const char *path;	 /* of the executable */
	const char *const *argv; /* NULL-terminated, argv[0] included */
	const char *const *envp; /* NULL-terminated; NULL = this process's */
	int fd_in;		 /* its 0; -1 = /dev/null */
	int fd_out;		 /* its 1; -1 = /dev/null */
	int fd_err;		 /* its 2; -1 = this process's */
};

/* Starts a program; fn is called once, when it ended.  Returns the pid or a
 * negative errno. */
pid_t child_start(struct children *c, const struct child_spec *spec,
		  child_fn fn, void *arg);
/* fn will not be called any more; the child runs on and is reaped. */
void child_forget(struct children *c, pid_t pid);
/* "exited with 1", "killed by signal 9", "exited normally". */
const char *child_status_text(int status, char *buf, size_t size);

#endif
