/*
 * key_methods.c - host.kv.*: keys, for this host's clients and for guests
 *
 * Each takes the guest's name first; a guest gives its own or "".  A local client
 * may give "group:PATTERN", which is no guest's name: keys of a group of guests.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/fault.h"
#include "virtagent/host/host.h"
#include "virtagent/host/keys.h"

#define STORE_DEADLINE_NS (10 * NSEC_PER_SEC)
#define SYNC_DEFAULT_S 10.0
/* A guest's word moves its own revisions no further: XML-RPC's old ints still hold
 * them then. */
#define SHOWN_REVISION_MAX (1 << 30)
#define WATCH_DEFAULT_S 25.0

static uint64_t store_deadline(void)
{
	return clock_now() + (uint64_t)(clock_scale() * STORE_DEADLINE_NS);
}

static bool is_root(const struct va_call *call)
{
	uid_t uid = call->caller->cred.uid;

	return uid == 0 || uid == geteuid();
}

static enum keys_who who(const struct va_call *call)
{
	return call->caller->guest ? KEYS_GUEST :
	       is_root(call)	   ? KEYS_ADMIN :
				     KEYS_MEMBER;
}

/* Whose keys a call is about. */
struct whose {
	const char *guest; /* as the store names it */
	bool group;
	char name[1 + KEYS_PATTERN_MAX + 1];
};

static int take_group(struct va_call *call, const char *pattern,
		      struct whose *w)
{
	size_t n = strlen(pattern);

	if (n == 0 || n > KEYS_PATTERN_MAX || !str_is_clean_text(pattern, n, ""))
		return va_fail(call, EINVAL, "%s: a group's pattern of %zu bytes;"
			       " 1 to %u of text are allowed",
			       call->method->name, n, KEYS_PATTERN_MAX);
	snprintf(w->name, sizeof(w->name), "%c%s", STORE_GROUP, pattern);
	w->guest = w->name;
	w->group = true;
	return 0;
}

/* Parameter 0. */
static int take_guest(struct va_call *call, struct whose *w)
{
	const struct host_context *h = host_context(call);
	const char *own = call->caller->guest, *guest;
	char shown[80];
	int err = va_arg_string(call, 0, "", &guest);

	*w = (struct whose){ .guest = own };
	if (err < 0 || (own && (!*guest || strcmp(own, guest) == 0)))
		return err;
	if (!own && str_starts(guest, KEYS_GROUP_WORD))
		return take_group(call, guest + strlen(KEYS_GROUP_WORD), w);
	w->guest = guest;
	err = own ? -ENOENT : h->ops->known(h->arg, guest);
	if (err == 0)
		return 0;
	log_escape(shown, sizeof(shown), guest, strlen(guest));
	if (err == -ENOENT)
		return va_fail(call, ENODEV, "%s: no guest \"%s\"",
			       call->method->name, shown);
	return va_fail(call, -err, "%s: the daemon is busy",
		       call->method->name);
}

static int failed(struct va_call *call, int err, const struct keys_result *r)
{
	if (r->code)
		return va_fault(call, r->code, -err, "%s: %s",
				call->method->name, r->text);
	return va_fail(call, -err, "%s: %s", call->method->name,
		       r->text[0] ? r->text : strerror(-err));
}

/* --- changing ------------------------------------------------------------- */

/* As wait_synced(). */
static int wait_group(struct va_call *call, const struct whose *w,
		      uint64_t revision, uint64_t deadline)
{
	const struct host_context *h = host_context(call);
	char name[80];
	size_t missing;
	int err = keys_wait_group(h->keys, w->guest + 1, call->cancel_fd,
				  deadline, &missing, name, sizeof(name));

	if (err == -ETIMEDOUT)
		return va_fault(call, VA_FAULT_TIMEOUT, ETIMEDOUT,
				"%s: kept as revision %llu of the group, but %zu "
				"guests have not acknowledged it in time, among "
				"them %s", call->method->name,
				(unsigned long long)revision, missing, name);
	return err;
}

