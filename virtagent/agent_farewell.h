/*
 * agent_farewell.h - the server's part when the agent is told to end
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_FAREWELL_H
#define VA_AGENT_FAREWELL_H

#include "common/buf.h"
#include "virtagent/agent_events.h"
#include "virtagent/guest/guest.h"

/* What the events get to reach the host. */
#define FAREWELL_FLUSH_NS UINT64_C(1500000000)

struct agent_farewell {
	struct guest_context *ctx;
	struct agent_events *events;
	int ipc_fd;
	pid_t from;	/* who sent the signal; 0 = not known */
	char reason[64]; /* why, if it is not the system that goes down */
};

/* The body of IPC_STOPPING: u32 pid, then the text. */
int agent_farewell_get(struct buf *b, struct agent_farewell *ret);

/*
 * Tells the host, on a thread of its own, that the system is going down, when it
 * is; waits until the host has all events, FAREWELL_FLUSH_NS at most; then answers
 * IPC_STOPPED with the reason in a word, a colon and details.  f is copied.
 */
int agent_farewell_start(const struct agent_farewell *f);

#endif
