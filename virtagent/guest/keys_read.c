/*
 * keys_read.c - reading the guest's keys, and waiting for a change of them
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/str.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/keys_priv.h"

/* A batch of changes ends behind this many bytes of values; one more value must
 * fit a document of 4 MiB as base64. */
#define BATCH_BYTES (1u << 20)

static struct va_value *facts(const struct key *e, bool with_value)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	int r = 0;

	guest_set(v, "name", va_string(e->name), &r);
	guest_set(v, "revision", va_int(e->revision), &r);
	if (!e->value) {
		guest_set(v, "removed", va_bool(true), &r);
		return r < 0 ? NULL : take_ptr(v);
	}
	guest_set(v, "size", va_int((int64_t)e->size), &r);
	guest_set(v, "sent", va_bool(!e->dirty), &r);
	if (with_value)
		guest_set(v, "value", va_bytes(e->value, e->size), &r);
	if (r == 0)
		r = key_flags_put(v, e->flags);
	return r < 0 ? NULL : take_ptr(v);
}

int keyring_get(struct keyring *k, const char *name, bool root,
		struct va_value **ret)
{
	const struct key *e;
	int err = -ENOENT;

	pthread_mutex_lock(&k->lock);
	e = keyring_find(k, name);
	if (e && (root || !(e->flags & KEY_SECRET))) {
		*ret = facts(e, true);
		err = *ret ? 0 : -ENOMEM;
	}
	pthread_mutex_unlock(&k->lock);
	return err;
}

/* Under the lock. */
static int list(struct keyring *k, const char *pattern, const char *after,
		struct va_value *ret)
{
	struct va_value *keys = va_array();
	const char *next = "", *last = "";
	unsigned count = 0;
	int r = keys ? 0 : -ENOMEM;

	for (const struct key *e = k->keys; e && r == 0; e = e->next) {
		if (!e->value || (e->flags & KEY_SECRET) ||
		    strcmp(e->name, after) <= 0 ||
		    !str_glob(pattern, e->name))
			continue;
		if (count++ == KEYS_LIST_MAX) {
			next = last;
			break;
		}
		last = e->name;
		r = va_append(keys, facts(e, false));
	}
	guest_set(ret, "revision", va_int(k->revision), &r);
	guest_set(ret, "store", va_string(k->store), &r);
	guest_set(ret, "next", va_string(next), &r);
	guest_set(ret, "keys", keys, &r);
	return r;
}

int keyring_list(struct keyring *k, const char *pattern, const char *after,
		 struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	int err;

	pthread_mutex_lock(&k->lock);
	err = list(k, pattern, after, v);
	pthread_mutex_unlock(&k->lock);
	if (err == 0)
		*ret = take_ptr(v);
	return err;
}

/* --- changes ----------------------------------------------------------------- */

/* The change that comes next behind a number. */
static const struct key *next_change(const struct keyring *k, uint64_t after)
{
	const struct key *found = NULL;

	for (const struct key *e = k->keys; e; e = e->next) {
		if (e->seq > after && (!found || e->seq < found->seq))
			found = e;
	}
	return found;
}

/* Under the lock; *upto is how far they go, *n how many there are. */
static int changes(struct keyring *k, const char *pattern, uint64_t since,
		   bool root, struct va_value *ret, uint64_t *upto, size_t *n)
{
	bool full = since < k->floor || since > k->seq, more = false;
	struct va_value *keys = va_array();
	const struct key *e;
	size_t bytes = 0;
	int r = keys ? 0 : -ENOMEM;

	*upto = full ? 0 : since;
	while (r == 0 && (e = next_change(k, *upto))) {
		more = bytes > BATCH_BYTES || va_count(keys) >= KEYS_LIST_MAX;
		if (more)
			break;
		*upto = e->seq;
		if ((full && !e->value) || !str_glob(pattern, e->name) ||
		    (!root && (e->flags & KEY_SECRET)))
			continue;
		bytes += e->size;
		r = va_append(keys, facts(e, true));
	}
	if (!more)
		*upto = k->seq;
	*n = va_count(keys);
	guest_set(ret, "store", va_string(k->store), &r);
	guest_set(ret, "newest", va_int((int64_t)k->seq), &r);
	guest_set(ret, "revision", va_int((int64_t)*upto), &r);
	guest_set(ret, "full", va_bool(full), &r);
	guest_set(ret, "more", va_bool(more), &r);
	guest_set(ret, "keys", keys, &r);
	return r;
}

int keyring_watch(struct keyring *k, const char *pattern, int64_t since,
		  bool root, int cancel_fd, uint64_t deadline_ns,
		  struct va_value **ret)
{
	uint64_t from = since < 0 ? 0 : (uint64_t)since, upto;
	bool over = since < 0;
	size_t n;
	int err;

	pthread_mutex_lock(&k->lock);
	for (;;) {
		CLEANUP_VALUE struct va_value *v = va_struct();

		err = changes(k, pattern, from, root, v, &upto, &n);
		if (err < 0)
			break;
		if (n || over || clock_now() >= deadline_ns) {
			*ret = take_ptr(v);
			break;
		}
		from = upto;
		err = notify_wait(&k->changed, &k->lock, cancel_fd,
				  deadline_ns);
		if (err < 0 && err != -ETIMEDOUT)
			break;
		over = err == -ETIMEDOUT;
	}
	pthread_mutex_unlock(&k->lock);
	return err;
}