/* sync: until the guest has it, by its acknowledgement. */
static int wait_synced(struct va_call *call, const struct va_value *options,
		       const struct whose *w, uint64_t revision)
{
	const struct host_context *h = host_context(call);
	const struct va_value *v = va_member(options, "sync");
	uint64_t deadline;
	bool sync = false;
	int err;

	if (v && va_get_bool(v, &sync) < 0)
		return va_fail(call, EINVAL, "%s: sync is no boolean",
			       call->method->name);
	if (!sync)
		return 0;
	err = key_option_deadline(call, va_member(options, "timeout"),
				  SYNC_DEFAULT_S, &deadline);
	if (err < 0)
		return err;
	if (w->group)
		return wait_group(call, w, revision, deadline);
	err = keys_wait(h->keys, w->guest, revision, true, call->cancel_fd,
			deadline);
	if (err == -ETIMEDOUT)
		return va_fault(call, VA_FAULT_TIMEOUT, ETIMEDOUT,
				"%s: kept as revision %llu, but guest %s has not "
				"acknowledged it in time", call->method->name,
				(unsigned long long)revision, w->guest);
	return err;
}

/* {revision, changed, guests: of a group} */
static int tell_change(const struct whose *w, const struct keys_result *r,
		       struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	int err = va_set(v, "revision", va_int((int64_t)r->revision));

	if (err == 0)
		err = va_set(v, "changed", va_int((int64_t)r->changed));
	if (err == 0 && w->group)
		err = va_set(v, "guests", va_int((int64_t)r->guests));
	if (err == 0)
		*ret = take_ptr(v);
	return err;
}

/* A guest says which machine its keys are of; that goes into *ret. */
static int check_vm(struct va_call *call, const struct va_value *options,
		    const char *guest, const char **ret)
{
	const struct host_context *h = host_context(call);
	const char *vm = "";
	char known[40];

	va_get_string(va_member(options, "vm"), &vm);
	*ret = vm;
	keys_vm(h->keys, guest, known);
	if (!*vm || !known[0] || strcmp(vm, known) == 0)
		return 0;
	return va_fault(call, VA_FAULT_REFUSED, EPERM, "%s: keys of the virtual "
			"machine %.40s; this one is %s", call->method->name, vm,
			known);
}

/* What it had on another host keeps its revision, if that is free here. */
static void take_revisions(const struct va_value *options,
			   struct key_change *changes, size_t n)
{
	const struct va_value *list = va_member(options, "revisions");
	int64_t revision;

	for (size_t i = 0; i < n; i++) {
		if (changes[i].owner == KEY_OF_GUEST &&
		    va_get_int(va_member(list, changes[i].name),
			       &revision) == 0 &&
		    revision > 0 && revision < SHOWN_REVISION_MAX)
			changes[i].revision = (uint64_t)revision;
	}
}

static int change(struct va_call *call, bool with_flags, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	const struct va_value *options = va_item(call->params, 2);
	CLEANUP_FREE struct key_change *changes = NULL;
	struct keys_set set = { .who = who(call), .flags = KEY_READ };
	struct keys_result result;
	struct whose w;
	int err = take_guest(call, &w);

	if (err == 0)
		err = key_changes_get(call, 1, &changes, &set.n);
	if (err == 0)
		err = key_option_int(call, options, "if_revision", -1, 0,
				     &set.if_revision);
	if (err == 0 && with_flags)
		err = key_flags_get(call, options, &set.flags, &set.set_flags);
	if (err < 0)
		return err;
	if (set.who == KEYS_GUEST) {
		err = check_vm(call, options, w.guest, &set.vm);
		take_revisions(options, changes, set.n);
	}
	if (err < 0)
		return err;
	if (w.group && (set.flags & (KEY_POWEROFF | KEY_RESET)))
		return va_fail(call, EINVAL, "%s: a group's keys are persistent; "
			       "no other lifetime", call->method->name);
	set.guest = w.guest;
	set.changes = changes;
	err = keys_set(h->keys, &set, store_deadline(), &result);
	if (err < 0)
		return failed(call, err, &result);
	err = wait_synced(call, options, &w, result.revision);
	return err < 0 ? err : tell_change(&w, &result, ret);
}

