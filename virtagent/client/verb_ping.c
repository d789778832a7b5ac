/*
 * verb_ping.c - ping, wait: is the guest there?
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"

#define PING_WAIT_NS (10 * NSEC_PER_SEC)
#define PING_INTERVAL_NS NSEC_PER_SEC
#define PING_COUNT_MAX 100000000
#define WAIT_FIRST_NS (20 * NSEC_PER_MSEC)
#define WAIT_PAUSE_NS (250 * NSEC_PER_MSEC)
#define WAIT_PING_NS (5 * NSEC_PER_SEC)

struct ping_opts {
	bool host;
	bool count_given;
	uint64_t count; /* 0 = until interrupted */
	bool interval_given;
	uint64_t interval_ns;
};

struct ping_stats {
	uint64_t sent, answered;
	double min, max, sum, squares; /* ms */
};

DEFINE_FLAG(set_ping_host, ping_opts, host);

static int set_count(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;
	struct ping_opts *o = cl->opts;

	o->count_given = true;
	if (!str_to_u64(value, PING_COUNT_MAX, &o->count))
		return 0;
	snprintf(err, size, "%s is no number up to %d", value, PING_COUNT_MAX);
	return -EINVAL;
}

static int set_interval(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;
	struct ping_opts *o = cl->opts;

	o->interval_given = true;
	if (!str_to_duration(value, 86400 * NSEC_PER_SEC, &o->interval_ns))
		return 0;
	snprintf(err, size, "%s is no time up to a day", value);
	return -EINVAL;
}

static const struct option_row ping_rows[] = {
	{ 'c', "count", "N", "ping N times (default 1; 0 = until interrupted)",
	  set_count },
	{ 'i', "interval", "SECONDS", "between pings (default 1)",
	  set_interval },
	{ 0, "host", NULL, "ping the host's server, not a guest",
	  set_ping_host },
	CLIENT_ROWS,
};

static void count_answer(struct ping_stats *s, double ms)
{
	s->min = s->answered ? fmin(s->min, ms) : ms;
	s->max = fmax(s->max, ms);
	s->sum += ms;
	s->squares += ms * ms;
	s->answered++;
}

static void print_summary(const struct client *cl, const char *name,
			  const struct ping_stats *s)
{
	double n = (double)s->answered, mean = n ? s->sum / n : 0;
	double lost = s->sent ? 100.0 * (double)(s->sent - s->answered) /
					(double)s->sent : 0;
	double var = n ? s->squares / n - mean * mean : 0;

	if (cl->json) {
		CLEANUP_VALUE struct va_value *v = va_struct();

		va_set(v, "guest", va_string(name));
		va_set(v, "sent", va_int((int64_t)s->sent));
		va_set(v, "answered", va_int((int64_t)s->answered));
		va_set(v, "min_ms", va_double(s->min));
		va_set(v, "avg_ms", va_double(mean));
		va_set(v, "max_ms", va_double(s->max));
		out_json(cl, v);
		return;
	}
	if (s->sent < 2)
		return;
	printf("\n%llu pings, %llu answered, %.0f%% lost\n",
	       (unsigned long long)s->sent, (unsigned long long)s->answered,
	       lost);
	if (s->answered)
		printf("rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n",
		       s->min, mean, s->max, sqrt(var > 0 ? var : 0));
}

static int ping_once(const struct client *cl, struct rpc *r, const char *method,
		     struct ping_stats *s)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	uint64_t start;
	double ms;
	int code;

	rpc_set_deadline(r, client_deadline(cl, PING_WAIT_NS));
	start = clock_now();
	s->sent++;
	code = rpc_call(r, method, RPC_IDEMPOTENT, va_array(), &v);
	if (code)
		return code;
	ms = (double)(clock_now() - start) / (double)NSEC_PER_MSEC;
	count_answer(s, ms);
	if (!cl->json) {
		out_text(cl, rpc_target(r)->name, strlen(rpc_target(r)->name));
		printf(": seq=%llu time=%.3f ms\n",
		       (unsigned long long)s->sent, ms);
		fflush(stdout);
	}
	return VAC_OK;
}

