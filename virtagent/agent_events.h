/*
 * agent_events.h - events for the host, kept while it is away
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_EVENTS_H
#define VA_AGENT_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "virtagent/value.h"

struct agent_events;

/* Events kept for a host that is away, beside the limit of their bytes; the oldest go
 * first, the log says so, and the next that is sent says how many. */
#define AGENT_EVENTS_MAX 1000u

/*
 * Starts the sending thread.  host_socket: this guest's way to the host's
 * server.  state_file remembers the boot that was reported (NULL = none, then
 * nothing is).  Both are copied.  there: as agent_events_host().  NULL with errno.
 */
struct agent_events *agent_events_new(const char *host_socket,
				      const char *agent_id, const char *boot_id,
				      const char *state_file, bool there);

/* How many bytes of events may wait; until then VA_EVENT_QUEUE_MAX. */
void agent_events_set_max(struct agent_events *e, uint64_t bytes);
/* Queues an event; data (a struct, or NULL) is taken over.  Any thread; never
 * blocks.  0, -EINVAL (name), -EMSGSIZE (data over 16 KiB as JSON), -ENOMEM. */
int agent_events_post(struct agent_events *e, const char *name,
		      struct va_value *data);
/* Waits until the host has them all: 0, -EAGAIN (it does not take them now), or
 * -ETIMEDOUT. */
int agent_events_flush(struct agent_events *e, uint64_t deadline_ns);
/* Whether there is a session with the host.  Without one it is tried but once a
 * minute; when there is one, what waits is sent at once. */
void agent_events_host(struct agent_events *e, bool there);
/* How many wait. */
unsigned agent_events_waiting(struct agent_events *e);

#endif