static int kv_set(struct va_call *call, struct va_value **ret)
{
	return change(call, true, ret);
}

static int kv_unset(struct va_call *call, struct va_value **ret)
{
	return change(call, false, ret);
}

/* --- reading -------------------------------------------------------------- */

static int get_key(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	enum key_owner owner;
	const char *name;
	struct whose w;
	char why[256];
	int err = take_guest(call, &w);

	if (err == 0)
		err = va_arg_string(call, 1, NULL, &name);
	if (err < 0)
		return err;
	if (key_name_check(name, &owner, why, sizeof(why)) < 0)
		return va_fail(call, EINVAL, "%s: %s", call->method->name, why);
	return keys_get(h->keys, w.guest, name, who(call), store_deadline(),
			ret);
}

static int kv_get(struct va_call *call, struct va_value **ret)
{
	const char *name = "";
	int err = get_key(call, ret);

	if (err == 0 || call->fault.code)
		return err;
	va_get_string(va_item(call->params, 1), &name);
	return va_fail(call, -err, "%s: key %s: %s", call->method->name, name,
		       err == -ENOENT ? "there is none" : strerror(-err));
}

static int kv_exists(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	int err = get_key(call, &v);

	if (err < 0 && (err != -ENOENT || call->fault.code))
		return err;
	*ret = va_bool(err == 0);
	return *ret ? 0 : -ENOMEM;
}

static int kv_list(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	const char *pattern, *after;
	struct whose w;
	int err = take_guest(call, &w);

	if (err == 0)
		err = va_arg_string(call, 1, "*", &pattern);
	if (err == 0)
		err = va_arg_string(call, 2, "", &after);
	if (err < 0)
		return err;
	return keys_list(h->keys, w.guest, pattern, after, who(call),
			 store_deadline(), ret);
}

/* Asks until something matches or time is up. */
static int watch(struct va_call *call, const char *guest, const char *pattern,
		 int64_t since, uint64_t deadline, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	bool now = since < 0;
	uint64_t from = now ? 0 : (uint64_t)since;

	for (;;) {
		CLEANUP_VALUE struct va_value *v = NULL;
		int64_t upto = 0;
		int err = keys_changes(h->keys, guest, from, pattern, who(call),
				       store_deadline(), &v);

		if (err < 0)
			return va_fail(call, -err, "%s: %s", call->method->name,
				       strerror(-err));
		va_get_int(va_member(v, "revision"), &upto);
		if (now || clock_now() >= deadline ||
		    va_count(va_member(v, "keys"))) {
			*ret = take_ptr(v);
			return 0;
		}
		from = (uint64_t)upto;
		err = keys_wait(h->keys, guest, from, false, call->cancel_fd,
				deadline);
		if (err < 0 && err != -ETIMEDOUT)
			return err;
	}
}

static int kv_watch(struct va_call *call, struct va_value **ret)
{
	const char *pattern;
	uint64_t deadline;
	struct whose w;
	int64_t since;
	int err = take_guest(call, &w);

	if (err == 0)
		err = va_arg_string(call, 1, "*", &pattern);
	if (err == 0)
		err = va_arg_int(call, 2, -1, -1, INT64_MAX, &since);
	if (err == 0)
		err = key_option_deadline(call, va_item(call->params, 3),
					  WATCH_DEFAULT_S, &deadline);
	return err < 0 ? err : watch(call, w.guest, pattern, since, deadline,
				     ret);
}

static int kv_groups(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	int err = keys_groups(h->keys, store_deadline(), ret);

	return err < 0 ? va_fail(call, -err, "%s: %s", call->method->name,
				 strerror(-err)) : 0;
}

static int kv_refresh(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	const char *own = call->caller->guest;

	if (own)
		h->ops->refresh_keys(h->arg, own);
	*ret = va_bool(own != NULL);
	return *ret ? 0 : -ENOMEM;
}

