/*
 * keys.c - changing the host's keys
 *
 * A change is one transaction on the store's thread: rights, if_revision and
 * limits are looked at there, under nobody else's feet, so a call is done whole
 * or not at all, and what was answered is on disk.  A key that has the value
 * already takes no new revision.
 *
 * host.* is computed by va-hostd and kept with the rest, so that its revisions,
 * too, survive a restart.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "virtagent/fault.h"
#include "virtagent/host/keys_priv.h"

/* Rows of removed keys that one guest may leave behind. */
#define REMOVED_MAX 1000u

struct set_job {
	struct keys *k;
	const struct keys_set *set;
	struct keys_result *result;
	struct store_keys_state state;
	uint64_t usage;
	int error;
};

/* What is there of a key before it is changed. */
struct present {
	bool there;
	uint64_t revision;
	unsigned flags;
	size_t size;
	const struct key_change *wanted;
	bool same; /* as wanted */
};

static int look(void *arg, const struct store_key *key)
{
	struct present *p = arg;

	p->flags = key->flags;
	p->there = key->value != NULL;
	p->revision = p->there ? key->revision : 0;
	p->size = key->size;
	p->same = p->there ? p->wanted->value && key->size == p->wanted->size &&
				     memcmp(key->value, p->wanted->value,
					    key->size) == 0 :
			     !p->wanted->value;
	return 0;
}

static int find_present(struct set_job *j, const struct key_change *c,
			struct present *p)
{
	int err;

	*p = (struct present){ .wanted = c, .same = !c->value };
	p->flags = KEY_READ;
	err = store_key_get(j->k->store, j->set->guest, c->name, look, p);
	return err == -ENOENT ? 0 : err;
}

static int deny(struct set_job *j, const char *name, const char *why)
{
	snprintf(j->result->text, sizeof(j->result->text), "key %s: %s", name,
		 why);
	j->result->code = VA_FAULT_REFUSED;
	return -EACCES;
}

static int check_right(struct set_job *j, const struct key_change *c,
		       const struct present *p)
{
	enum keys_who who = j->set->who;

	if (who == KEYS_DAEMON)
		return 0;
	if (c->owner == KEY_OF_HOST)
		return deny(j, c->name, "the host computes it; nobody sets it");
	if (who == KEYS_IMPORT)
		return 0;
	if (who == KEYS_GUEST && c->owner == KEY_OF_USER &&
	    !(p->there && (p->flags & KEY_WRITE)))
		return deny(j, c->name, "the guest may not write it");
	if (who == KEYS_ADMIN && c->owner == KEY_OF_GUEST && c->value)
		return deny(j, c->name, "the guest writes it, not the host");
	return 0;
}

static int check_revision(struct set_job *j, const struct key_change *c,
			  const struct present *p)
{
	if (j->set->if_revision < 0 ||
	    p->revision == (uint64_t)j->set->if_revision)
		return 0;
	snprintf(j->result->text, sizeof(j->result->text),
		 "key %s: its revision is %llu, not %lld", c->name,
		 (unsigned long long)p->revision,
		 (long long)j->set->if_revision);
	return -EAGAIN;
}

static int check_quota(struct set_job *j, const struct key_change *c,
		       const struct present *p)
{
	size_t head = strlen(c->name) + KEY_COST;

	if (p->there)
		j->usage -= head + p->size;
	if (!c->value)
		return 0;
	j->usage += head + c->size;
	if (j->usage <= KEYS_GUEST_MAX)
		return 0;
	snprintf(j->result->text, sizeof(j->result->text),
		 "key %s: with its %zu bytes guest %s has %llu bytes of keys; "
		 "the limit is %u", c->name, c->size, j->set->guest,
		 (unsigned long long)j->usage, KEYS_GUEST_MAX);
	j->result->code = VA_FAULT_LIMIT;
	return -EDQUOT;
}

