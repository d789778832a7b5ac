/*
 * keys.c - the keys as the guest has them: changing them
 *
 * A list in memory under one lock, and a file for each key (keys_files.c).
 *
 * The host says which virtual machine this is.  When that is another one than
 * before, this is a clone of it (a snapshot that was started elsewhere): the
 * guest.* keys are the other one's, and go.
 *
 * A removed key stays in the list without a value, so that watches learn of it;
 * when there are REMOVED_MAX of them the oldest watches get everything instead.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/str.h"
#include "virtagent/guest/keys_priv.h"

#define REMOVED_MAX 1000u

/* --- the list ---------------------------------------------------------------- */

static struct key *find(const struct keyring *k, const char *name)
{
	struct key *e = k->keys;

	while (e && strcmp(e->name, name) != 0)
		e = e->next;
	return e;
}

struct key *keyring_find(const struct keyring *k, const char *name)
{
	struct key *e = find(k, name);

	return e && e->value ? e : NULL;
}

struct key *keyring_add(struct keyring *k, const char *name)
{
	struct key *e = find(k, name), **p = &k->keys;

	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->flags = KEY_READ;
	while (*p && strcmp((*p)->name, name) < 0)
		p = &(*p)->next;
	e->next = *p;
	*p = e;
	return e;
}

/* Watches from before the newest removal that goes are told everything. */
static void trim_removed(struct keyring *k)
{
	if (k->removed <= REMOVED_MAX)
		return;
	for (struct key **p = &k->keys; *p;) {
		struct key *e = *p;

		if (e->value || e->dirty || e->hook) {
			p = &e->next;
			continue;
		}
		if (e->seq > k->floor)
			k->floor = e->seq;
		*p = e->next;
		free(e);
	}
	k->removed = 0;
}

/* --- a change ---------------------------------------------------------------- */

void keyring_account(struct keyring *k, const struct key *e, bool add_it)
{
	size_t n = strlen(e->name) + e->size + KEY_COST;

	if (!e->value)
		return;
	k->usage = add_it ? k->usage + n : k->usage - n;
}

static bool is_same(const struct key *e, const void *value, size_t size,
		    unsigned flags)
{
	if (!value || !e->value)
		return !value && !e->value;
	return e->size == size && e->flags == flags &&
	       memcmp(e->value, value, size) == 0;
}

/* For put(): NULL for want of memory. */
static void *copy_of(const void *value, size_t size)
{
	void *copy = malloc(size ? size : 1);

	if (copy && size)
		memcpy(copy, value, size);
	return copy;
}

/* Takes copy over; NULL removes.  Tells watches and hooks if it is another one. */
static void put(struct keyring *k, struct key *e, void *copy, size_t size,
		unsigned flags)
{
	if (is_same(e, copy, size, flags)) {
		free(copy);
		return;
	}
	keyring_account(k, e, false);
	if (!copy)
		k->removed++;
	free(e->value);
	e->value = copy;
	e->size = copy ? size : 0;
	e->flags = flags;
	keyring_account(k, e, true);
	e->seq = keyring_next_seq(k);
	e->hook = true;
	keyring_write(k, e);
}

/* The host is to be told.  shown: it had the value before, on another host. */
static void mark_dirty(struct keyring *k, struct key *e, bool shown)
{
	e->dirty = true;
	e->shown = shown;
	e->dirty_seq = ++k->dirty_seq;
}

/* --- from the host ----------------------------------------------------------- */

struct pushed {
	const char *name;
	const void *value;
	size_t size;
	unsigned flags;
	int64_t revision;
	enum key_owner owner;
};

static bool flag(const struct va_value *v, const char *name)
{
	bool on = false;

	return va_get_bool(va_member(v, name), &on) == 0 && on;
}

static int take_pushed(const struct va_value *v, struct pushed *p, char *why,
		       size_t size)
{
	*p = (struct pushed){ .flags = 0 };
	if (va_get_string(va_member(v, "name"), &p->name) < 0 ||
	    va_get_int(va_member(v, "revision"), &p->revision) < 0) {
		snprintf(why, size, "a key without name or revision");
		return -EINVAL;
	}
	if (key_name_check(p->name, &p->owner, why, size) < 0)
		return -EINVAL;
	if (flag(v, "removed"))
		return 0;
	if (va_get_bytes(va_member(v, "value"), &p->value, &p->size) < 0) {
		snprintf(why, size, "key %s: no value", p->name);
		return -EINVAL;
	}
	if (!p->value)
		p->value = "";
	if (p->size > KEY_VALUE_MAX) {
		snprintf(why, size, "key %s: the value has %zu bytes; the limit "
			 "is %u", p->name, p->size, KEY_VALUE_MAX);
		return -EINVAL;
	}
	p->flags = (flag(v, "read") ? KEY_READ : 0) |
		   (flag(v, "write") ? KEY_WRITE : 0) |
		   (flag(v, "secret") ? KEY_SECRET : 0);
	return 0;
}

