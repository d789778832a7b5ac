/*
 * key_methods.c - guest.kv.*: the keys as this guest has them
 *
 * The host pushes; programs of the guest read all keys and set guest.* ones.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/fault.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/keys.h"

#define SYNC_DEFAULT_S 10.0
#define WATCH_DEFAULT_S 25.0

/* The host has the secrets anyhow. */
static bool is_root(const struct va_call *call)
{
	const struct va_caller *c = call->caller;

	return c->remote || c->cred.uid == 0 || c->cred.uid == geteuid();
}

static int need_keys(struct va_call *call, struct keyring **ret)
{
	*ret = guest_context(call)->keys;
	return *ret ? 0 :
		      va_fail(call, EIO, "%s: there is no directory for keys; "
			      "see the agent's log", call->method->name);
}

/* --- from the host ----------------------------------------------------------- */

static int need_host(struct va_call *call)
{
	if (call->caller->remote)
		return 0;
	return va_fault(call, VA_FAULT_REFUSED, EPERM, "%s: only the host "
			"calls this", call->method->name);
}

static int kv_state(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char store[64] = "", vm[40] = "";
	int64_t revision;
	struct keyring *k;
	int r = need_host(call);

	if (r == 0)
		r = need_keys(call, &k);
	if (r < 0)
		return r;
	keyring_state(k, store, vm, &revision);
	keyring_host_there(k);
	v = va_struct();
	guest_set(v, "store", va_string(store), &r);
	guest_set(v, "vm", va_string(vm), &r);
	guest_set(v, "revision", va_int(revision), &r);
	if (r == 0)
		*ret = take_ptr(v);
	return r;
}

static int kv_push(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	int64_t revision = 0;
	char why[400] = "";
	struct keyring *k;
	int r = need_host(call);

	if (r == 0)
		r = need_keys(call, &k);
	if (r < 0)
		return r;
	r = keyring_push(k, va_item(call->params, 0), &revision, why,
			 sizeof(why));
	if (r < 0)
		return va_fail(call, -r, "guest.kv.push: %s",
			       why[0] ? why : strerror(-r));
	v = va_struct();
	guest_set(v, "revision", va_int(revision), &r);
	if (r == 0)
		*ret = take_ptr(v);
	return r;
}

/* --- local ---------------------------------------------------------------------- */

static int sync_sent(struct va_call *call, struct keyring *k,
		     const struct va_value *options, uint64_t seq)
{
	const struct va_value *v = va_member(options, "sync");
	uint64_t deadline;
	char why[256] = "";
	bool sync = false;
	int r;

	if (v && va_get_bool(v, &sync) < 0)
		return va_fail(call, EINVAL, "%s: sync is no boolean",
			       call->method->name);
	if (!sync)
		return 0;
	r = key_option_deadline(call, va_member(options, "timeout"),
				SYNC_DEFAULT_S, &deadline);
	if (r < 0)
		return r;
	r = keyring_wait_sent(k, seq, call->cancel_fd, deadline, why,
			      sizeof(why));
	if (r == -EREMOTEIO)
		return va_fault(call, VA_FAULT_REFUSED, EREMOTEIO,
				"%s: set here, but the host refused it: %s",
				call->method->name, why);
	if (r == -ETIMEDOUT)
		return va_fault(call, VA_FAULT_TIMEOUT, ETIMEDOUT,
				"%s: set here, but the host has not acknowledged "
				"it in time", call->method->name);
	return r;
}

static int change(struct va_call *call, struct va_value **ret)
{
	const struct va_value *options = va_item(call->params, 1);
	CLEANUP_FREE struct key_change *changes = NULL;
	int64_t if_revision;
	char why[400] = "";
	struct keyring *k;
	uint64_t seq;
	size_t n;
	int r;

	if (call->caller->remote)
		return va_fault(call, VA_FAULT_REFUSED, EPERM, "%s: the host "
				"sets keys by host.kv.set", call->method->name);
	r = need_keys(call, &k);
	if (r == 0)
		r = key_changes_get(call, 0, &changes, &n);
	if (r == 0)
		r = key_option_int(call, options, "if_revision", -1, 0,
				   &if_revision);
	if (r < 0)
		return r;
	r = keyring_set(k, changes, n, if_revision, &seq, why, sizeof(why));
	if (r < 0)
		return va_fail(call, -r, "%s: %s", call->method->name,
			       why[0] ? why : strerror(-r));
	r = sync_sent(call, k, options, seq);
	if (r < 0)
		return r;
	*ret = va_bool(true);
	return *ret ? 0 : -ENOMEM;
}

static int get_key(struct va_call *call, struct va_value **ret)
{
	enum key_owner owner;
	struct keyring *k;
	const char *name;
	char why[256];
	int r = need_keys(call, &k);

	if (r == 0)
		r = va_arg_string(call, 0, NULL, &name);
	if (r < 0)
		return r;
	if (key_name_check(name, &owner, why, sizeof(why)) < 0)
		return va_fail(call, EINVAL, "%s: %s", call->method->name, why);
	return keyring_get(k, name, is_root(call), ret);
}

static int kv_get(struct va_call *call, struct va_value **ret)
{
	const char *name = "";
	int r = get_key(call, ret);

	if (r == 0 || call->fault.code)
		return r;
	va_get_string(va_item(call->params, 0), &name);
	return va_fail(call, -r, "guest.kv.get: key %s: %s", name,
		       r == -ENOENT ? "there is none" : strerror(-r));
}

