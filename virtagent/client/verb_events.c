/*
 * verb_events.c - events, event send
 *
 * When va-hostd is restarted while we follow, we ask again from the last number
 * seen, so nothing is missed and nothing comes twice.
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
#include "virtagent/client/event_feed.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"

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

/* "2026-01-02T03:04:05.678Z vm1 agent-up {...}" */
static int print_event(void *arg, const struct va_value *v, const char *line, size_t n)
{
	const struct client *cl = arg;
	CLEANUP_BUF struct buf text = BUF_INIT(EVENT_LINE_MAX + 1024);
	const struct va_value *data;
	int error;

	if (cl->json) {
		error = out_text(cl, line, n);
	} else {
		data = va_member(v, "data");
		error = buf_printf(&text, "%" PRId64 " %s %s %s ", member_int(v, "seq", -1),
				   member_text(v, "time"),
				   *member_text(v, "guest") ?
					   member_text(v, "guest") : "-",
				   member_text(v, "event"));
		if (!error && data && va_count(data))
			error = va_to_json(data, false, &text);
		if (!error)
			error = out_text(cl, buf_data(&text), buf_len(&text));
	}
	if (!error && (putchar('\n') == EOF || fflush(stdout)))
		error = -EIO;
	return error;
}

/* What ended it, as an exit code; -1 = ask again. */
static int events_judge(struct event_feed *s, struct rpc *r, int error)
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
		return s->follow ? VAC_OK : rpc_report(r, "events", VAC_TIMEOUT);
	if (s->follow && (s->heard || s->last >= 0 || !error))
		return -1;
	if (error)
		return rpc_report(r, "events", error == -ENOTCONN ?
						       VAC_NOT_CONNECTED :
						       VAC_ERROR);
	return VAC_OK;
}

static int run_events(struct client *cl, int argc, char **argv)
{
	const struct events_opts *o = cl->opts;
	struct event_feed s = { EVENT_FEED_INIT, .follow = o->follow,
				.event = print_event, .arg = cl };
	CLEANUP_RPC struct rpc *r = NULL;
	uint64_t deadline = client_deadline(cl, o->follow ? 0 : CLIENT_CALL_NS);
	int code = rpc_connect(cl, SIDE_HOST, NULL, &r);

	if (code)
		return code;
	if (argc)
		s.guest = argv[0];
	else if (cl->guest && !str_starts(cl->guest, "unix:"))
		s.guest = cl->guest;
	if (o->since_given)
		s.last = (int64_t)o->since;
	else if (o->follow)
		s.last = event_feed_newest(r);
	if (o->follow)
		interrupt_catch();
	do {
		code = events_judge(&s, r, event_feed_run(&s, r, deadline));
		if (code < 0)
			interrupt_sleep_until(clock_now() + EVENTS_PAUSE_NS);
	} while (code < 0);
	event_feed_done(&s);
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
	.usage = "[GUEST]",
	.help = "print what happened to the guests",
	.about = "Prints the events that va-hostd keeps, one a line: number, "
		 "time, guest, event, data.\nWith GUEST (or -G), those of one guest.  "
		 "With --follow and -t, ends with status 0 after\nthat time.",
	.rows = events_rows,
	.nrows = NROWS(events_rows),
	.opts_size = sizeof(struct events_opts),
	.max_args = 1,
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
