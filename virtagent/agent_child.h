/*
 * agent_child.h - a supervised process of the endpoint
 *
 * Started at once, started again when it dies or does not answer, the first time
 * without delay.  A process that cannot be killed (a thread of it hangs in the
 * kernel) is sent SIGKILL and not waited for.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_CHILD_H
#define VA_AGENT_CHILD_H

#include "common/loop.h"
#include "virtagent/agent_end.h"
#include "virtagent/agent_ipc.h"
#include "virtagent/agent_role.h"

struct agent_child;

struct agent_child_ops {
	/* It was started; messages may be sent. */
	void (*started)(void *arg);
	/* A message, PONG included. */
	void (*message)(void *arg, struct ipc_msg *m);
	/* It is gone or given up; started() may follow at once. */
	void (*gone)(void *arg, const struct agent_end *end);
};

/* role: "server" or "spawner".  NULL on ENOMEM. */
struct agent_child *agent_child_new(struct loop *loop,
				    const struct agent_options *o,
				    const char *role,
				    const struct agent_child_ops *ops, void *arg);
/* Starts it for the first time: 0 or a negative errno. */
int agent_child_run(struct agent_child *c);
/* brisk: somebody waits for what the child does, so that a hang must be noticed
 * at once; else it may take some seconds. */
void agent_child_pace(struct agent_child *c, bool brisk);
/* Did it say that it waits for programs? */
bool agent_child_busy(const struct agent_child *c);
/* Is it there to be sent messages? */
bool agent_child_up(const struct agent_child *c);
/* How often it was lost in a row without having worked between. */
unsigned agent_child_failures(const struct agent_child *c);
int agent_child_send(struct agent_child *c, enum ipc_type type,
		     const struct buf *body, const int *fds, size_t nfds);
/* A child of this process ended; is it this one? */
bool agent_child_reaped(struct agent_child *c, pid_t pid, int status);
/* Closes the pair, which tells it to end; it is not started again.  Its pid, or
 * 0. */
pid_t agent_child_stop(struct agent_child *c);
void agent_child_free(struct agent_child *c);

#endif