static unsigned new_flags(const struct keys_set *set,
			  const struct key_change *c, const struct present *p)
{
	if (set->who == KEYS_IMPORT)
		return c->flags;
	if (!set->set_flags)
		return p->flags;
	/* A guest does not grant itself anything. */
	if (set->who == KEYS_GUEST)
		return (set->flags & (KEY_POWEROFF | KEY_RESET)) | KEY_READ;
	return set->flags;
}

static int change_one(struct set_job *j, const struct key_change *c,
		      uint64_t revision)
{
	struct store_key key = { .name = c->name, .revision = revision,
				 .value = c->value, .size = c->size };
	struct present p;
	int err = find_present(j, c, &p);

	if (err == 0)
		err = check_right(j, c, &p);
	if (err == 0)
		err = check_revision(j, c, &p);
	if (err == 0)
		err = check_quota(j, c, &p);
	if (err < 0)
		return err;
	key.flags = new_flags(j->set, c, &p);
	if (p.same && (!c->value || key.flags == p.flags))
		return 0;
	j->result->changed++;
	return store_key_put(j->k->store, j->set->guest, &key);
}

static int count_removed(void *arg, const struct store_key *key)
{
	unsigned *count = arg;

	if (!key->value)
		++*count;
	return 0;
}

/* Keeps the rows of removed keys few: a guest that has an older revision gets
 * everything. */
static int trim_removed(struct set_job *j)
{
	struct store_keys_state *st = &j->state;
	unsigned count = 0;
	int err = store_keys_since(j->k->store, j->set->guest, st->floor,
				   count_removed, &count);

	if (err < 0 || count <= REMOVED_MAX)
		return err;
	st->floor = st->revision;
	return store_keys_forget(j->k->store, j->set->guest, st->revision);
}

static int change_all(struct set_job *j)
{
	const struct keys_set *set = j->set;
	struct store *s = j->k->store;
	bool removes = false;
	uint64_t first, next;
	int err = store_keys_state(s, set->guest, &j->state);

	if (err == 0)
		err = store_keys_usage(s, set->guest, KEY_COST, &j->usage);
	first = next = j->state.revision + 1;
	for (size_t i = 0; err == 0 && i < set->n; i++) {
		const struct key_change *c = &set->changes[i];
		uint64_t revision = c->revision > first ? c->revision : first;

		if (revision > next)
			next = revision;
		removes |= !c->value;
		err = change_one(j, c, revision);
	}
	if (err < 0 || j->result->changed == 0)
		return err;
	j->state.revision = next;
	if (removes)
		err = trim_removed(j);
	return err < 0 ? err : store_keys_set_state(s, set->guest, &j->state);
}

/* Store's thread. */
static void run_set(void *arg)
{
	struct set_job *j = arg;
	struct store *s = j->k->store;
	int err = store_keys_begin(s);

	if (err == 0) {
		err = change_all(j);
		if (err == 0)
			err = store_keys_commit(s);
		else
			store_keys_rollback(s);
	}
	j->error = err;
	if (err < 0) {
		j->result->changed = 0;
		if (!j->result->text[0])
			snprintf(j->result->text, sizeof(j->result->text),
				 "not kept: %s", store_trouble(s) ?
				 store_trouble(s) : strerror(-err));
		return;
	}
	j->result->revision = j->state.revision;
	keys_note_revision(j->k, j->set->guest, j->state.revision);
}

int keys_set(struct keys *k, const struct keys_set *set, uint64_t deadline_ns,
	     struct keys_result *result)
{
	struct set_job j = { .k = k, .set = set, .result = result };
	int err;

	*result = (struct keys_result){ 0 };
	err = loop_call(store_loop(k->store), run_set, &j, deadline_ns);
	if (err < 0)
		snprintf(result->text, sizeof(result->text),
			 "the host's store does not answer");
	return err < 0 ? err : j.error;
}

/* --- from the loop's thread ---------------------------------------------- */