static int kv_exists(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	int r = get_key(call, &v);

	if (r < 0 && (r != -ENOENT || call->fault.code))
		return r;
	*ret = va_bool(r == 0);
	return *ret ? 0 : -ENOMEM;
}

static int kv_list(struct va_call *call, struct va_value **ret)
{
	const char *pattern, *after;
	struct keyring *k;
	int r = need_keys(call, &k);

	if (r == 0)
		r = va_arg_string(call, 0, "*", &pattern);
	if (r == 0)
		r = va_arg_string(call, 1, "", &after);
	return r < 0 ? r : keyring_list(k, pattern, after, ret);
}

static int kv_watch(struct va_call *call, struct va_value **ret)
{
	const char *pattern;
	struct keyring *k;
	uint64_t deadline;
	int64_t since;
	int r = need_keys(call, &k);

	if (r == 0)
		r = va_arg_string(call, 0, "*", &pattern);
	if (r == 0)
		r = va_arg_int(call, 1, -1, -1, INT64_MAX, &since);
	if (r == 0)
		r = key_option_deadline(call, va_item(call->params, 2),
					WATCH_DEFAULT_S, &deadline);
	if (r < 0)
		return r;
	return keyring_watch(k, pattern, since, is_root(call), call->cancel_fd,
			     deadline, ret);
}

static const struct va_method rows[] = {
	{
		.name = "guest.kv.state",
		.signature = "S:",
		.args = "",
		.cls = VA_CLASS_READ,
		.fn = kv_state,
		.help = "Which keys of its host the guest has (for va-hostd).",
		.doc = "A struct: store (the id of the host's store), revision, "
		       "vm (the virtual machine's uuid, as a host said, or "
		       "\"\").  Only the host may call it.",
		.flags = VA_M_IDEMPOTENT | VA_M_QUIET,
	},
	{
		.name = "guest.kv.push",
		.signature = "S:S",
		.args = "BATCH",
		.cls = VA_CLASS_WRITE,
		.fn = kv_push,
		.help = "The host's keys come in (for va-hostd).",
		.doc = "BATCH as host.kv.watch returns it, and vm, the virtual "
		       "machine's uuid where it is known: when that is another "
		       "one than before, the guest is a clone, and its guest.* "
		       "keys go.  The guest has it, in memory and as files, "
		       "when this returns: a struct with revision.  Only the "
		       "host may call it.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "guest.kv.set",
		.signature = "b:S|S",
		.args = "KEYS [OPTIONS]",
		.cls = VA_CLASS_WRITE,
		.fn = change,
		.help = "A program of the guest sets guest.* keys, all or none.",
		.doc = "KEYS is a struct of names and values (strings or base64, "
		       "1 MiB each at most, 2 MiB in all).  They are in the "
		       "guest's files at once and go to the host when it is "
		       "there.  OPTIONS, a struct: sync (wait until the host "
		       "has them), timeout (seconds of that, 10), if_revision "
		       "(the host's revision of each key; 0 = absent, or not "
		       "sent yet).  Refused to the host, which has host.kv.set.",
	},
	{
		.name = "guest.kv.unset",
		.signature = "b:A|S",
		.args = "KEYS [OPTIONS]",
		.cls = VA_CLASS_WRITE,
		.fn = change,
		.help = "A program of the guest removes guest.* keys.",
		.doc = "KEYS is an array of names; one that is not there is no "
		       "error.  OPTIONS as in guest.kv.set.",
	},
	{
		.name = "guest.kv.get",
		.signature = "S:s",
		.args = "KEY",
		.cls = VA_CLASS_READ,
		.fn = kv_get,
		.raw = "value",
		.help = "A key's value, as the guest has it.",
		.doc = "A struct: name, value (base64), revision, size, sent "
		       "(whether the host has what was set here), read, write, "
		       "secret, lifetime.  Fault 1002 when there is none, or "
		       "when it is secret and the caller is not root.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "guest.kv.exists",
		.signature = "b:s",
		.args = "KEY",
		.cls = VA_CLASS_READ,
		.fn = kv_exists,
		.help = "Is there such a key?",
		.doc = "An empty value is there.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "guest.kv.list",
		.signature = "S:|ss",
		.args = "[PATTERN [AFTER]]",
		.cls = VA_CLASS_READ,
		.fn = kv_list,
		.help = "The guest's keys, without values.",
		.doc = "PATTERN has *, ? and [a-z].  A struct: store, revision "
		       "(the host's, of which this guest has everything), keys "
		       "(structs as of guest.kv.get, without value; secret ones "
		       "are left out), next (AFTER of the next call, \"\" at the "
		       "end; 1000 a call).",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "guest.kv.watch",
		.signature = "S:|six",
		.args = "[PATTERN [SINCE [TIMEOUT]]]",
		.cls = VA_CLASS_READ,
		.fn = kv_watch,
		.help = "Waits for a change of the guest's keys.",
		.doc = "With SINCE -1 (the default) the keys as they are now, at "
		       "once; with a number what changed since, as soon as there "
		       "is something, or no keys after TIMEOUT seconds (25).  A "
		       "struct as host.kv.watch returns it; its revision, SINCE "
		       "of the next call, is this agent's own count.",
		.flags = VA_M_IDEMPOTENT | VA_M_QUIET,
	},
};

const struct va_family guest_keys_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
