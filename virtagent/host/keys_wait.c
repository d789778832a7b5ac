/*
 * keys_wait.c - who waits for a change of keys, and is told
 *
 * A waiting thread is woken by any change of any guest's keys and looks for
 * itself; they are few (watches), and changes are rare.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/str.h"
#include "virtagent/host/keys_priv.h"

/* Under the lock; NULL on ENOMEM. */
static struct keys_guest *find_guest(struct keys *k, const char *guest)
{
	struct keys_guest *g = named_find(k->guests, guest);

	if (g)
		return g;
	g = named_add(&k->guests, sizeof(*g), guest);
	if (g)
		g->revision = g->acked = -1;
	return g;
}

struct note {
	struct keys *k;
	char guest[];
};

static void run_note(void *arg)
{
	CLEANUP_FREE struct note *n = arg;

	if (n->k->fn)
		n->k->fn(n->k->arg, n->guest);
}

static void tell_loop(struct keys *k, const char *guest)
{
	struct note *n = malloc(sizeof(*n) + strlen(guest) + 1);

	if (!n)
		return;
	n->k = k;
	strcpy(n->guest, guest);
	if (loop_post(k->loop, run_note, n) < 0)
		free(n);
}

void keys_note_revision(struct keys *k, const char *guest, uint64_t revision)
{
	struct keys_guest *g;
	bool changed;

	pthread_mutex_lock(&k->lock);
	g = find_guest(k, guest);
	changed = g && g->revision != (int64_t)revision;
	if (g)
		g->revision = (int64_t)revision;
	if (changed)
		notify_all(&k->changed);
	pthread_mutex_unlock(&k->lock);
	if (changed)
		tell_loop(k, guest);
}

void keys_set_acked(struct keys *k, const char *guest, int64_t revision)
{
	struct keys_guest *g;

	pthread_mutex_lock(&k->lock);
	g = find_guest(k, guest);
	if (g)
		g->acked = revision;
	notify_all(&k->changed);
	pthread_mutex_unlock(&k->lock);
}

int64_t keys_revision(struct keys *k, const char *guest)
{
	struct keys_guest *g;
	int64_t revision;

	pthread_mutex_lock(&k->lock);
	g = find_guest(k, guest);
	revision = g ? g->revision : -1;
	pthread_mutex_unlock(&k->lock);
	return revision;
}

int64_t keys_acked(struct keys *k, const char *guest)
{
	struct keys_guest *g;
	int64_t acked;

	pthread_mutex_lock(&k->lock);
	g = find_guest(k, guest);
	acked = g ? g->acked : -1;
	pthread_mutex_unlock(&k->lock);
	return acked;
}

static bool reached(struct keys *k, const char *guest, uint64_t since,
		    bool acked)
{
	const struct keys_guest *g = find_guest(k, guest);

	if (!g)
		return false;
	return acked ? g->acked >= (int64_t)since :
		       g->revision > (int64_t)since;
}

int keys_wait(struct keys *k, const char *guest, uint64_t since, bool acked,
	      int cancel_fd, uint64_t deadline_ns)
{
	bool there;
	int err = 0;

	pthread_mutex_lock(&k->lock);
	while (!(there = reached(k, guest, since, acked)) && err == 0)
		err = notify_wait(&k->changed, &k->lock, cancel_fd,
				  deadline_ns);
	pthread_mutex_unlock(&k->lock);
	return there ? 0 : err;
}

void keys_set_here(struct keys *k, const char *guest, bool here)
{
	struct keys_guest *g;

	pthread_mutex_lock(&k->lock);
	g = find_guest(k, guest);
	if (g)
		g->here = here;
	notify_all(&k->changed);
	pthread_mutex_unlock(&k->lock);
}

void keys_note_vm(struct keys *k, const char *guest, const char *uuid)
{
	struct keys_guest *g;

	pthread_mutex_lock(&k->lock);
	g = find_guest(k, guest);
	if (g)
		snprintf(g->vm, sizeof(g->vm), "%s", uuid);
	pthread_mutex_unlock(&k->lock);
}

void keys_vm(struct keys *k, const char *guest, char ret[40])
{
	const struct keys_guest *g;

	pthread_mutex_lock(&k->lock);
	g = find_guest(k, guest);
	snprintf(ret, sizeof(g->vm), "%s", g ? g->vm : "");
	pthread_mutex_unlock(&k->lock);
}

/* --- a group ---------------------------------------------------------------- */

/* What one guest has to have. */
struct target {
	const struct keys_guest *g; /* lives as long as the keys */
	int64_t revision;
};

/* Under the lock; malloc'ed. */
static struct target *targets(const struct keys *k, const char *pattern,
			      size_t *n)
{
	struct target *list;
	size_t all = 0;

	for (const struct named *one = k->guests; one; one = one->next)
		all++;
	list = calloc(all + 1, sizeof(*list));
	*n = 0;
	for (const struct named *one = k->guests; one && list; one = one->next) {
		const struct keys_guest *g = (const struct keys_guest *)one;

		if (g->here && str_glob(pattern, one->name))
			list[(*n)++] = (struct target){ g, g->revision };
	}
	return list;
}

/* Takes those out that have it; those that are left. */
static size_t drop_reached(struct target *list, size_t n)
{
	size_t left = 0;

	for (size_t i = 0; i < n; i++) {
		if (list[i].g->here && list[i].g->acked < list[i].revision)
			list[left++] = list[i];
	}
	return left;
}

int keys_wait_group(struct keys *k, const char *pattern, int cancel_fd,
		    uint64_t deadline_ns, size_t *missing, char *name,
		    size_t size)
{
	CLEANUP_FREE struct target *list = NULL;
	size_t n;
	int err = 0;

	pthread_mutex_lock(&k->lock);
	list = targets(k, pattern, &n);
	if (!list)
		err = -ENOMEM;
	while (err == 0 && (n = drop_reached(list, n)) > 0)
		err = notify_wait(&k->changed, &k->lock, cancel_fd,
				  deadline_ns);
	if (err < 0 && list)
		n = drop_reached(list, n);
	*missing = n;
	snprintf(name, size, "%s", list && n ? list[0].g->named.name : "");
	pthread_mutex_unlock(&k->lock);
	return list && n == 0 ? 0 : err;
}

struct keys *keys_new(struct loop *loop, struct store *store)
{
	struct keys *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->loop = loop;
	k->store = store;
	pthread_mutex_init(&k->lock, NULL);
	return k;
}

static void nothing(void *arg)
{
}

void keys_free(struct keys *k)
{
	if (!k)
		return;
	/* What was posted before is then done with it. */
	loop_call(store_loop(k->store), nothing, NULL, CLOCK_NEVER);
	named_free(&k->guests);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

void keys_on_change(struct keys *k, void (*fn)(void *arg, const char *guest),
		    void *arg)
{
	k->fn = fn;
	k->arg = arg;
}
