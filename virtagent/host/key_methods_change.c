/*
 * key_methods_change.c - host.kv.set and host.kv.unset
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "virtagent/fault.h"
#include "virtagent/host/key_methods_priv.h"

#define SYNC_DEFAULT_S 10.0
/* A guest's word moves its own revisions no further: XML-RPC's old ints still hold
 * them then. */
#define SHOWN_REVISION_MAX (1 << 30)

/* As wait_synced(). */
static int wait_group(struct va_call *call, const struct kv_whose *w,
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
		       const struct kv_whose *w, uint64_t revision)
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
static int tell_change(const struct kv_whose *w, const struct keys_result *r,
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
	struct keys_set set = { .who = host_kv_who(call), .flags = KEY_READ };
	struct keys_result result;
	struct kv_whose w;
	int err = host_kv_guest(call, &w);

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
	err = keys_set(h->keys, &set, host_kv_deadline(), &result);
	if (err < 0)
		return host_kv_failed(call, err, &result);
	err = wait_synced(call, options, &w, result.revision);
	return err < 0 ? err : tell_change(&w, &result, ret);
}

int host_kv_set(struct va_call *call, struct va_value **ret)
{
	return change(call, true, ret);
}

int host_kv_unset(struct va_call *call, struct va_value **ret)
{
	return change(call, false, ret);
}
