/*
 * verb_events.c - events, event send
 *
 * va-hostd keeps events, numbered; GET /events gives them as JSON lines:
 * since=N those after number N, guest=NAME those of one guest, follow=1 goes on
 * with what happens.  When va-hostd is restarted while we follow, we ask again
 * from the last number seen, so nothing is missed and nothing comes twice.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/args.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/path.h"
#include "virtagent/client/rpc.h"

#define EVENT_LINE_MAX (2u << 20) /* an event's data may be 1 MiB */
#define EVENTS_PAUSE_NS (NSEC_PER_SEC / 2)

struct events_opts {
	bool follow, since_given;
	uint64_t since;
};

DEFINE_FLAG(set_follow, events_opts, follow);

static int set_since(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;
	struct events_opts *o = cl->opts;

	o->since_given = true;
	if (!str_to_u64(value, INT64_MAX, &o->since))
		return 0;
	snprintf(err, size, "%s is no event's number", value);
	return -EINVAL;
}

static const struct option_row events_rows[] = {
	{ 'f', "follow", NULL, "go on with what happens from now on",
	  set_follow },
	{ 0, "since", "N", "only events behind number N", set_since },
	CLIENT_ROWS,
};

struct events_state {
	const struct client *cl;
	const char *guest; /* whose events; NULL = all */
	struct buf line;
	struct buf error;
	unsigned status;
	int64_t last; /* number of the last event printed; -1 = none */
	bool heard;   /* in this try */
	int failed;
};

static int events_head(void *arg, unsigned status, int64_t length)
{
	((struct events_state *)arg)->status = status;
	return 0;
}

/* "2026-01-02T03:04:05.678Z vm1 agent-up {...}" */
static int print_event(struct events_state *s, const char *line, size_t n)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_BUF struct buf text = BUF_INIT(EVENT_LINE_MAX + 1024);
	const struct va_value *data;
	char err[64];
	int error;

	if (va_from_json(line, n, &v, err, sizeof(err)) ||
	    va_typeof(v) != VA_STRUCT)
		return -EBADMSG;
	s->last = member_int(v, "seq", s->last);
	if (s->cl->json) {
		error = out_text(s->cl, line, n);
	} else {
		data = va_member(v, "data");
		error = buf_printf(&text, "%" PRId64 " %s %s %s ", s->last,
				   member_text(v, "time"),
				   *member_text(v, "guest") ?
					   member_text(v, "guest") : "-",
				   member_text(v, "event"));
		if (!error && data && va_count(data))
			error = va_to_json(data, false, &text);
		if (!error)
			error = out_text(s->cl, buf_data(&text), buf_len(&text));
	}
	if (!error && (putchar('\n') == EOF || fflush(stdout)))
		error = -EIO;
	return error;
}

static int events_sink(void *arg, const void *data, size_t n)
{
	struct events_state *s = arg;
	const char *nl;
	int error;

	if (interrupt_seen())
		return -EINTR;
	if (s->status != 200) {
		size_t room = buf_room(&s->error);

		return buf_put(&s->error, data, n < room ? n : room);
	}
	error = buf_put(&s->line, data, n);
	while (!error && (nl = memchr(buf_data(&s->line), '\n',
				      buf_len(&s->line)))) {
		size_t len = (size_t)(nl - (const char *)buf_data(&s->line));

		if (len)
			error = print_event(s, (const char *)buf_data(&s->line),
					    len);
		buf_consume(&s->line, len + 1);
		s->heard = true;
	}
	s->failed = error;
	return error;
}

static int events_once(struct events_state *s, struct rpc *r,
		       const struct events_opts *o, uint64_t deadline)
{
	CLEANUP_FREE char *guest = s->guest ? path_encode(s->guest) : NULL;
	char target[1024];
	struct http_call call = {
		.method = "GET",
		.target = target,
		.head = events_head,
		.sink = events_sink,
		.arg = s,
		.deadline_ns = deadline,
		.cancel = interrupt_flag(),
	};
	int n = snprintf(target, sizeof(target), "/events?follow=%d",
			 o->follow);

	if (s->last >= 0)
		n += snprintf(target + n, sizeof(target) - (size_t)n,
			      "&since=%" PRId64, s->last);
	if (guest && (size_t)n + strlen(guest) + 8 < sizeof(target))
		snprintf(target + n, sizeof(target) - (size_t)n, "&guest=%s",
			 guest);
	buf_reset(&s->line);
	s->heard = false;
	n = http_client_perform(rpc_http(r), &call);
	s->status = call.status;
	if (n)
		rpc_set_error(r, "%s", *call.error ? call.error : strerror(-n));
	if (n == -ENOTCONN || (n && call.progress == HTTP_NOT_CONNECTED))
		return -ENOTCONN;
	return n;
}

