/*
 * agent_stop.h - the agent's end in order
 *
 * SIGTERM or SIGINT; the server tells the host what there is to tell, and says why
 * the agent ends (agent_farewell.h); the link says goodbye with that reason; the
 * processes end.  Each step has its limit in time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_STOP_H
#define VA_AGENT_STOP_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/loop.h"
#include "virtagent/agent_child.h"
#include "virtproxy/virtproxy.h"

/* What the server gets to tell the host: systemctl's answer (INIT_ASK_NS) and the
 * events (FAREWELL_FLUSH_NS). */
#define AGENT_STOP_FAREWELL_NS (4 * NSEC_PER_SEC)
/* What the children get to end by themselves. */
#define AGENT_STOP_END_NS (300 * NSEC_PER_MSEC)

struct agent_stop_ops {
	/* The signal came: take no more connections. */
	void (*begins)(void *arg, int signo);
	/* The server is about to be ended. */
	void (*ends)(void *arg);
};

struct agent_stop {
	struct loop *loop;
	struct vp_endpoint *ep;
	struct agent_child *server, *spawner;
	const struct agent_stop_ops *ops;
	void *arg;
	/* its own: */
	int signal_fd;
	struct loop_fd *src;
	struct loop_timer *timer;
	enum { STOP_NOT, STOP_FAREWELL, STOP_GOODBYE, STOP_END } step;
	char reason[64];
	pid_t ending[2];
};

/* Blocks the two signals and watches for them; the members above "its own" are the
 * caller's, ep, server and spawner may come later.  0 or a negative errno. */
int agent_stop_init(struct agent_stop *s);
void agent_stop_done(struct agent_stop *s);
bool agent_stopping(const struct agent_stop *s);
/* The server's IPC_STOPPED. */
void agent_stop_said(struct agent_stop *s, const char *reason);
void agent_stop_server_gone(struct agent_stop *s);
/* A child that is neither server nor spawner any more has ended. */
void agent_stop_reaped(struct agent_stop *s, pid_t pid);

#endif