/* --- a move to another host ------------------------------------------------ */

static int kv_export(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	struct whose w;
	int64_t since;
	int err = take_guest(call, &w);

	if (err == 0)
		err = va_arg_int(call, 1, 0, 0, INT64_MAX, &since);
	if (err < 0)
		return err;
	return keys_changes(h->keys, w.guest, (uint64_t)since, "*",
			    is_root(call) ? KEYS_IMPORT : KEYS_MEMBER,
			    store_deadline(), ret);
}

static int take_import(struct va_call *call, const struct va_value *key,
		       struct key_change *c)
{
	int64_t revision;
	char why[256];
	bool given;
	int err;

	c->name = "";
	if (va_get_string(va_member(key, "name"), &c->name) < 0 ||
	    key_name_check(c->name, &c->owner, why, sizeof(why)) < 0 ||
	    va_get_bytes(va_member(key, "value"), &c->value, &c->size) < 0)
		return va_fail(call, EINVAL, "host.kv.import: key \"%s\": no "
			       "name, or no value", c->name);
	if (!c->value)
		c->value = "";
	if (c->size > KEY_VALUE_MAX)
		return va_fault(call, VA_FAULT_LIMIT, EMSGSIZE, "host.kv.import: "
				"key %s: the value has %zu bytes; the limit is "
				"%u", c->name, c->size, KEY_VALUE_MAX);
	c->flags = KEY_READ;
	c->given = va_member(key, "group") != NULL;
	err = key_option_int(call, key, "revision", 0, 0, &revision);
	if (err == 0)
		err = key_flags_get(call, key, &c->flags, &given);
	/* Leaves the revisions room to grow. */
	c->revision = revision < INT64_MAX / 2 ? (uint64_t)revision : 0;
	return err;
}

static int kv_import(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	const struct va_value *keys = va_item(call->params, 1);
	CLEANUP_FREE struct key_change *changes =
		calloc(va_count(keys) + 1, sizeof(*changes));
	struct keys_set set = { .who = KEYS_IMPORT, .changes = changes,
				.if_revision = -1 };
	struct keys_result result;
	struct whose w;
	int err = changes ? take_guest(call, &w) : -ENOMEM;

	if (err == 0 && !is_root(call))
		err = va_fail(call, EPERM, "%s: it is for root and the daemon's "
			      "user", call->method->name);

	for (size_t i = 0; err == 0 && i < va_count(keys); i++) {
		err = take_import(call, va_item(keys, i), &changes[set.n]);
		if (changes[set.n].owner != KEY_OF_HOST)
			set.n++;
	}
	if (err < 0)
		return err;
	set.guest = w.guest;
	err = keys_set(h->keys, &set, store_deadline(), &result);
	if (err < 0)
		return failed(call, err, &result);
	*ret = va_int((int64_t)result.changed);
	return *ret ? 0 : -ENOMEM;
}