static int apply(struct keyring *k, const struct pushed *p)
{
	struct key *e = keyring_add(k, p->name);
	void *copy = NULL;

	if (!e)
		return -ENOMEM;
	e->unseen = false;
	/* Not sent yet: what is here is newer. */
	if (e->dirty)
		return 0;
	if (p->value && !(copy = copy_of(p->value, p->size)))
		return -ENOMEM;
	put(k, e, copy, p->size, p->flags);
	e->revision = p->revision;
	return 0;
}

/* All that the host has was here: the rest goes, but guest.* keys are shown to a
 * host that does not have them yet. */
static void sweep(struct keyring *k, bool other_store)
{
	for (struct key *e = k->keys; e; e = e->next) {
		if (!e->unseen)
			continue;
		e->unseen = false;
		if (!e->value || e->dirty)
			continue;
		if (other_store && str_starts(e->name, "guest.")) {
			mark_dirty(k, e, true);
		} else {
			put(k, e, NULL, 0, e->flags);
		}
	}
}

static int check_batch(const struct va_value *keys, char *why, size_t size)
{
	struct pushed p;
	int err = 0;

	for (size_t i = 0; err == 0 && i < va_count(keys); i++)
		err = take_pushed(va_item(keys, i), &p, why, size);
	return err;
}

/* Another virtual machine than before: what that one set is not this one's. */
static void take_vm(struct keyring *k, const struct va_value *batch)
{
	const char *vm = "";

	va_get_string(va_member(batch, "vm"), &vm);
	if (!*vm || strcmp(vm, k->vm) == 0 || strlen(vm) >= sizeof(k->vm))
		return;
	if (k->vm[0])
		log_info("this virtual machine is %s, a clone of %s: its guest.* "
			 "keys go", vm, k->vm);
	for (struct key *e = k->keys; e && k->vm[0]; e = e->next) {
		if (!str_starts(e->name, "guest."))
			continue;
		e->dirty = e->removing = false;
		put(k, e, NULL, 0, e->flags);
	}
	snprintf(k->vm, sizeof(k->vm), "%s", vm);
	keyring_save(k);
}

static int take_batch(struct keyring *k, const struct va_value *batch,
		      const char *store, char *why, size_t size)
{
	const struct va_value *keys = va_member(batch, "keys");
	struct pushed p;
	int err = 0;

	take_vm(k, batch);
	if (flag(batch, "full")) {
		k->sweeping = true;
		k->other_store = strcmp(k->store, store) != 0;
		for (struct key *e = k->keys; e; e = e->next)
			e->unseen = true;
	}
	for (size_t i = 0; err == 0 && i < va_count(keys); i++) {
		err = take_pushed(va_item(keys, i), &p, why, size);
		if (err == 0)
			err = apply(k, &p);
	}
	if (err == 0 && k->sweeping && !flag(batch, "more")) {
		sweep(k, k->other_store);
		k->sweeping = false;
	}
	return err;
}

int keyring_push(struct keyring *k, const struct va_value *batch,
		 int64_t *revision, char *why, size_t size)
{
	const char *store;
	int64_t since, upto;
	int err;

	if (va_get_string(va_member(batch, "store"), &store) < 0 ||
	    va_get_int(va_member(batch, "since"), &since) < 0 ||
	    va_get_int(va_member(batch, "revision"), &upto) < 0) {
		snprintf(why, size, "a batch needs store, since and revision");
		return -EINVAL;
	}
	err = check_batch(va_member(batch, "keys"), why, size);
	if (err < 0)
		return err;
	pthread_mutex_lock(&k->lock);
	if (!flag(batch, "full") && (strcmp(store, k->store) != 0 ||
				     since != k->revision)) {
		snprintf(why, size, "it does not follow revision %lld of store "
			 "\"%s\"", (long long)k->revision, k->store);
		err = -EAGAIN;
	}
	if (err == 0)
		err = take_batch(k, batch, store, why, size);
	if (err == -ENOMEM)
		snprintf(why, size, "%s", strerror(ENOMEM));
	if (err == 0) {
		snprintf(k->store, sizeof(k->store), "%s", store);
		k->revision = *revision = upto;
	}
	trim_removed(k);
	notify_all(&k->changed);
	pthread_mutex_unlock(&k->lock);
	return err;
}

