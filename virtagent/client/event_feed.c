/*
 * event_feed.c - see event_feed.h
 *
 * va-hostd keeps events, numbered; GET /events gives them as JSON lines:
 * since=N those after number N, guest=NAME those of one guest, follow=1 goes on
 * with what happens.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/event_feed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/path.h"

void event_feed_done(struct event_feed *f)
{
	buf_done(&f->line);
	buf_done(&f->error);
}

int64_t event_feed_newest(struct rpc *r)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params = va_array();

	if (va_append(params, va_int(0)) || va_append(params, va_int(1)))
		va_value_free(take_ptr(params));
	if (rpc_try(r, "host.events", RPC_IDEMPOTENT, params, &v))
		return -1;
	return member_int(v, "newest", -1);
}

static int on_head(void *arg, unsigned status, int64_t length)
{
	((struct event_feed *)arg)->status = status;
	return 0;
}

static int take_line(struct event_feed *f, const char *line, size_t n)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char err[64];

	if (va_from_json(line, n, &v, err, sizeof(err)) ||
	    va_typeof(v) != VA_STRUCT)
		return -EBADMSG;
	f->last = member_int(v, "seq", f->last);
	return f->event(f->arg, v, line, n);
}

static int on_data(void *arg, const void *data, size_t n)
{
	struct event_feed *f = arg;
	const char *nl;
	int error;

	if (interrupt_seen())
		return -EINTR;
	if (f->status != 200) {
		size_t room = buf_room(&f->error);

		return buf_put(&f->error, data, n < room ? n : room);
	}
	error = buf_put(&f->line, data, n);
	while (!error && (nl = memchr(buf_data(&f->line), '\n',
				      buf_len(&f->line)))) {
		size_t len = (size_t)(nl - (const char *)buf_data(&f->line));

		if (len)
			error = take_line(f, (const char *)buf_data(&f->line), len);
		buf_consume(&f->line, len + 1);
		f->heard = true;
	}
	f->failed = error;
	return error;
}

int event_feed_run(struct event_feed *f, struct rpc *r, uint64_t deadline_ns)
{
	CLEANUP_FREE char *guest = f->guest ? path_encode(f->guest) : NULL;
	char target[1024];
	struct http_call call = {
		.method = "GET",
		.target = target,
		.head = on_head,
		.sink = on_data,
		.arg = f,
		.deadline_ns = deadline_ns,
		.cancel = interrupt_flag(),
	};
	int n = snprintf(target, sizeof(target), "/events?follow=%d",
			 f->follow);

	if (f->last >= 0)
		n += snprintf(target + n, sizeof(target) - (size_t)n,
			      "&since=%" PRId64, f->last);
	if (guest && (size_t)n + strlen(guest) + 8 < sizeof(target))
		snprintf(target + n, sizeof(target) - (size_t)n, "&guest=%s",
			 guest);
	buf_reset(&f->line);
	f->heard = false;
	f->failed = 0;
	n = http_client_perform(rpc_http(r), &call);
	f->status = call.status;
	if (n)
		rpc_set_error(r, "%s", *call.error ? call.error : strerror(-n));
	if (n == -ENOTCONN || (n && call.progress == HTTP_NOT_CONNECTED))
		return -ENOTCONN;
	return n;
}
