/*
 * hostd_places.c - see hostd_places.h
 *
 * A guest that once called keeps its few bytes: there are at most as many as are
 * configured.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/hostd_places.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/named.h"
#include "virtagent/limits.h"

struct guest_places {
	struct named named;
	struct place_counts kinds[PLACE_KINDS];
};

struct places {
	pthread_mutex_t lock;
	unsigned max[PLACE_KINDS];
	struct named *guests;
};

static const unsigned defaults[PLACE_KINDS] = {
	[PLACE_CALL] = VA_GUEST_CALLS_MAX,
	[PLACE_STREAM] = VA_STREAMS_MAX,
};

struct places *places_new(void)
{
	struct places *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	memcpy(p->max, defaults, sizeof(p->max));
	return p;
}

void places_free(struct places *p)
{
	if (!p)
		return;
	named_free(&p->guests);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void places_set_max(struct places *p, enum place_kind kind, unsigned max)
{
	pthread_mutex_lock(&p->lock);
	p->max[kind] = max ? max : defaults[kind];
	pthread_mutex_unlock(&p->lock);
}

unsigned places_max(struct places *p, enum place_kind kind)
{
	unsigned max;

	pthread_mutex_lock(&p->lock);
	max = p->max[kind];
	pthread_mutex_unlock(&p->lock);
	return max;
}

bool places_take(struct places *p, const char *guest, enum place_kind kind)
{
	struct guest_places *g;
	bool ok;

	if (!guest)
		return true;
	pthread_mutex_lock(&p->lock);
	g = named_find(p->guests, guest);
	if (!g)
		g = named_add(&p->guests, sizeof(*g), guest);
	ok = g && g->kinds[kind].now < p->max[kind];
	if (ok) {
		g->kinds[kind].now++;
		g->kinds[kind].taken++;
	} else if (g) {
		g->kinds[kind].refused++;
	}
	pthread_mutex_unlock(&p->lock);
	return ok;
}

void places_give(struct places *p, const char *guest, enum place_kind kind)
{
	struct guest_places *g;

	if (!guest)
		return;
	pthread_mutex_lock(&p->lock);
	g = named_find(p->guests, guest);
	g->kinds[kind].now--;
	pthread_mutex_unlock(&p->lock);
}

struct place_counts places_counts(struct places *p, const char *guest,
				  enum place_kind kind)
{
	struct place_counts counts = { 0 };
	const struct guest_places *g;

	pthread_mutex_lock(&p->lock);
	g = named_find(p->guests, guest);
	if (g)
		counts = g->kinds[kind];
	pthread_mutex_unlock(&p->lock);
	return counts;
}