static int run_ping(struct client *cl, int argc, char **argv)
{
	const struct ping_opts *o = cl->opts;
	uint64_t count = o->count_given ? o->count : 1;
	uint64_t interval = o->interval_given ? o->interval_ns :
						PING_INTERVAL_NS;
	const char *method = o->host ? "host.ping" : "guest.ping";
	CLEANUP_RPC struct rpc *r = NULL;
	struct ping_stats s = { 0 };
	int code = rpc_connect(cl, o->host ? SIDE_HOST : SIDE_GUEST,
			       argc ? argv[0] : NULL, &r);

	if (code)
		return code;
	if (count != 1)
		interrupt_catch();
	while ((!count || s.sent < count) && !interrupt_seen()) {
		uint64_t next = clock_now() + interval;

		code = ping_once(cl, r, method, &s);
		if (count && s.sent >= count)
			break;
		interrupt_sleep_until(next);
	}
	print_summary(cl, rpc_target(r)->name, &s);
	return s.answered ? VAC_OK : code;
}

const struct verb verb_ping = {
	.name = "ping",
	.usage = "[GUEST]",
	.help = "ask a guest for a sign of life",
	.about = "Calls guest.ping and prints the round trip's time.  The exit "
		 "status is 0 when at\nleast one ping was answered.",
	.rows = ping_rows,
	.nrows = NROWS(ping_rows),
	.opts_size = sizeof(struct ping_opts),
	.max_args = 1,
	.run = run_ping,
};

struct wait_opts {
	bool gone;
};

DEFINE_FLAG(set_gone, wait_opts, gone);

static const struct option_row wait_rows[] = {
	{ 0, "gone", NULL, "wait until it is no longer connected", set_gone },
	CLIENT_ROWS,
};

/* Is it connected and does its agent answer? */
static bool answers(struct rpc *r, const struct wait_opts *o, uint64_t deadline)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char why[256];

	if (target_check(rpc_target(r), why, sizeof(why), NULL))
		return false;
	if (o->gone && *rpc_target(r)->ctl)
		return true;
	rpc_set_deadline(r, deadline);
	return rpc_try(r, "guest.ping", RPC_IDEMPOTENT, va_array(), &v) == 0;
}

/* The target may come into being while we wait: its directory appears when
 * va-hostd starts.  Only a va-hostd that does not know the name is final. */
static int find_target(const struct client *cl, const char *name,
		       uint64_t deadline, struct rpc **ret)
{
	for (;;) {
		struct guest_list l;
		bool known = guest_list_get(cl, &l) == 0 && l.from_hostd;

		guest_list_done(&l);
		if (known || !target_on_host(cl) ||
		    str_starts(name, "unix:"))
			return rpc_connect(cl, SIDE_GUEST, name, ret);
		if (clock_now() >= deadline) {
			out_error(name, NULL, "timed out; va-hostd is not there");
			return VAC_TIMEOUT;
		}
		interrupt_sleep_until(clock_now() + WAIT_PAUSE_NS);
	}
}

static int run_wait(struct client *cl, int argc, char **argv)
{
	const struct wait_opts *o = cl->opts;
	uint64_t deadline = client_deadline(cl, 0), pause = WAIT_FIRST_NS;
	CLEANUP_RPC struct rpc *r = NULL;
	int code = find_target(cl, argv[0], deadline, &r);

	if (code)
		return code;
	for (;;) {
		uint64_t now = clock_now(), until = now + WAIT_PING_NS;

		if (answers(r, o, until < deadline ? until : deadline) !=
		    o->gone)
			return VAC_OK;
		now = clock_now();
		if (now >= deadline) {
			out_error(rpc_target(r)->name, NULL,
				  "timed out; it is still %s",
				  o->gone ? "connected" : "not connected");
			return VAC_TIMEOUT;
		}
		until = now + pause;
		interrupt_sleep_until(until < deadline ? until : deadline);
		pause = pause * 2 < WAIT_PAUSE_NS ? pause * 2 : WAIT_PAUSE_NS;
	}
}

const struct verb verb_wait = {
	.name = "wait",
	.usage = "GUEST",
	.help = "wait until a guest is connected and answers",
	.about = "Waits until the guest's agent answers a ping, for ever or as "
		 "long as --timeout says\n(exit status 124 then).",
	.rows = wait_rows,
	.nrows = NROWS(wait_rows),
	.opts_size = sizeof(struct wait_opts),
	.min_args = 1,
	.max_args = 1,
	.run = run_wait,
};