/* --- for who sends ------------------------------------------------------------- */

static const struct key *first_dirty(const struct keyring *k)
{
	const struct key *e = k->keys;

	while (e && !e->dirty)
		e = e->next;
	return e;
}

void keyring_wait_dirty(struct keyring *k)
{
	pthread_mutex_lock(&k->lock);
	while (!first_dirty(k))
		notify_wait(&k->changed, &k->lock, -1, CLOCK_NEVER);
	pthread_mutex_unlock(&k->lock);
}

void keyring_wait_host(struct keyring *k, uint64_t deadline_ns)
{
	uint64_t asked;
	int err = 0;

	pthread_mutex_lock(&k->lock);
	asked = k->asked;
	while (err == 0 && k->asked == asked)
		err = notify_wait(&k->changed, &k->lock, -1, deadline_ns);
	pthread_mutex_unlock(&k->lock);
}

void keyring_host_there(struct keyring *k)
{
	pthread_mutex_lock(&k->lock);
	k->asked++;
	notify_all(&k->changed);
	pthread_mutex_unlock(&k->lock);
}

/* The dirty key that comes next behind a number. */
static const struct key *next_dirty(const struct keyring *k, uint64_t after)
{
	const struct key *next = NULL;

	for (const struct key *e = k->keys; e; e = e->next) {
		if (e->dirty && e->dirty_seq > after &&
		    (!next || e->dirty_seq < next->dirty_seq))
			next = e;
	}
	return next;
}

static int add_dirty(const struct key *e, struct keyring_dirty *d,
		     struct va_value *revisions)
{
	if (!e->value)
		return va_append(d->unset, va_string(e->name));
	if (e->shown && e->revision > 0 &&
	    va_set(revisions, e->name, va_int(e->revision)) < 0)
		return -ENOMEM;
	return va_set(d->set, e->name, va_bytes(e->value, e->size));
}

static int collect_dirty(const struct keyring *k, struct keyring_dirty *d)
{
	struct va_value *revisions = va_struct();
	size_t bytes = 0;
	int err = revisions ? 0 : -ENOMEM;

	while (err == 0) {
		const struct key *next = next_dirty(k, d->seq);

		if (!next || (bytes && bytes + next->size > KEYS_SET_MAX) ||
		    va_count(d->set) + va_count(d->unset) >= KEYS_LIST_MAX)
			break;
		bytes += next->size;
		d->seq = next->dirty_seq;
		err = add_dirty(next, d, revisions);
	}
	if (err == 0 && k->vm[0])
		err = va_set(d->options, "vm", va_string(k->vm));
	if (err == 0)
		return va_set(d->options, "revisions", revisions);
	va_value_free(revisions);
	return err;
}

int keyring_dirty(struct keyring *k, struct keyring_dirty *ret)
{
	struct keyring_dirty d = { va_struct(), va_array(), va_struct(), 0 };
	int err = d.set && d.unset && d.options ? 0 : -ENOMEM;

	pthread_mutex_lock(&k->lock);
	if (err == 0)
		err = collect_dirty(k, &d);
	pthread_mutex_unlock(&k->lock);
	if (err == 0) {
		*ret = d;
		return 0;
	}
	va_value_free(d.set);
	va_value_free(d.unset);
	va_value_free(d.options);
	return err;
}

void keyring_sent(struct keyring *k, uint64_t seq, const char *error)
{
	bool unsaved = false;

	pthread_mutex_lock(&k->lock);
	for (struct key *e = k->keys; e; e = e->next) {
		if (!e->dirty || e->dirty_seq > seq)
			continue;
		unsaved |= e->removing;
		e->dirty = e->removing = false;
	}
	if (unsaved)
		keyring_save(k);
	if (error) {
		k->refused = seq;
		snprintf(k->refusal, sizeof(k->refusal), "%s", error);
	}
	k->sent = seq;
	notify_all(&k->changed);
	pthread_mutex_unlock(&k->lock);
}

int keyring_wait_sent(struct keyring *k, uint64_t seq, int cancel_fd,
		      uint64_t deadline_ns, char *why, size_t size)
{
	int err = 0;

	pthread_mutex_lock(&k->lock);
	while (err == 0 && k->sent < seq && first_dirty(k))
		err = notify_wait(&k->changed, &k->lock, cancel_fd,
				  deadline_ns);
	if (err == 0 && k->refused >= seq && seq) {
		snprintf(why, size, "%s", k->refusal);
		err = -EREMOTEIO;
	}
	pthread_mutex_unlock(&k->lock);
	return err;
}

/* --- for who runs hooks ---------------------------------------------------------- */

void keyring_next_change(struct keyring *k, struct keyring_change *ret)
{
	struct key *e;

	pthread_mutex_lock(&k->lock);
	for (;;) {
		for (e = k->keys; e && !e->hook; e = e->next)
			;
		if (e)
			break;
		notify_wait(&k->changed, &k->lock, -1, CLOCK_NEVER);
	}
	e->hook = false;
	snprintf(ret->name, sizeof(ret->name), "%s", e->name);
	ret->revision = e->revision;
	ret->removed = !e->value;
	pthread_mutex_unlock(&k->lock);
}