/* What ended it, as an exit code; -1 = ask again. */
static int events_judge(struct events_state *s, struct rpc *r,
			const struct events_opts *o, int error)
{
	const char *text;

	if (interrupt_seen())
		return interrupt_status();
	if (s->failed) {
		out_error("host", "events", s->failed == -EBADMSG ?
				  "the host sent a line that is no event" :
				  "cannot write the output");
		return VAC_ERROR;
	}
	if (!error && s->status != 200) {
		text = buf_cstr(&s->error);
		out_error("host", "events", "HTTP status %u %.*s", s->status,
			  text ? (int)strcspn(text, "\r\n") : 0,
			  text ? text : "");
		return VAC_ERROR;
	}
	if (error == -ETIMEDOUT)
		return o->follow ? VAC_OK : rpc_report(r, "events", VAC_TIMEOUT);
	if (o->follow && (s->heard || s->last >= 0 || !error))
		return -1;
	if (error)
		return rpc_report(r, "events", error == -ENOTCONN ?
						       VAC_NOT_CONNECTED :
						       VAC_ERROR);
	return VAC_OK;
}

/* Where "from now on" begins, so that a restart of va-hostd before the first
 * event loses nothing; -1 when the host does not tell. */
static int64_t newest(struct rpc *r)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params = va_array();

	if (va_append(params, va_int(0)) || va_append(params, va_int(1)))
		va_value_free(take_ptr(params));
	if (rpc_try(r, "host.events", RPC_IDEMPOTENT, params, &v))
		return -1;
	return member_int(v, "newest", -1);
}

static int run_events(struct client *cl, int argc, char **argv)
{
	const struct events_opts *o = cl->opts;
	struct events_state s = { .cl = cl, .line = BUF_INIT(EVENT_LINE_MAX),
				  .error = BUF_INIT(512), .last = -1 };
	CLEANUP_RPC struct rpc *r = NULL;
	uint64_t deadline = client_deadline(cl, o->follow ? 0 : CLIENT_CALL_NS);
	int code = rpc_connect(cl, SIDE_HOST, NULL, &r);

	if (code)
		return code;
	if (cl->guest && !str_starts(cl->guest, "unix:"))
		s.guest = cl->guest;
	if (o->since_given)
		s.last = (int64_t)o->since;
	else if (o->follow)
		s.last = newest(r);
	if (o->follow)
		interrupt_catch();
	do {
		code = events_judge(&s, r, o, events_once(&s, r, o, deadline));
		if (code < 0)
			interrupt_sleep_until(clock_now() + EVENTS_PAUSE_NS);
	} while (code < 0);
	buf_done(&s.line);
	buf_done(&s.error);
	return code;
}

static const struct option_row send_rows[] = { CLIENT_ROWS };

static int run_send(struct client *cl, int argc, char **argv)
{
	CLEANUP_RPC struct rpc *r = NULL;
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params = rpc_params(argv[0], NULL), *data = NULL;
	char err[256];
	bool agent;
	int code;

	if (argc > 1 && va_from_json(argv[1], strlen(argv[1]), &data, err,
				     sizeof(err))) {
		va_value_free(params);
		out_error(NULL, "event send", "%s is no valid JSON: %s", argv[1],
			  err);
		return VAC_USAGE;
	}
	if (argc > 1 && va_append(params, data))
		va_value_free(take_ptr(params));
	/* In a guest its agent takes the event, and keeps it while the host is
	 * away. */
	agent = !cl->guest && !target_on_host(cl);
	code = rpc_connect(cl, agent ? SIDE_GUEST : SIDE_HOST, NULL, &r);
	if (code) {
		va_value_free(params);
		return code;
	}
	return rpc_call(r, agent ? "guest.event.send" : "host.event.send", 0, params, &v);
}

const struct verb verb_events = {
	.name = "events",
	.help = "print what happened to the guests",
	.about = "Prints the events that va-hostd keeps, one a line: number, "
		 "time, guest, event, data.\n-G NAME prints those of one guest.  "
		 "With --follow and -t, ends with status 0 after\nthat time.",
	.rows = events_rows,
	.nrows = NROWS(events_rows),
	.opts_size = sizeof(struct events_opts),
	.run = run_events,
};

const struct verb verb_event_send = {
	.name = "event send",
	.usage = "NAME [JSON]",
	.help = "in a guest: tell the host that something happened",
	.epilog = "Example: va-client event send backup-done '{\"bytes\": 12345}'",
	.rows = send_rows,
	.nrows = NROWS(send_rows),
	.min_args = 1,
	.max_args = 2,
	.run = run_send,
};
