/*
 * agent_streams.c - see agent_streams.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_streams.h"

#include <errno.h>

static void offer(struct agent_streams *s, size_t i)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);

	if (s->waiting[i].sent || !agent_child_up(s->server))
		return;
	if (ipc_put_stream(&b, &s->waiting[i].head) == 0 &&
	    agent_child_send(s->server, IPC_STREAM, &b, &s->waiting[i].fd, 1) == 0)
		s->waiting[i].sent = true;
}

int agent_streams_add(struct agent_streams *s, int fd,
		      const struct ipc_stream *head)
{
	size_t i = s->count;

	if (i == AGENT_STREAMS_MAX)
		return -EAGAIN;
	s->count++;
	s->waiting[i].head = *head;
	s->waiting[i].head.ticket = ++s->last_ticket;
	s->waiting[i].fd = fd;
	s->waiting[i].sent = false;
	offer(s, i);
	return 0;
}

void agent_streams_taken(struct agent_streams *s, uint32_t ticket)
{
	for (size_t i = 0; i < s->count; i++) {
		if (s->waiting[i].head.ticket != ticket)
			continue;
		close(s->waiting[i].fd);
		s->waiting[i] = s->waiting[--s->count];
		return;
	}
}

void agent_streams_offer(struct agent_streams *s, bool new_server)
{
	for (size_t i = 0; i < s->count; i++) {
		if (new_server)
			s->waiting[i].sent = false;
		offer(s, i);
	}
}

bool agent_streams_waits(const struct agent_streams *s, uint32_t stream)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->waiting[i].head.remote &&
		    s->waiting[i].head.stream == stream)
			return true;
	return false;
}

void agent_streams_done(struct agent_streams *s)
{
	while (s->count)
		close(s->waiting[--s->count].fd);
}
