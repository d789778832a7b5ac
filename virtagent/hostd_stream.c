/*
 * hostd_stream.c - GET /events: events as lines of JSON, also as they happen
 *
 *	since=N	 those kept after number N first (0 = all that are kept)
 *	follow=1 then go on as they happen; without since: from now on
 *	guest=G	 of one guest only
 *
 * The answer is a stream of lines: a batch is read from the store, sent, and the
 * next is read when the client took it.  A caller in a guest gets its own.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/hostd_stream.h"

#define STORE_NS (10 * NSEC_PER_SEC)
#define STREAM_BATCH 200u

struct stream {
	struct events *events;
	char *guest;
	uint64_t since;
	bool follow;
	int cancel_fd;
	struct buf lines;
};

static void stream_free(void *arg)
{
	struct stream *st = arg;

	buf_done(&st->lines);
	free(st->guest);
	free(st);
}

/* The next batch into st->lines; empty = the end. */
static int next_batch(struct stream *st)
{
	for (;;) {
		struct event_batch batch = { .last = st->since };
		/* Before the read: what comes during it wakes the wait. */
		uint64_t seen = events_last(st->events);
		int err = events_read(st->events, st->since, st->guest,
				      STREAM_BATCH, clock_now() + STORE_NS,
				      &batch);

		buf_done(&st->lines);
		st->lines = batch.lines;
		st->since = batch.last;
		if (err < 0 || buf_len(&st->lines) || !st->follow)
			return err;
		err = events_wait(st->events, seen, st->cancel_fd, CLOCK_NEVER);
		if (err < 0)
			return err;
	}
}

static ssize_t stream_read(void *arg, void *buf, size_t max)
{
	struct stream *st = arg;
	size_t n;

	if (!buf_len(&st->lines)) {
		int err = next_batch(st);

		if (err < 0)
			return err;
	}
	n = buf_len(&st->lines) < max ? buf_len(&st->lines) : max;
	buf_get(&st->lines, buf, n);
	return (ssize_t)n;
}

static int take_query(struct http_request *rq, struct stream *st)
{
	const char *since = http_request_query(rq, "since");
	const char *follow = http_request_query(rq, "follow");
	const char *guest = http_request_query(rq, "guest");
	const char *own = http_request_caller(rq)->guest;

	if (follow && str_to_bool(follow, &st->follow) < 0)
		return http_respond_text(rq, 400, "follow=%s: not 0 or 1\n",
					 follow);
	if (since && str_to_u64(since, INT64_MAX, &st->since) < 0)
		return http_respond_text(rq, 400, "since=%s: not a number\n",
					 since);
	if (!since && st->follow)
		st->since = events_last(st->events);
	if (own && guest && strcmp(own, guest) != 0)
		return http_respond_text(rq, 404, "no guest \"%s\"\n", guest);
	if (own)
		guest = own;
	st->guest = guest ? strdup(guest) : NULL;
	return guest && !st->guest ? -ENOMEM : 1;
}

int hostd_stream_events(struct http_request *rq, struct events *events)
{
	struct stream *st = calloc(1, sizeof(*st));
	int res;

	if (!st)
		return -ENOMEM;
	st->events = events;
	st->cancel_fd = http_request_cancel_fd(rq);
	res = take_query(rq, st);
	if (res != 1) {
		stream_free(st);
		return res;
	}
	return http_respond_stream(rq, 200, "application/x-ndjson", -1,
				   stream_read, stream_free, st);
}
