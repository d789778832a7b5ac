/*
 * keys.c - changing the host's keys
 *
 * A change is one transaction on the store's thread: rights, if_revision and
 * limits are looked at there, under nobody else's feet, so a call is done whole
 * or not at all, and what was answered is on disk.  A key that has the value
 * already takes no new revision.
 *
 * host.* is computed by va-hostd and kept with the rest, so that its revisions,
 * too, survive a restart.  What a change of a group means for the guests in it is
 * in keys_groups.c.
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

/* What is there of a key before it is changed. */
struct present {
	bool there;
	uint64_t revision;
	unsigned flags;
	size_t size;
	char group[KEYS_GROUP_SIZE]; /* that gives it; "" = its own */
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
	snprintf(p->group, sizeof(p->group), "%s", key->group ? key->group : "");
	p->same = p->there ? p->wanted->value && key->size == p->wanted->size &&
				     memcmp(key->value, p->wanted->value,
					    key->size) == 0 :
			     !p->wanted->value;
	return 0;
}

static int find_present(struct keys_set_job *j, const struct key_change *c,
			struct present *p)
{
	int err;

	*p = (struct present){ .wanted = c, .same = !c->value };
	p->flags = KEY_READ;
	err = store_key_get(j->k->store, j->set->guest, c->name, look, p);
	return err == -ENOENT ? 0 : err;
}

static int deny(struct keys_set_job *j, const char *name, const char *why)
{
	snprintf(j->result->text, sizeof(j->result->text), "key %s: %s", name,
		 why);
	j->result->code = VA_FAULT_REFUSED;
	return -EACCES;
}

static int check_right(struct keys_set_job *j, const struct key_change *c,
		       const struct present *p)
{
	enum keys_who who = j->set->who;

	if (who == KEYS_DAEMON)
		return 0;
	if (keys_is_group(j->set->guest) && c->owner != KEY_OF_USER)
		return deny(j, c->name, "groups of guests have user.* keys only");
	if (c->owner == KEY_OF_HOST)
		return deny(j, c->name, "the host computes it; nobody sets it");
	if (who == KEYS_IMPORT)
		return 0;
	if (p->group[0] && !c->value) {
		char why[KEYS_GROUP_SIZE + 80];

		snprintf(why, sizeof(why), "the group %s gives it; it can be "
			 "unset there", p->group);
		return deny(j, c->name, why);
	}
	if (who == KEYS_GUEST && c->owner == KEY_OF_USER &&
	    !(p->there && (p->flags & KEY_WRITE)))
		return deny(j, c->name, "the guest may not write it");
	if (who == KEYS_MEMBER && p->there && (p->flags & KEY_SECRET))
		return deny(j, c->name, "it is secret");
	if (who != KEYS_GUEST && c->owner == KEY_OF_GUEST && c->value)
		return deny(j, c->name, "the guest writes it, not the host");
	return 0;
}

static int check_revision(struct keys_set_job *j, const struct key_change *c,
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

static int check_quota(struct keys_set_job *j, const struct key_change *c,
		       const struct present *p)
{
	size_t head = strlen(c->name) + KEY_COST;

	if (p->there && !p->group[0])
		j->usage -= head + p->size;
	if (!c->value)
		return 0;
	j->usage += head + c->size;
	if (j->usage <= KEYS_GUEST_MAX)
		return 0;
	snprintf(j->result->text, sizeof(j->result->text),
		 "key %s: with its %zu bytes %s%.64s has %llu bytes of keys; "
		 "the limit is %u", c->name, c->size,
		 keys_is_group(j->set->guest) ? "the groups' total, with "
						"group " : "guest ",
		 keys_shown(j->set->guest), (unsigned long long)j->usage,
		 KEYS_GUEST_MAX);
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

static int change_one(struct keys_set_job *j, const struct key_change *c,
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
	if (p.same && (!c->value || (key.flags == p.flags && !p.group[0])))
		return 0;
	/* Both hosts have it by a group: this one's say what it is. */
	if (c->given && p.group[0]) {
		if (!p.same || revision <= p.revision)
			return 0;
		key.group = p.group;
		key.flags = p.flags;
	}
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

int keys_trim_removed(struct keys *k, const char *guest,
		      struct store_keys_state *st)
{
	unsigned count = 0;
	int err = store_keys_since(k->store, guest, st->floor, count_removed,
				   &count);

	if (err < 0 || count <= REMOVED_MAX)
		return err;
	st->floor = st->revision;
	return store_keys_forget(k->store, guest, st->revision);
}

/*
 * A guest that comes with keys says which machine they are of.  While the host does
 * not know which one this is (QEMU may answer later than the guest), that is noted:
 * keys_set_vm() then drops what is another's.
 */
static int take_claim(struct keys_set_job *j)
{
	const char *vm = j->set->vm;
	char known[40];

	if (!vm || !*vm || strlen(vm) >= sizeof(j->state.vm))
		return 0;
	if (!j->state.vm[0])
		snprintf(j->state.vm, sizeof(j->state.vm), "%s", vm);
	/* It was known by the time the store came to this? */
	keys_vm(j->k, j->set->guest, known);
	if (!known[0] || strcmp(known, vm) == 0)
		return 0;
	snprintf(j->result->text, sizeof(j->result->text),
		 "keys of the virtual machine %.40s; this one is %s", vm, known);
	j->result->code = VA_FAULT_REFUSED;
	return -EACCES;
}

static int change_all(struct keys_set_job *j)
{
	const struct keys_set *set = j->set;
	struct store *s = j->k->store;
	bool removes = false;
	uint64_t first, next;
	size_t given = 0;
	int err = store_keys_state(s, set->guest, &j->state);

	if (err == 0)
		err = take_claim(j);
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
	/* What a group gives shows again where the guest's own key went. */
	for (size_t i = 0; err == 0 && i < set->n; i++) {
		if (!set->changes[i].value && !keys_is_group(set->guest))
			err = keys_give(j->k, set->guest, set->changes[i].name,
					next, NULL, &given);
	}
	if (err == 0 && removes)
		err = keys_trim_removed(j->k, set->guest, &j->state);
	if (err == 0)
		err = store_keys_set_state(s, set->guest, &j->state);
	if (err == 0 && keys_is_group(set->guest))
		err = keys_give_group(j);
	return err;
}

/* Store's thread. */
void keys_run_set(void *arg)
{
	struct keys_set_job *j = arg;
	struct store *s = j->k->store;
	int err = store_keys_begin(s);

	if (err == 0) {
		err = change_all(j);
		if (err == 0)
			err = store_keys_commit(s);
		else
			store_keys_rollback(s);
	}
	if (err < 0)
		keys_forget_given(j);
	j->error = err;
	if (err < 0) {
		j->result->changed = j->result->guests = 0;
		if (!j->result->text[0])
			snprintf(j->result->text, sizeof(j->result->text),
				 "not kept: %s", store_trouble(s) ?
				 store_trouble(s) : strerror(-err));
		return;
	}
	j->result->revision = j->state.revision;
	keys_note_revision(j->k, j->set->guest, j->state.revision);
	keys_note_given(j);
}

int keys_set(struct keys *k, const struct keys_set *set, uint64_t deadline_ns,
	     struct keys_result *result)
{
	struct keys_set_job j = { .k = k, .set = set, .result = result };
	int err;

	*result = (struct keys_result){ 0 };
	err = loop_call(store_loop(k->store), keys_run_set, &j, deadline_ns);
	if (err < 0)
		snprintf(result->text, sizeof(result->text),
			 "the host's store does not answer");
	return err < 0 ? err : j.error;
}
