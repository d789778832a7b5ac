/*
 * agent_limits.c - see agent_limits.h
 *
 * One row for each: its key in [agent], what it is without one, and within what it
 * may be set.  virtagent.conf(5) says the same; a test compares the two.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_limits.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/str.h"
#include "virtagent/limits.h"

static const struct limit {
	const char *key;
	size_t field;
	uint64_t dflt, min, max;
	bool bytes; /* K, M and G are understood */
} limits[] = {
	{ "calls", offsetof(struct guest_limits, calls),
	  VA_CALLS_MAX, 1, VA_CONF_CALLS_MAX, false },
	{ "client-calls", offsetof(struct guest_limits, client_calls),
	  VA_CLIENT_CALLS_MAX, 1, VA_CONF_CALLS_MAX, false },
	{ "streams", offsetof(struct guest_limits, streams),
	  VA_STREAMS_MAX, 1, VA_CONF_STREAMS_MAX, false },
	{ "stream-buffer", offsetof(struct guest_limits, stream_buffer),
	  VA_STREAM_BUFFER, VA_CONF_STREAM_BUFFER_MIN, VA_CONF_STREAM_BUFFER_MAX, true },
	{ "listeners", offsetof(struct guest_limits, listeners),
	  VA_LISTENERS_MAX, 1, VA_CONF_LISTENERS_MAX, false },
	{ "jobs", offsetof(struct guest_limits, jobs),
	  VA_JOBS_MAX, 1, VA_CONF_JOBS_MAX, false },
	{ "output", offsetof(struct guest_limits, output),
	  VA_OUTPUT_MAX, VA_CONF_OUTPUT_MIN, VA_CONF_OUTPUT_MAX, true },
	{ "event-queue", offsetof(struct guest_limits, event_queue),
	  VA_EVENT_QUEUE_MAX, VA_CONF_EVENT_QUEUE_MIN, VA_CONF_EVENT_QUEUE_MAX, true },
};

#define N_LIMITS (sizeof(limits) / sizeof(limits[0]))

bool agent_limits_key(const char *key)
{
	for (size_t i = 0; i < N_LIMITS; i++)
		if (strcmp(limits[i].key, key) == 0)
			return true;
	return false;
}

static int read_one(const struct limit *l, const struct conf_entry *e, uint64_t *ret,
		    char *err, size_t err_size)
{
	int r = l->bytes ? str_to_size(e->value, l->max, ret) :
			   str_to_u64(e->value, l->max, ret);

	if (r == 0 && *ret >= l->min)
		return 0;
	snprintf(err, err_size, "%s:%u: %s = %s: needs a number%s from %" PRIu64
		 " to %" PRIu64, e->file, e->line, l->key, e->value,
		 l->bytes ? " of bytes" : "", l->min, l->max);
	return -EINVAL;
}

int agent_limits_read(const struct conf *c, struct guest_limits *ret, char *err,
		      size_t err_size)
{
	struct guest_limits all;

	for (size_t i = 0; i < N_LIMITS; i++) {
		uint64_t *value = (uint64_t *)(void *)((char *)&all + limits[i].field);

		*value = limits[i].dflt;
		for (size_t e = 0; e < c->count; e++) {
			const struct conf_entry *entry = &c->entries[e];

			if (strcmp(entry->section, "agent") == 0 &&
			    strcmp(entry->key, limits[i].key) == 0 &&
			    read_one(&limits[i], entry, value, err, err_size) < 0)
				return -EINVAL;
		}
	}
	*ret = all;
	return 0;
}