void keyring_state(struct keyring *k, char store[64], char vm[40],
		   int64_t *revision)
{
	pthread_mutex_lock(&k->lock);
	/* Half of a full batch is worth nothing. */
	if (k->sweeping)
		k->revision = 0;
	k->sweeping = false;
	memcpy(store, k->store, sizeof(k->store));
	memcpy(vm, k->vm, sizeof(k->vm));
	*revision = k->revision;
	pthread_mutex_unlock(&k->lock);
}

/* --- from local programs ------------------------------------------------------ */

static int check_change(const struct keyring *k, const struct key_change *c,
			int64_t if_revision, size_t *usage, char *why,
			size_t size)
{
	const struct key *e = keyring_find(k, c->name);
	int64_t now = e ? e->revision : 0;

	if (c->owner != KEY_OF_GUEST) {
		snprintf(why, size, "key %s: the guest sets guest.* keys here; "
			 "user.* ones by host.kv.set", c->name);
		return -EACCES;
	}
	if (if_revision >= 0 && now != if_revision) {
		snprintf(why, size, "key %s: its revision is %lld, not %lld",
			 c->name, (long long)now, (long long)if_revision);
		return -EAGAIN;
	}
	if (e)
		*usage -= strlen(e->name) + e->size + KEY_COST;
	if (c->value)
		*usage += strlen(c->name) + c->size + KEY_COST;
	if (*usage <= KEYS_GUEST_MAX)
		return 0;
	snprintf(why, size, "key %s: with its %zu bytes there are %zu bytes of "
		 "keys; the limit is %u", c->name, c->size, *usage,
		 KEYS_GUEST_MAX);
	return -EDQUOT;
}

/* On disk before the files go, so that a server that takes over knows of it. */
static void note_removals(struct keyring *k, const struct key_change *changes,
			  size_t n)
{
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		struct key *e = changes[i].value ? NULL :
				keyring_find(k, changes[i].name);

		if (e)
			e->removing = any = true;
	}
	if (any)
		keyring_save(k);
}

/* One change, for which there is memory. */
struct ready {
	struct key *e;
	void *copy;
};

static int make_ready(struct keyring *k, const struct key_change *c, struct ready *r)
{
	r->e = keyring_add(k, c->name);
	r->copy = c->value ? copy_of(c->value, c->size) : NULL;
	return r->e && (r->copy || !c->value) ? 0 : -ENOMEM;
}

static void set_one(struct keyring *k, const struct key_change *c, struct ready *r,
		    bool *unsaved)
{
	uint64_t before = k->seq;

	put(k, r->e, take_ptr(r->copy), c->size, KEY_READ);
	if (k->seq != before)
		mark_dirty(k, r->e, false);
	if (c->value && r->e->removing) {
		r->e->removing = false;
		*unsaved = true;
	}
}

int keyring_set(struct keyring *k, const struct key_change *changes, size_t n,
		int64_t if_revision, uint64_t *seq, char *why, size_t size)
{
	CLEANUP_FREE struct ready *ready = calloc(n ? n : 1, sizeof(*ready));
	bool unsaved = false;
	size_t usage;
	int err = ready ? 0 : -ENOMEM;

	pthread_mutex_lock(&k->lock);
	usage = k->usage;
	for (size_t i = 0; err == 0 && i < n; i++)
		err = check_change(k, &changes[i], if_revision, &usage, why,
				   size);
	/* What may fail comes first: all or none. */
	for (size_t i = 0; err == 0 && i < n; i++)
		err = make_ready(k, &changes[i], &ready[i]);
	if (err == -ENOMEM)
		snprintf(why, size, "%s", strerror(ENOMEM));
	if (err == 0)
		note_removals(k, changes, n);
	for (size_t i = 0; err == 0 && i < n; i++)
		set_one(k, &changes[i], &ready[i], &unsaved);
	if (unsaved)
		keyring_save(k);
	*seq = k->dirty_seq;
	trim_removed(k);
	notify_all(&k->changed);
	pthread_mutex_unlock(&k->lock);
	for (size_t i = 0; ready && i < n; i++)
		free(ready[i].copy);
	return err;
}
