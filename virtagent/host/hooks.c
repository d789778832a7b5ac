/*
 * hooks.c - programs that are run for each event
 *
 * Hooks are one more consumer of the events, with a position for each guest that
 * has events to be handled: its lane.  The whole stream is read to learn which
 * guests have news, and no event is kept from that; a lane then takes its guest's
 * events from the store one at a time, so the hooks see them in the order they
 * happened.  HOOKS_AT_ONCE lanes run at a time and take turns event by event: a
 * slow hook delays its own guest's events and takes one of those places.  It
 * loses nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "virtagent/host/hook_run.h"
#include "virtagent/host/hooks.h"

#define SCAN_BATCH 100u

struct lane {
	struct lane *next, *next_ready;
	struct hooks *k;
	char *guest;
	uint64_t since; /* handled up to here */
	uint64_t last;	/* newest event seen */
	struct fetch *fetch; /* under way, or NULL */
	struct hook_run *run; /* or NULL */
};

struct hooks {
	struct loop *loop;
	struct children *children;
	struct events *events;
	struct events_watch *watch;
	char *dir;
	uint64_t timeout_ns;
	uint64_t since;	     /* looked through up to here */
	struct fetch *fetch; /* of that, or NULL */
	struct lane *lanes;
	struct lane *ready, **ready_end; /* wait for a place */
	unsigned running;
	struct log_limit limit;
};

/* Outlives hooks and lanes that are freed before the answer. */
struct fetch {
	struct hooks *k;   /* of a look at all, or */
	struct lane *lane; /* of the lane's next event */
};

static void dispatch(struct hooks *k);

/* --- a guest's events ------------------------------------------------------- */

static void lane_ready(struct lane *l)
{
	l->next_ready = NULL;
	*l->k->ready_end = l;
	l->k->ready_end = &l->next_ready;
}

static struct lane *lane_of(struct hooks *k, const char *guest, uint64_t seq)
{
	struct lane *l;

	for (l = k->lanes; l; l = l->next)
		if (strcmp(l->guest, guest) == 0)
			return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->guest = strdup(guest);
	if (!l->guest) {
		free(l);
		return NULL;
	}
	l->k = k;
	l->since = seq - 1;
	l->next = k->lanes;
	k->lanes = l;
	lane_ready(l);
	return l;
}

static void lane_free(struct lane *l)
{
	if (l->fetch)
		l->fetch->lane = NULL;
	hook_run_free(l->run);
	free(l->guest);
	free(l);
}

/* It gives its place to the next one. */
static void lane_rest(struct lane *l, bool more)
{
	struct hooks *k = l->k;

	k->running--;
	if (more) {
		lane_ready(l);
	} else {
		struct lane **p = &k->lanes;

		while (*p != l)
			p = &(*p)->next;
		*p = l->next;
		lane_free(l);
	}
	dispatch(k);
}

static void on_done(void *arg)
{
	struct lane *l = arg;

	hook_run_free(take_ptr(l->run));
	lane_rest(l, l->since < l->last);
}

static void on_event(void *arg, const struct event_batch *batch)
{
	CLEANUP_FREE struct fetch *fetch = arg;
	struct lane *l = fetch->lane;
	struct va_value *event = NULL;
	struct hook_run_config cfg;
	char why[128];

	if (!l)
		return;
	l->fetch = NULL;
	if (!batch->count) {
		/* Gone by the retention, or the store fails. */
		lane_rest(l, false);
		return;
	}
	l->since = batch->last;
	if (va_from_json((const char *)buf_data(&batch->lines),
			 buf_len(&batch->lines), &event, why, sizeof(why)) < 0) {
		log_warning("event %llu: %s", (unsigned long long)batch->last,
			    why);
		lane_rest(l, l->since < l->last);
		return;
	}
	cfg = (struct hook_run_config){ l->k->loop, l->k->children, l->k->dir,
					l->k->timeout_ns, &l->k->limit };
	l->run = hook_run_new(&cfg, event, on_done, l);
	if (!l->run)
		lane_rest(l, l->since < l->last);
}

