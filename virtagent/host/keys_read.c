/*
 * keys_read.c - reading the host's keys
 *
 * A guest sees what it may read, a user that is not root no secret key; secret
 * keys stand in no list.  Changes come in
 * batches that end between two revisions, so that what was set together is seen
 * together.
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

/* After this many bytes a batch ends with its revision; another KEYS_SET_MAX may
 * be in that, and all must fit a document of 4 MiB as base64. */
#define BATCH_BYTES (256u << 10)

struct read_job {
	struct keys *k;
	char *guest;
	const char *name, *pattern, *after;
	enum keys_who who;
	uint64_t since, upto;
	struct va_value *list, *ret;
	size_t bytes, count;
	char last[KEY_NAME_MAX + 1];
	bool more, full;
	int error;
	void (*fn)(void *arg, struct va_value *v);
	void *arg;
};

static bool visible(const struct read_job *j, const struct store_key *key)
{
	if (j->who == KEYS_MEMBER)
		return !(key->flags & KEY_SECRET);
	return j->who != KEYS_GUEST || (key->flags & KEY_READ);
}

/* {name, revision, size, read, write, secret, lifetime, group: if one gives it} */
static struct va_value *key_facts(const struct store_key *key)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	int err = va_set(v, "name", va_string(key->name));

	if (err == 0)
		err = va_set(v, "revision", va_int((int64_t)key->revision));
	if (err == 0 && key->value)
		err = va_set(v, "size", va_int((int64_t)key->size));
	if (err == 0 && key->group)
		err = va_set(v, "group", va_string(key->group));
	if (err == 0)
		err = key_flags_put(v, key->flags);
	return err < 0 ? NULL : take_ptr(v);
}

static struct va_value *key_whole(const struct store_key *key)
{
	CLEANUP_VALUE struct va_value *v = key_facts(key);
	int err;

	if (key->value)
		err = va_set(v, "value", va_bytes(key->value, key->size));
	else
		err = va_set(v, "removed", va_bool(true));
	return err < 0 ? NULL : take_ptr(v);
}

/* --- one ------------------------------------------------------------------ */

static int take_one(void *arg, const struct store_key *key)
{
	struct read_job *j = arg;

	if (key->value && visible(j, key)) {
		j->ret = key_whole(key);
		j->error = j->ret ? 0 : -ENOMEM;
	}
	return 1;
}

static void run_get(void *arg)
{
	struct read_job *j = arg;
	int err;

	j->error = -ENOENT;
	err = store_key_get(j->k->store, j->guest, j->name, take_one, j);
	if (err < 0)
		j->error = err;
}

static int read_now(struct keys *k, struct read_job *j, loop_fn fn,
		    uint64_t deadline_ns, struct va_value **ret)
{
	int err;

	j->k = k;
	err = loop_call(store_loop(k->store), fn, j, deadline_ns);
	if (err == 0)
		err = j->error;
	if (err == 0)
		*ret = take_ptr(j->ret);
	va_value_free(j->ret);
	va_value_free(j->list);
	return err;
}

int keys_get(struct keys *k, const char *guest, const char *name,
	     enum keys_who who, uint64_t deadline_ns, struct va_value **ret)
{
	struct read_job j = { .guest = (char *)(uintptr_t)guest, .name = name,
			      .who = who };

	return read_now(k, &j, run_get, deadline_ns, ret);
}

/*
 * What revisions count in: the store, and in it the guest.  A snapshot of one guest
 * that is started as another has the other's revisions, which mean nothing here.
 */
static struct va_value *store_name(const struct read_job *j)
{
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
	char text[64];