struct post {
	struct keys *k;
	char *guest;
	struct key_change *changes; /* their memory is ours */
	size_t n;
	/* of keys_booted(): */
	char boot[64];
	bool was_off;
};

static void post_free(struct post *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free((char *)(uintptr_t)p->changes[i].name);
		free((void *)(uintptr_t)p->changes[i].value);
	}
	free(p->changes);
	free(p->guest);
	free(p);
}
DEFINE_CLEANUP(struct post, post_free);

static int post_add(struct post *p, const char *name, const void *value,
		    size_t size)
{
	struct key_change *more = realloc(p->changes,
					  (p->n + 1) * sizeof(*more));
	struct key_change *c;

	if (!more)
		return -ENOMEM;
	p->changes = more;
	c = &more[p->n++];
	*c = (struct key_change){ .name = strdup(name), .size = size };
	if (value) {
		void *copy = malloc(size ? size : 1);

		if (copy && size)
			memcpy(copy, value, size);
		c->value = copy;
		if (!copy)
			return -ENOMEM;
	}
	return c->name ? 0 : -ENOMEM;
}

static void apply_post(struct post *p)
{
	struct keys_set set = { .guest = p->guest, .who = KEYS_DAEMON,
				.changes = p->changes, .n = p->n,
				.if_revision = -1 };
	struct keys_result result = { 0 };
	struct set_job j = { .k = p->k, .set = &set, .result = &result };

	run_set(&j);
	if (j.error < 0)
		log_warning("guest %s: host.* keys: %s", p->guest, result.text);
}

static void run_post(void *arg)
{
	CLEANUP(post_free_p) struct post *p = arg;

	apply_post(p);
}

int keys_post(struct keys *k, const char *guest,
	      const struct key_change *changes, size_t n)
{
	CLEANUP(post_free_p) struct post *p = calloc(1, sizeof(*p));
	int err = 0;

	if (!p)
		return -ENOMEM;
	p->k = k;
	p->guest = strdup(guest);
	for (size_t i = 0; err == 0 && i < n; i++)
		err = post_add(p, changes[i].name, changes[i].value,
			       changes[i].size);
	if (err < 0 || !p->guest)
		return -ENOMEM;
	err = loop_post(store_loop(k->store), run_post, p);
	if (err == 0)
		p = NULL;
	return err;
}

/* A key that lived until now. */
static int collect_dead(void *arg, const struct store_key *key)
{
	struct post *p = arg;
	unsigned dead = KEY_RESET | (p->was_off ? KEY_POWEROFF : 0);

	if (!key->value || !(key->flags & dead))
		return 0;
	return post_add(p, key->name, NULL, 0);
}

static void run_booted(void *arg)
{
	CLEANUP(post_free_p) struct post *p = arg;
	struct store *s = p->k->store;
	struct store_keys_state st;
	int err;

	if (store_keys_state(s, p->guest, &st) < 0)
		return;
	keys_note_revision(p->k, p->guest, st.revision);
	if (strcmp(st.boot, p->boot) == 0)
		return;
	if (st.boot[0] &&
	    store_keys_since(s, p->guest, 0, collect_dead, p) == 0 && p->n)
		apply_post(p);
	if (store_keys_begin(s) < 0)
		return;
	err = store_keys_state(s, p->guest, &st);
	snprintf(st.boot, sizeof(st.boot), "%s", p->boot);
	if (err < 0 || store_keys_set_state(s, p->guest, &st) < 0)
		store_keys_rollback(s);
	else
		store_keys_commit(s);
}

int keys_booted(struct keys *k, const char *guest, const char *boot,
		bool was_off)
{
	CLEANUP(post_free_p) struct post *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	p->k = k;
	p->was_off = was_off;
	p->guest = strdup(guest);
	snprintf(p->boot, sizeof(p->boot), "%s", boot);
	if (!p->guest)
		return -ENOMEM;
	err = loop_post(store_loop(k->store), run_booted, p);
	if (err == 0)
		p = NULL;
	return err;
}
