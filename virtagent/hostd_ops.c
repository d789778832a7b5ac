/*
 * hostd_ops.c - what the host's methods ask of the daemon
 *
 * The methods run on threads of the HTTP server, the state is the loop's.  Facts
 * are had in three steps: a loop_call() asks the virtproxies for fresh counters,
 * the thread waits for them (REFRESH_NS at most: one that hangs shows what was
 * known before), a second loop_call() builds the answer.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "virtagent/hostd_discover.h"
#include "virtagent/hostd_guest.h"
#include "virtagent/hostd_keys.h"
#include "virtagent/hostd_ops.h"

#define LOOP_NS (2 * NSEC_PER_SEC)
#define REFRESH_NS (NSEC_PER_SEC / 2)

/* Shared by the waiting thread and the answers that are still to come. */
struct refresh {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned pending, refs;
};

struct facts_job {
	struct hostd *h;
	const char *only;
	bool details;
	struct refresh *refresh;
	struct va_value *list;
	int error;
};

static struct refresh *refresh_new(void)
{
	struct refresh *r = calloc(1, sizeof(*r));
	pthread_condattr_t attr;

	if (!r)
		return NULL;
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->cond, &attr);
	pthread_condattr_destroy(&attr);
	r->refs = 1;
	return r;
}

static void refresh_unref(struct refresh *r)
{
	bool last;

	pthread_mutex_lock(&r->lock);
	last = --r->refs == 0;
	pthread_mutex_unlock(&r->lock);
	if (!last)
		return;
	pthread_cond_destroy(&r->cond);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* Loop's thread: one virtproxy answered, or is gone. */
static void on_fresh(void *arg)
{
	struct refresh *r = arg;

	pthread_mutex_lock(&r->lock);
	if (--r->pending == 0)
		pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->lock);
	refresh_unref(r);
}

static void refresh_one(struct refresh *r, struct guest *g)
{
	pthread_mutex_lock(&r->lock);
	r->pending++;
	r->refs++;
	pthread_mutex_unlock(&r->lock);
	if (guest_refresh(g, on_fresh, r) < 0)
		on_fresh(r);
}

static void run_refresh(void *arg)
{
	struct facts_job *j = arg;

	for (struct guest *g = j->h->guests; g; g = g->next) {
		if (!j->only || strcmp(g->spec.name, j->only) == 0)
			refresh_one(j->refresh, g);
	}
}

static void refresh_wait(struct refresh *r)
{
	uint64_t until = clock_now() +
			 (uint64_t)(clock_scale() * (double)REFRESH_NS);
	const struct timespec ts = {
		.tv_sec = (time_t)(until / NSEC_PER_SEC),
		.tv_nsec = (long)(until % NSEC_PER_SEC),
	};

	pthread_mutex_lock(&r->lock);
	while (r->pending &&
	       pthread_cond_timedwait(&r->cond, &r->lock, &ts) == 0)
		;
	pthread_mutex_unlock(&r->lock);
}

static void run_facts(void *arg)
{
	struct facts_job *j = arg;

	if (j->only && !guest_find(j->h, j->only)) {
		j->error = -ENOENT;
		return;
	}
	for (struct guest *g = j->h->guests; g && j->error == 0; g = g->next) {
		if (!g->stopping &&
		    (!j->only || strcmp(g->spec.name, j->only) == 0))
			j->error = va_append(j->list,
					     guest_facts(g, j->details));
	}
}

static int ops_guests(void *arg, const char *only, bool details,
		      struct va_value **ret)
{
	struct facts_job j = { .h = arg, .only = only, .details = details };
	int err;

	j.refresh = refresh_new();
	if (!j.refresh)
		return -ENOMEM;
	err = loop_call(j.h->loop, run_refresh, &j, clock_now() + LOOP_NS);
	if (err == 0)
		refresh_wait(j.refresh);
	refresh_unref(j.refresh);
	if (err < 0)
		return err;
	j.list = va_array();
	if (!j.list)
		return -ENOMEM;
	err = loop_call(j.h->loop, run_facts, &j, clock_now() + LOOP_NS);
	if (err == 0)
		err = j.error;
	if (err < 0) {
		va_value_free(j.list);
		return err;
	}
	*ret = j.list;
	return 0;
}

struct monitors_job {
	const struct hostd *h;
	struct va_value *list;
};

static void run_monitors(void *arg)
{
	struct monitors_job *j = arg;

	j->list = discover_monitors(j->h->discover);
}

static int ops_monitors(void *arg, struct va_value **ret)
{
	struct monitors_job j = { .h = arg };
	int err = loop_call(j.h->loop, run_monitors, &j, clock_now() + LOOP_NS);

	if (err == 0 && !j.list)
		err = -ENOMEM;
	if (err == 0)
		*ret = j.list;
	return err;
}

struct known_job {
	struct hostd *h;
	const char *guest;
	bool found;
};

static void run_known(void *arg)
{
	struct known_job *j = arg;

	j->found = guest_find(j->h, j->guest) != NULL;
}

static int ops_known(void *arg, const char *guest)
{
	struct known_job j = { .h = arg, .guest = guest };
	int err = loop_call(j.h->loop, run_known, &j, clock_now() + LOOP_NS);

	return err < 0 ? err : j.found ? 0 : -ENOENT;
}

static void run_refresh_keys(void *arg)
{
	struct known_job *j = arg;
	struct guest *g = guest_find(j->h, j->guest);

	if (g)
		guest_keys_refresh(g->keys);
}

static void ops_refresh_keys(void *arg, const char *guest)
{
	struct known_job j = { .h = arg, .guest = guest };

	/* A busy daemon is asked again by the guest's next session. */
	loop_call(j.h->loop, run_refresh_keys, &j, clock_now() + LOOP_NS);
}

struct seen_job {
	struct hostd *h;
	char *guest, *agent;
};

static void run_agent_seen(void *arg)
{
	struct seen_job *j = arg;
	struct guest *g = guest_find(j->h, j->guest);

	if (g)
		guest_agent_seen(g, j->agent);
	free(j->guest);
	free(j->agent);
	free(j);
}

static void ops_agent_seen(void *arg, const char *guest, const char *agent)
{
	struct seen_job *j = malloc(sizeof(*j));

	if (!j)
		return;
	*j = (struct seen_job){ arg, strdup(guest), strdup(agent) };
	if (j->guest && j->agent && loop_post(j->h->loop, run_agent_seen, j) == 0)
		return;
	free(j->guest);
	free(j->agent);
	free(j);
}

const struct host_ops hostd_ops = {
	.agent_seen = ops_agent_seen,
	.guests = ops_guests,
	.known = ops_known,
	.monitors = ops_monitors,
	.refresh_keys = ops_refresh_keys,
};
