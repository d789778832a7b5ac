/*
 * keys_groups.c - keys that are set for groups of guests
 *
 * A group is a pattern; the guests in it are those whose name matches, "*" is all
 * of them.  What a guest has by itself wins over its groups; among those the
 * longest pattern wins, and of equally long ones the last in byte order.
 *
 * A guest has a row in the store for each key it gets by a group, with a revision
 * of its own, so that everything else (what changed since, lists, pushes) looks at
 * one guest's rows.  The rows follow in the transaction that changes the group, and
 * when a guest is configured or boots, since it may have missed that.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/str.h"
#include "virtagent/host/keys_priv.h"

struct keys_given {
	struct keys_given *next;
	uint64_t revision;
	char guest[];
};

/* --- one key ----------------------------------------------------------------- */

struct row {
	bool own, given;
	unsigned flags;
	uint64_t revision;
	char group[KEYS_GROUP_SIZE];
	const char *guest;
};

static void take_row(struct row *r, const struct store_key *key)
{
	r->flags = key->flags;
	r->revision = key->revision;
	r->given = key->group != NULL;
	r->own = key->value && !key->group;
	snprintf(r->group, sizeof(r->group), "%s", key->group ? key->group : "");
}

static int take_present(void *arg, const struct store_key *key)
{
	take_row(arg, key);
	return 1;
}

/* The first that matches is the one that wins. */
static int take_group(void *arg, const struct store_key *key)
{
	struct row *r = arg;

	if (!str_glob(key->group, r->guest))
		return 0;
	take_row(r, key);
	return 1;
}

static bool is_fresh(const struct keys_set_job *j, const struct row *r)
{
	return j && strcmp(keys_shown(j->set->guest), r->group) == 0 &&
	       r->revision == j->state.revision;
}

int keys_give(struct keys *k, const char *guest, const char *name,
	      uint64_t revision, const struct keys_set_job *changed_in,
	      size_t *changed)
{
	struct row now = { .own = false }, wanted = { .guest = guest };
	struct store_key key = { .name = name, .revision = revision };
	int err = store_key_get(k->store, guest, name, take_present, &now);

	if (err == 0 || err == -ENOENT)
		err = now.own ? 0 : store_groups_with(k->store, name,
						      take_group, &wanted);
	if (err < 0 || now.own || (!wanted.given && !now.given))
		return err;
	if (wanted.given && now.given && wanted.flags == now.flags &&
	    strcmp(wanted.group, now.group) == 0 &&
	    !is_fresh(changed_in, &wanted))
		return 0;
	key.flags = wanted.given ? wanted.flags : now.flags;
	key.group = wanted.given ? wanted.group : NULL;
	++*changed;
	return store_key_put(k->store, guest, &key);
}

/* --- lists of names ------------------------------------------------------------- */

struct names {
	char **names;
	size_t n;
	const char *guest; /* groups that match it ... */
	const char *group; /* ... or guests that match this */
};

static void names_done(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->names[i]);
	free(l->names);
}

static int add_name(struct names *l, const char *name)
{
	char **more = realloc(l->names, (l->n + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	l->names = more;
	more[l->n] = strdup(name);
	if (!more[l->n])
		return -ENOMEM;
	l->n++;
	return 0;
}

static int add_key(void *arg, const struct store_key *key)
{
	struct names *l = arg;

	return str_glob(key->group, l->guest) ? add_name(l, key->name) : 0;
}

static int add_given(void *arg, const struct store_key *key)
{
	return add_name(arg, key->name);
}

static int add_guest(void *arg, const struct store_key *key)
{
	struct names *l = arg;

	return str_glob(l->group, key->name) ? add_name(l, key->name) : 0;
}

/* --- one guest ----------------------------------------------------------------- */

int keys_give_all(struct keys *k, const char *guest,
		  struct store_keys_state *st, bool *changed)
{
	CLEANUP(names_done) struct names l = { .guest = guest };
	size_t n = 0;
	int err = store_group_keys(k->store, add_key, &l);

	/* Those that no group has any more are removed. */
	if (err == 0)
		err = store_given_keys(k->store, guest, add_given, &l);
	for (size_t i = 0; err == 0 && i < l.n; i++)
		err = keys_give(k, guest, l.names[i], st->revision + 1, NULL,
				&n);
	*changed = n > 0;
	if (err < 0 || n == 0)
		return err;
	st->revision++;
	return keys_trim_removed(k, guest, st);
}

/* --- all guests of a group ----------------------------------------------------- */

static int remember(struct keys_set_job *j, const char *guest,
		    uint64_t revision)
{
	struct keys_given *g = malloc(sizeof(*g) + strlen(guest) + 1);

	if (!g)
		return -ENOMEM;
	g->revision = revision;
	strcpy(g->guest, guest);
	g->next = j->given;
	j->given = g;
	j->result->guests++;
	return 0;
}

static int give_changes(struct keys_set_job *j, const char *guest)
{
	struct store *s = j->k->store;
	struct store_keys_state st;
	size_t changed = 0;
	int err = store_keys_state(s, guest, &st);

	for (size_t i = 0; err == 0 && i < j->set->n; i++)
		err = keys_give(j->k, guest, j->set->changes[i].name,
				st.revision + 1, j, &changed);
	if (err < 0 || changed == 0)
		return err;
	st.revision++;
	err = keys_trim_removed(j->k, guest, &st);
	if (err == 0)
		err = store_keys_set_state(s, guest, &st);
	return err < 0 ? err : remember(j, guest, st.revision);
}

int keys_give_group(struct keys_set_job *j)
{
	CLEANUP(names_done) struct names l = { .group =
						       keys_shown(j->set->guest) };
	int err = store_keys_guests(j->k->store, add_guest, &l);

	for (size_t i = 0; err == 0 && i < l.n; i++)
		err = give_changes(j, l.names[i]);
	return err;
}

void keys_note_given(struct keys_set_job *j)
{
	for (const struct keys_given *g = j->given; g; g = g->next)
		keys_note_revision(j->k, g->guest, g->revision);
	keys_forget_given(j);
}

void keys_forget_given(struct keys_set_job *j)
{
	while (j->given) {
		struct keys_given *g = j->given;

		j->given = g->next;
		free(g);
	}
}