	for (const char *p = j->guest; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 0x100000001b3;
	snprintf(text, sizeof(text), "%.32s-%016llx", store_id(j->k->store),
		 (unsigned long long)hash);
	return va_string(text);
}

/* --- list ----------------------------------------------------------------- */

static int take_listed(void *arg, const struct store_key *key)
{
	struct read_job *j = arg;

	if (j->count >= KEYS_LIST_MAX) {
		j->more = true;
		return 1;
	}
	if (!visible(j, key) || (key->flags & KEY_SECRET) ||
	    !str_glob(j->pattern, key->name))
		return 0;
	snprintf(j->last, sizeof(j->last), "%s", key->name);
	j->count++;
	j->error = va_append(j->list, key_facts(key));
	return j->error < 0;
}

static void run_list(void *arg)
{
	struct read_job *j = arg;
	struct store_keys_state st;
	int err;

	j->list = va_array();
	j->ret = va_struct();
	err = store_keys_state(j->k->store, j->guest, &st);
	if (err == 0)
		err = store_keys_list(j->k->store, j->guest, j->after,
				      take_listed, j);
	if (err == 0)
		err = j->error;
	if (err == 0)
		err = va_set(j->ret, "revision", va_int((int64_t)st.revision));
	if (err == 0)
		err = va_set(j->ret, "acked",
			     va_int(keys_acked(j->k, j->guest)));
	if (err == 0)
		err = va_set(j->ret, "store",
			     store_name(j));
	if (err == 0)
		err = va_set(j->ret, "next", va_string(j->more ? j->last : ""));
	if (err == 0)
		err = va_set(j->ret, "keys", take_ptr(j->list));
	j->error = err;
}

int keys_list(struct keys *k, const char *guest, const char *pattern,
	      const char *after, enum keys_who who, uint64_t deadline_ns,
	      struct va_value **ret)
{
	struct read_job j = { .guest = (char *)(uintptr_t)guest, .who = who,
			      .pattern = pattern, .after = after };

	return read_now(k, &j, run_list, deadline_ns, ret);
}

/* --- groups ---------------------------------------------------------------- */

/* They come sorted by group. */
static int take_group(void *arg, const struct store_key *key)
{
	struct read_job *j = arg;
	size_t n = va_count(j->ret);
	struct va_value *last = n ? va_item(j->ret, n - 1) : NULL, *v;
	const char *name;

	if (last && va_get_string(va_member(last, "group"), &name) == 0 &&
	    strcmp(name, key->group) == 0) {
		j->error = va_set(last, "keys", va_int((int64_t)++j->count));
		return j->error < 0;
	}
	j->count = 1;
	v = va_struct();
	j->error = va_set(v, "group", va_string(key->group));
	if (j->error == 0)
		j->error = va_set(v, "keys", va_int(1));
	if (j->error < 0) {
		va_value_free(v);
		return 1;
	}
	j->error = va_append(j->ret, v);
	return j->error < 0;
}

static void run_groups(void *arg)
{
	struct read_job *j = arg;
	int err;

	j->ret = va_array();
	err = store_group_keys(j->k->store, take_group, j);
	if (err < 0)
		j->error = err;
}

int keys_groups(struct keys *k, uint64_t deadline_ns, struct va_value **ret)
{
	struct read_job j = { .error = 0 };

	return read_now(k, &j, run_groups, deadline_ns, ret);
}

/* --- changes -------------------------------------------------------------- */

static int take_change(void *arg, const struct store_key *key)
{
	struct read_job *j = arg;

	if (key->revision != j->upto &&
	    (j->bytes > BATCH_BYTES || j->count >= KEYS_LIST_MAX)) {
		j->more = true;
		return 1;
	}
	j->upto = key->revision;
	if ((!key->value && j->since == 0) || !str_glob(j->pattern, key->name))
		return 0;
	if (!visible(j, key)) {
		/* As if it were not there, which it may have been before. */
		const struct store_key gone = { .name = key->name,
						.revision = key->revision };

		if (j->since == 0 || j->who == KEYS_MEMBER)
			return 0;
		j->error = va_append(j->list, key_whole(&gone));
	} else {
		j->error = va_append(j->list, key_whole(key));
	}
	j->count++;
	j->bytes += key->size + strlen(key->name) + KEY_COST;
	return j->error < 0;
}

static int fill_changes(struct read_job *j, const struct store_keys_state *st)
{
	int err = va_set(j->ret, "store", store_name(j));

	if (err == 0)
		err = va_set(j->ret, "revision", va_int((int64_t)j->upto));
	if (err == 0)
		err = va_set(j->ret, "newest", va_int((int64_t)st->revision));
	if (err == 0)
		err = va_set(j->ret, "since", va_int((int64_t)j->since));
	if (err == 0)
		err = va_set(j->ret, "full", va_bool(j->full));
	if (err == 0)
		err = va_set(j->ret, "more", va_bool(j->more));
	return err < 0 ? err : va_set(j->ret, "keys", take_ptr(j->list));
}

static void lead_with_host(struct read_job *j);

static void run_changes(void *arg)
{
	struct read_job *j = arg;
	struct store_keys_state st;
	int err = store_keys_state(j->k->store, j->guest, &st);

	j->list = va_array();
	j->ret = va_struct();
	if (err == 0 && (j->since < st.floor || j->since > st.revision))
		j->since = 0;
	j->full = j->since == 0;
	j->upto = j->since;
	if (err == 0 && j->full && j->fn)
		lead_with_host(j);
	if (err == 0)
		err = store_keys_since(j->k->store, j->guest, j->since,
				       take_change, j);
	if (err == 0)
		err = j->error;
	if (!j->more && j->upto < st.revision)
		j->upto = st.revision;
	if (err == 0)
		err = fill_changes(j, &st);
	if (err == 0)
		keys_note_revision(j->k, j->guest, st.revision);
	j->error = err;
}

int keys_changes(struct keys *k, const char *guest, uint64_t since,
		 const char *pattern, enum keys_who who, uint64_t deadline_ns,
		 struct va_value **ret)
{
	struct read_job j = { .guest = (char *)(uintptr_t)guest, .who = who,
			      .since = since, .pattern = pattern };