static const struct va_method methods[] = {
	{
		.name = "host.kv.set",
		.signature = "S:sS|S",
		.args = "GUEST KEYS [OPTIONS]",
		.cls = VA_CLASS_WRITE,
		.fn = kv_set,
		.help = "sets keys of a guest, all or none",
		.doc = "KEYS is a struct of names and values (strings or "
		       "base64, 1 MiB each at most, 2 MiB in all).  OPTIONS, a "
		       "struct: if_revision (set only if each key has this "
		       "revision; 0 = is absent; else fault 1011), sync (wait "
		       "until the guest has it), timeout (seconds of that, 10), "
		       "read, write (the guest may), secret, lifetime "
		       "(persistent, poweroff, reset).  Returns a struct: "
		       "revision, changed (how many keys).  GUEST may be "
		       "group:PATTERN here and in the other host.kv methods: "
		       "user.* keys of all guests whose name matches (* = all), "
		       "for those that have no such key of their own; where "
		       "several groups match, the longest pattern wins.  "
		       "Returned then, too: guests (how many got it); sync "
		       "waits for all of them.  For va-agent: vm (the uuid of "
		       "the virtual machine that the keys are of), revisions (a "
		       "struct of names and the revisions that guest.* keys had "
		       "on another host).",
	},
	{
		.name = "host.kv.unset",
		.signature = "S:sA|S",
		.args = "GUEST KEYS [OPTIONS]",
		.cls = VA_CLASS_WRITE,
		.fn = kv_unset,
		.help = "removes keys of a guest",
		.doc = "KEYS is an array of names; one that is not there is no "
		       "error.  OPTIONS: if_revision, sync, timeout as in "
		       "host.kv.set.  Returns a struct: revision, changed.",
	},
	{
		.name = "host.kv.get",
		.signature = "S:ss",
		.args = "GUEST KEY",
		.cls = VA_CLASS_READ,
		.fn = kv_get,
		.raw = "value",
		.help = "a key's value",
		.doc = "Returns a struct: name, value (base64), revision, size, "
		       "read, write, secret, lifetime, group (where a group of "
		       "guests gives it).  Fault 1002 when there is none, or "
		       "none for this caller: secret ones are for root and the "
		       "daemon's user.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.kv.exists",
		.signature = "b:ss",
		.args = "GUEST KEY",
		.cls = VA_CLASS_READ,
		.fn = kv_exists,
		.help = "is there such a key?",
		.doc = "An empty value is there.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.kv.list",
		.signature = "S:s|ss",
		.args = "GUEST [PATTERN [AFTER]]",
		.cls = VA_CLASS_READ,
		.fn = kv_list,
		.help = "a guest's keys, without values",
		.doc = "PATTERN has *, ? and [a-z].  Returns a struct: revision, "
		       "acked (the revision the guest has, -1 = not known), "
		       "store (an id), keys (structs of name, revision, size "
		       "and rights; secret ones are left out), next (AFTER of "
		       "the next call, \"\" at the end; 1000 a call).",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.kv.watch",
		.signature = "S:s|six",
		.args = "GUEST [PATTERN [SINCE [TIMEOUT]]]",
		.cls = VA_CLASS_READ,
		.fn = kv_watch,
		.help = "waits for a change of a guest's keys",
		.doc = "With SINCE -1 (the default) the keys as they are now, "
		       "at once; with a revision what changed since, as soon "
		       "as there is something, or no keys after TIMEOUT seconds "
		       "(25).  Returns a struct: store, revision (SINCE of the "
		       "next call), newest, full (these are all the keys), more "
		       "(ask again at once), keys (structs as of host.kv.get, "
		       "or name, revision and removed).",
		.flags = VA_M_IDEMPOTENT | VA_M_QUIET,
	},
	{
		.name = "host.kv.groups",
		.signature = "A:",
		.args = "",
		.cls = VA_CLASS_ADMIN,
		.fn = kv_groups,
		.help = "the groups of guests that keys are set for",
		.doc = "Returns an array of structs: group (its pattern), keys "
		       "(how many).",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.kv.refresh",
		.signature = "b:",
		.args = "",
		.cls = VA_CLASS_INFO,
		.fn = kv_refresh,
		.help = "a guest asks for its keys",
		.doc = "The host then calls guest.kv.state and guest.kv.push.",
		.flags = VA_M_IDEMPOTENT | VA_M_QUIET,
	},
	{
		.name = "host.kv.export",
		.signature = "S:s|i",
		.args = "GUEST [SINCE]",
		.cls = VA_CLASS_ADMIN,
		.fn = kv_export,
		.help = "all keys of a guest, for another host",
		.doc = "As host.kv.watch, at once and with everything.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.kv.import",
		.signature = "i:sA",
		.args = "GUEST KEYS",
		.cls = VA_CLASS_ADMIN,
		.fn = kv_import,
		.help = "takes keys over that another host exported",
		.doc = "KEYS as host.kv.export gave them, in their order; "
		       "host.* ones are passed over; all or none.  A key keeps "
		       "its revision, or gets a later one where this guest's "
		       "was later already.  Returns how many changed.",
		.flags = VA_M_IDEMPOTENT,
	},
};

const struct va_family host_keys_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
