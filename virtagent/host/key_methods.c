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
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/fault.h"
#include "virtagent/host/key_methods_priv.h"

#define STORE_DEADLINE_NS (10 * NSEC_PER_SEC)
#define WATCH_DEFAULT_S 25.0

uint64_t host_kv_deadline(void)
{
	return clock_now() + (uint64_t)(clock_scale() * STORE_DEADLINE_NS);
}

bool host_kv_root(const struct va_call *call)
{
	uid_t uid = call->caller->cred.uid;

	return uid == 0 || uid == geteuid();
}

enum keys_who host_kv_who(const struct va_call *call)
{
	return call->caller->guest ? KEYS_GUEST :
	       host_kv_root(call)	   ? KEYS_ADMIN :
				     KEYS_MEMBER;
}

static int take_group(struct va_call *call, const char *pattern,
		      struct kv_whose *w)
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

int host_kv_guest(struct va_call *call, struct kv_whose *w)
{
	const struct host_context *h = host_context(call);
	const char *own = call->caller->guest, *guest;
	char shown[80];
	int err = va_arg_string(call, 0, "", &guest);

	*w = (struct kv_whose){ .guest = own };
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

int host_kv_failed(struct va_call *call, int err, const struct keys_result *r)
{
	if (r->code)
		return va_fault(call, r->code, -err, "%s: %s",
				call->method->name, r->text);
	return va_fail(call, -err, "%s: %s", call->method->name,
		       r->text[0] ? r->text : strerror(-err));
}

/* --- reading -------------------------------------------------------------- */

static int get_key(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	enum key_owner owner;
	const char *name;
	struct kv_whose w;
	char why[256];
	int err = host_kv_guest(call, &w);

	if (err == 0)
		err = va_arg_string(call, 1, NULL, &name);
	if (err < 0)
		return err;
	if (key_name_check(name, &owner, why, sizeof(why)) < 0)
		return va_fail(call, EINVAL, "%s: %s", call->method->name, why);
	return keys_get(h->keys, w.guest, name, host_kv_who(call), host_kv_deadline(),
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
	struct kv_whose w;
	int err = host_kv_guest(call, &w);

	if (err == 0)
		err = va_arg_string(call, 1, "*", &pattern);
	if (err == 0)
		err = va_arg_string(call, 2, "", &after);
	if (err < 0)
		return err;
	return keys_list(h->keys, w.guest, pattern, after, host_kv_who(call),
			 host_kv_deadline(), ret);
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
		int err = keys_changes(h->keys, guest, from, pattern, host_kv_who(call),
				       host_kv_deadline(), &v);

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
	struct kv_whose w;
	int64_t since;
	int err = host_kv_guest(call, &w);

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
	int err = keys_groups(h->keys, host_kv_deadline(), ret);

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

static const struct va_method methods[] = {
	{
		.name = "host.kv.set",
		.signature = "S:sS|S",
		.args = "GUEST KEYS [OPTIONS]",
		.cls = VA_CLASS_WRITE,
		.fn = host_kv_set,
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
		.fn = host_kv_unset,
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
		.fn = host_kv_export,
		.help = "all keys of a guest, for another host",
		.doc = "As host.kv.watch, at once and with everything.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.kv.import",
		.signature = "i:sA",
		.args = "GUEST KEYS",
		.cls = VA_CLASS_ADMIN,
		.fn = host_kv_import,
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
