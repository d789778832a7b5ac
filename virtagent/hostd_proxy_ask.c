/*
 * hostd_proxy_ask.c - what a virtproxy is asked, and whether it answers and works
 *
 * While a question waits, time is counted in ticks (hostd_watch.c says why), and one
 * that leaves questions unanswered for too long, or that is busy and moves nothing, is
 * killed here; hostd_proxy.c starts it again.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/hostd_proxy_priv.h"

#define ASKED_MAX 3u /* no more questions to one that does not answer */

struct question {
	struct proxy *p;
	loop_fn fn;
	void *arg;
};

static void answered(struct proxy *p, const char *text)
{
	uint64_t now = clock_now();
	bool waited = p->watch.waited_ns > 0;

	if (!text) /* the connection ended */
		return;
	watch_answered(&p->watch, now);
	if (!p->watch.unanswered)
		loop_timer_stop(p->ticks);
	if (!p->watch.based)
		p->well_ns = now;
	if (waited)
		p->ops.waits(p->arg);
}

static void on_alive(void *arg, const char *text)
{
	CLEANUP_FREE struct question *q = arg;

	answered(q->p, text);
}

static void on_status(void *arg, const char *text)
{
	CLEANUP_FREE struct question *q = arg;
	struct proxy *p = q->p;

	answered(p, text);
	if (text)
		p->ops.status(p->arg, text);
	if (q->fn)
		q->fn(q->arg);
}

static int ask(struct proxy *p, const char *command, ctl_answer_fn then,
	       loop_fn fn, void *arg)
{
	struct question *q;
	int err;

	if (p->state != UP || !p->ctl || p->ending)
		return -ENOTCONN;
	q = malloc(sizeof(*q));
	if (!q)
		return -ENOMEM;
	*q = (struct question){ p, fn, arg };
	err = ctl_command(p->ctl, command, then, q);
	if (err < 0) {
		free(q);
		return err;
	}
	watch_asked(&p->watch, clock_now());
	if (!loop_timer_armed(p->ticks))
		loop_timer_in(p->ticks, watch_tick_every(p->limits));
	return 0;
}

static void kill_for(struct proxy *p, enum proxy_end end, const char *why)
{
	p->end = end;
	proxy_kill(p, why);
	proxy_went_down(p, why);
}

void proxy_on_tick(void *arg)
{
	struct proxy *p = arg;
	char why[128];

	if (p->ending) {
		proxy_kill(p, "it does not stop");
		proxy_went_down(p, "killed");
		return;
	}
	if (!watch_tick(&p->watch, p->limits, clock_now())) {
		loop_timer_in(p->ticks, watch_tick_every(p->limits));
		p->ops.waits(p->arg);
		/* Not even one of several that it may have lost. */
		if (p->watch.unanswered < ASKED_MAX)
			ask(p, "ping", on_alive, NULL, NULL);
		return;
	}
	snprintf(why, sizeof(why), "it did not answer on its control socket for %.1f s",
		 (double)p->watch.waited_ns / (double)NSEC_PER_SEC);
	kill_for(p, PROXY_HUNG, why);
}

int proxy_poll(struct proxy *p, loop_fn fn, void *arg)
{
	return ask(p, "status json", on_status, fn, arg);
}

int proxy_check(struct proxy *p)
{
	bool busy = p->state == UP &&
		    watch_look(&p->watch, p->limits, proxy_pid(p), clock_now());

	if (busy)
		return proxy_poll(p, NULL, NULL);
	if (!watch_alive(&p->watch))
		return ask(p, "ping", on_alive, NULL, NULL);
	p->well_ns = clock_now();
	return 0;
}

void proxy_worked(struct proxy *p, uint64_t work)
{
	char why[128];

	if (p->state != UP || !watch_work(&p->watch, p->limits, work))
		return;
	snprintf(why, sizeof(why), "it used %.1f s of CPU time within %.1f s and did nothing",
		 (double)(p->watch.cpu.ran_ns - p->watch.base_ran_ns) / (double)NSEC_PER_SEC,
		 (double)(p->watch.look_ns - p->watch.base_ns) / (double)NSEC_PER_SEC);
	kill_for(p, PROXY_SPUN, why);
}

uint64_t proxy_waited(const struct proxy *p)
{
	return p->watch.waited_ns;
}
