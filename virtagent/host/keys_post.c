/*
 * keys_post.c - what va-hostd's loop does to keys, without waiting for the disk
 *
 * Each call copies what it needs and is done later on the store's thread, in the
 * order of the calls.
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
#include "common/str.h"
#include "virtagent/host/keys_priv.h"

struct post {
	struct keys *k;
	char *guest;
	struct key_change *changes; /* their memory is ours */
	size_t n;
	/* of keys_booted(): */
	char boot[64];
	bool was_off;
	char vm[40]; /* of keys_set_vm() */
	/* of keys_keep_host(): what stays */
	char **keep;
	size_t nkeep;
};

static void post_free(struct post *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free((char *)(uintptr_t)p->changes[i].name);
		free((void *)(uintptr_t)p->changes[i].value);
	}
	for (size_t i = 0; i < p->nkeep; i++)
		free(p->keep[i]);
	free(p->keep);
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
	struct keys_set_job j = { .k = p->k, .set = &set, .result = &result };

	keys_run_set(&j);
	if (j.error < 0)
		log_warning("guest %s: host.* keys: %s", p->guest, result.text);
}

static void run_post(void *arg)
{
	CLEANUP(post_free_p) struct post *p = arg;

	apply_post(p);
}

static struct post *post_new(struct keys *k, const char *guest)
{
	struct post *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->k = k;
	p->guest = strdup(guest);
	if (p->guest)
		return p;
	free(p);
	return NULL;
}

/* Takes *p over when it succeeds. */
static int post_send(struct post **p, loop_fn fn)
{
	int err = loop_post(store_loop((*p)->k->store), fn, *p);

	if (err == 0)
		*p = NULL;
	return err;
}

int keys_post(struct keys *k, const char *guest,
	      const struct key_change *changes, size_t n)
{
	CLEANUP(post_free_p) struct post *p = post_new(k, guest);
	int err = p ? 0 : -ENOMEM;

	for (size_t i = 0; err == 0 && i < n; i++)
		err = post_add(p, changes[i].name, changes[i].value,
			       changes[i].size);
	return err < 0 ? err : post_send(&p, run_post);
}

/* --- host.* keys that nothing gives any more --------------------------------- */

static int collect_unkept(void *arg, const struct store_key *key)
{
	struct post *p = arg;

	if (!key->value || !str_starts(key->name, "host."))
		return 0;
	for (size_t i = 0; i < p->nkeep; i++) {
		if (strcmp(p->keep[i], key->name) == 0)
			return 0;
	}
	return post_add(p, key->name, NULL, 0);
}

static void run_keep(void *arg)
{
	CLEANUP(post_free_p) struct post *p = arg;

	if (store_keys_since(p->k->store, p->guest, 0, collect_unkept, p) == 0 &&
	    p->n)
		apply_post(p);
}

int keys_keep_host(struct keys *k, const char *guest, const char *const *names,
		   size_t n)
{
	CLEANUP(post_free_p) struct post *p = post_new(k, guest);

	if (p)
		p->keep = calloc(n + 1, sizeof(*p->keep));
	if (!p || !p->keep)
		return -ENOMEM;
	while (p->nkeep < n) {
		p->keep[p->nkeep] = strdup(names[p->nkeep]);
		if (!p->keep[p->nkeep])
			return -ENOMEM;
		p->nkeep++;
	}
	return post_send(&p, run_keep);
}

/* --- a guest's boots --------------------------------------------------------- */

/* A key that lived until now. */
static int collect_dead(void *arg, const struct store_key *key)
{
	struct post *p = arg;
	unsigned dead = KEY_RESET | (p->was_off ? KEY_POWEROFF : 0);

	if (!key->value || !(key->flags & dead))
		return 0;
	return post_add(p, key->name, NULL, 0);
}

/* In a transaction: what its groups give, and its boot. */
static int note_guest(struct post *p, struct store_keys_state *st)
{
	struct store *s = p->k->store;
	bool given = false, booted;
	int err = store_keys_state(s, p->guest, st);

	booted = p->boot[0] && strcmp(st->boot, p->boot) != 0;
	if (err == 0)
		err = keys_give_all(p->k, p->guest, st, &given);
	if (booted)
		snprintf(st->boot, sizeof(st->boot), "%s", p->boot);
	/* A row that is there makes it one that groups reach. */
	if (err == 0 && (given || booted || st->revision == 0))
		err = store_keys_set_state(s, p->guest, st);
	return err;
}

static void run_guest(void *arg)
{
	CLEANUP(post_free_p) struct post *p = arg;
	struct store *s = p->k->store;
	struct store_keys_state st;
	int err;

	if (store_keys_state(s, p->guest, &st) < 0)
		return;
	keys_note_revision(p->k, p->guest, st.revision);
	if (p->boot[0] && st.boot[0] && strcmp(st.boot, p->boot) != 0 &&
	    store_keys_since(s, p->guest, 0, collect_dead, p) == 0 && p->n)
		apply_post(p);
	if (store_keys_begin(s) < 0)
		return;
	err = note_guest(p, &st);
	if (err == 0)
		err = store_keys_commit(s);
	else
		store_keys_rollback(s);
	if (err == 0)
		keys_note_revision(p->k, p->guest, st.revision);
}

int keys_booted(struct keys *k, const char *guest, const char *boot,
		bool was_off)
{
	CLEANUP(post_free_p) struct post *p = post_new(k, guest);

	if (!p)
		return -ENOMEM;
	p->was_off = was_off;
	snprintf(p->boot, sizeof(p->boot), "%s", boot);
	return post_send(&p, run_guest);
}

/* --- another virtual machine of that name ------------------------------------ */

static int collect_of_guest(void *arg, const struct store_key *key)
{
	struct post *p = arg;

	if (!key->value || !str_starts(key->name, "guest."))
		return 0;
	return post_add(p, key->name, NULL, 0);
}

static void run_vm(void *arg)
{
	CLEANUP(post_free_p) struct post *p = arg;
	struct store *s = p->k->store;
	struct store_keys_state st;
	int err;

	if (store_keys_state(s, p->guest, &st) < 0 || strcmp(st.vm, p->vm) == 0)
		return;
	if (st.vm[0])
		log_info("guest %s: it is the virtual machine %s now, not %s; its "
			 "guest.* keys go", p->guest, p->vm, st.vm);
	if (st.vm[0] &&
	    store_keys_since(s, p->guest, 0, collect_of_guest, p) == 0 && p->n)
		apply_post(p);
	if (store_keys_begin(s) < 0)
		return;
	err = store_keys_state(s, p->guest, &st);
	snprintf(st.vm, sizeof(st.vm), "%s", p->vm);
	if (err < 0 || store_keys_set_state(s, p->guest, &st) < 0)
		store_keys_rollback(s);
	else
		store_keys_commit(s);
}

int keys_set_vm(struct keys *k, const char *guest, const char *uuid)
{
	CLEANUP(post_free_p) struct post *p = post_new(k, guest);

	if (!p)
		return -ENOMEM;
	snprintf(p->vm, sizeof(p->vm), "%s", uuid);
	keys_note_vm(k, guest, uuid);
	return post_send(&p, run_vm);
}

int keys_add_guest(struct keys *k, const char *guest)
{
	CLEANUP(post_free_p) struct post *p = post_new(k, guest);

	if (!p)
		return -ENOMEM;
	keys_set_here(k, guest, true);
	return post_send(&p, run_guest);
}

void keys_drop_guest(struct keys *k, const char *guest)
{
	keys_set_here(k, guest, false);
}