static void lane_begin(struct lane *l)
{
	struct hooks *k = l->k;

	k->running++;
	l->fetch = calloc(1, sizeof(*l->fetch));
	if (l->fetch) {
		l->fetch->lane = l;
		if (events_fetch(k->events, l->since, l->guest, 1, on_event,
				 l->fetch) == 0)
			return;
		free(take_ptr(l->fetch));
	}
	log_warning("hooks: events of guest %s are left out: out of memory", l->guest);
	lane_rest(l, false);
}

static void dispatch(struct hooks *k)
{
	while (k->ready && k->running < HOOKS_AT_ONCE) {
		struct lane *l = k->ready;

		k->ready = l->next_ready;
		if (!k->ready)
			k->ready_end = &k->ready;
		lane_begin(l);
	}
}

/* --- who has news ------------------------------------------------------------- */

static void scan(struct hooks *k);

static void note_event(struct hooks *k, const char *line, size_t n)
{
	CLEANUP_VALUE struct va_value *event = NULL;
	const char *guest = "";
	struct lane *l;
	int64_t seq;
	char why[128];

	if (va_from_json(line, n, &event, why, sizeof(why)) < 0 ||
	    va_get_int(va_member(event, "seq"), &seq) < 0 || seq < 1)
		return;
	va_get_string(va_member(event, "guest"), &guest);
	l = lane_of(k, guest, (uint64_t)seq);
	if (l)
		l->last = (uint64_t)seq;
}

static void on_batch(void *arg, const struct event_batch *batch)
{
	CLEANUP_FREE struct fetch *fetch = arg;
	struct hooks *k = fetch->k;
	const char *p = (const char *)buf_data(&batch->lines);
	const char *end = p + buf_len(&batch->lines), *nl;

	if (!k)
		return;
	k->fetch = NULL;
	for (; p < end && (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1)
		note_event(k, p, (size_t)(nl - p));
	if (batch->count) {
		k->since = batch->last;
		scan(k);
	}
	dispatch(k);
}

static void scan(struct hooks *k)
{
	if (k->fetch || events_last(k->events) <= k->since)
		return;
	/* Nobody is there to be told. */
	if (access(k->dir, F_OK) < 0) {
		k->since = events_last(k->events);
		return;
	}
	k->fetch = calloc(1, sizeof(*k->fetch));
	if (!k->fetch)
		return;
	k->fetch->k = k;
	if (events_fetch(k->events, k->since, NULL, SCAN_BATCH, on_batch,
			 k->fetch) < 0)
		free(take_ptr(k->fetch));
}

static void on_events(void *arg)
{
	scan(arg);
}

/* --- the whole ---------------------------------------------------------- */

void hooks_set(struct hooks *k, const char *dir, uint64_t timeout_ns)
{
	char *copy = strdup(dir);

	if (!copy)
		return;
	free(k->dir);
	k->dir = copy;
	k->timeout_ns = timeout_ns;
}

struct hooks *hooks_new(struct loop *loop, struct children *children,
			struct events *events, const char *dir,
			uint64_t timeout_ns)
{
	struct hooks *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->loop = loop;
	k->children = children;
	k->events = events;
	k->ready_end = &k->ready;
	k->limit = (struct log_limit)LOG_LIMIT_INIT;
	k->since = events_last(events);
	hooks_set(k, dir, timeout_ns);
	k->watch = events_watch_new(events, on_events, k);
	if (k->dir && k->watch)
		return k;
	hooks_free(k);
	errno = ENOMEM;
	return NULL;
}

void hooks_free(struct hooks *k)
{
	if (!k)
		return;
	if (k->fetch)
		k->fetch->k = NULL;
	while (k->lanes) {
		struct lane *l = k->lanes;

		k->lanes = l->next;
		lane_free(l);
	}
	events_watch_free(k->watch);
	free(k->dir);
	free(k);
}