	return read_now(k, &j, run_changes, deadline_ns, ret);
}

/* --- for the loop's thread ------------------------------------------------- */

/* host.* keys that lead a full batch: so many, and none larger. */
#define LEAD_MAX 32u
#define LEAD_BYTES 4096u

struct lead {
	char names[LEAD_MAX][KEY_NAME_MAX + 1];
	size_t n;
};

/* They come in the order of names, behind "host.". */
static int take_lead(void *arg, const struct store_key *key)
{
	struct lead *l = arg;

	if (!str_starts(key->name, "host.") || l->n == LEAD_MAX)
		return 1;
	if (key->size <= LEAD_BYTES)
		snprintf(l->names[l->n++], sizeof(l->names[0]), "%s", key->name);
	return 0;
}

static int append_lead(void *arg, const struct store_key *key)
{
	struct read_job *j = arg;

	j->error = key->value ? va_append(j->list, key_whole(key)) : 0;
	return 1;
}

/*
 * A guest that gets everything, as after a move, gets what this host says of
 * itself first: in the order of revisions it would come behind megabytes of other
 * keys.  It comes there once more, which is no change.
 */
static void lead_with_host(struct read_job *j)
{
	struct lead l = { .n = 0 };

	if (store_keys_list(j->k->store, j->guest, "host.", take_lead, &l) < 0)
		return;
	for (size_t i = 0; i < l.n && j->error == 0; i++)
		store_key_get(j->k->store, j->guest, l.names[i], append_lead, j);
}

static void job_free(struct read_job *j)
{
	va_value_free(j->ret);
	va_value_free(j->list);
	free(j->guest);
	free(j);
}

/* Loop's thread again. */
static void finish_fetch(void *arg)
{
	struct read_job *j = arg;

	j->fn(j->arg, j->error < 0 ? NULL : take_ptr(j->ret));
	job_free(j);
}

static void run_fetch(void *arg)
{
	struct read_job *j = arg;

	run_changes(j);
	if (loop_post(j->k->loop, finish_fetch, j) < 0)
		job_free(j);
}

int keys_fetch(struct keys *k, const char *guest, uint64_t since,
	       void (*fn)(void *arg, struct va_value *v), void *arg)
{
	struct read_job *j = calloc(1, sizeof(*j));
	int err;

	if (!j)
		return -ENOMEM;
	*j = (struct read_job){ .k = k, .since = since, .pattern = "*",
				.who = KEYS_GUEST, .fn = fn, .arg = arg,
				.guest = strdup(guest) };
	err = j->guest ? loop_post(store_loop(k->store), run_fetch, j) : -ENOMEM;
	if (err < 0)
		job_free(j);
	return err;
}
