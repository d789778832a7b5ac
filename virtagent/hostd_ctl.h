/*
 * hostd_ctl.h - one connection to a virtproxy's control socket
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_CTL_H
#define VA_HOSTD_CTL_H

#include <stddef.h>
#include <sys/types.h>

#include "common/loop.h"

struct ctl;

struct ctl_ops {
	/* A line that begins with "event ", without that word. */
	void (*event)(void *arg, char *line);
	/* The connection ended: the virtproxy died or broke the rules.  The ctl
	 * must be freed, which may be done here. */
	void (*gone)(void *arg, const char *why);
};

/* An answer's lines, joined with newlines and terminated; NULL = none came. */
typedef void (*ctl_answer_fn)(void *arg, const char *text);

/*
 * Connects.  NULL with errno: ENOENT or ECONNREFUSED = nobody listens there,
 * EPERM = it belongs to neither this user nor root.
 */
struct ctl *ctl_new(struct loop *loop, const char *path,
		    const struct ctl_ops *ops, void *arg);
/* Answers still owed are given as NULL. */
void ctl_free(struct ctl *c);
/* The process that listens. */
pid_t ctl_pid(const struct ctl *c);
/*
 * Sends a command; fn (may be NULL) gets the answer.  Answers come in the order
 * of the commands.  -EBUSY with too many waiting; fn is then not called.
 */
int ctl_command(struct ctl *c, const char *command, ctl_answer_fn fn,
		void *arg);

#endif
