/*
 * agent_streams.h - connections on their way to the server
 *
 * A connection is kept here until the server says that it serves it, so that one
 * that came while the server was hung or dying goes to the next server instead of
 * being lost.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_STREAMS_H
#define VA_AGENT_STREAMS_H

#include "virtagent/agent_child.h"

/* Waiting at once; more are refused.  As many as a link has streams: a burst of
 * them waits for the server, however slow the guest. */
#define AGENT_STREAMS_MAX 256u

struct agent_streams {
	struct agent_child *server;
	uint32_t last_ticket;
	size_t count;
	struct {
		struct ipc_stream head;
		int fd;
		bool sent; /* to the present server */
	} waiting[AGENT_STREAMS_MAX];
};

/* Takes fd over and offers it to the server; -EAGAIN when too many wait (fd
 * stays the caller's then). */
int agent_streams_add(struct agent_streams *s, int fd,
		      const struct ipc_stream *head);
/* The server serves that one. */
void agent_streams_taken(struct agent_streams *s, uint32_t ticket);
/* There is a (new) server: offers it all that wait. */
void agent_streams_offer(struct agent_streams *s, bool new_server);
/* Does that stream of the host still wait? */
bool agent_streams_waits(const struct agent_streams *s, uint32_t stream);
void agent_streams_done(struct agent_streams *s);

#endif
