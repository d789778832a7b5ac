/*
 * key_methods_move.c - host.kv.export and host.kv.import: a guest that moves to
 * another host
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "virtagent/fault.h"
#include "virtagent/host/key_methods_priv.h"

int host_kv_export(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	struct kv_whose w;
	int64_t since;
	int err = host_kv_guest(call, &w);

	if (err == 0)
		err = va_arg_int(call, 1, 0, 0, INT64_MAX, &since);
	if (err < 0)
		return err;
	return keys_changes(h->keys, w.guest, (uint64_t)since, "*",
			    host_kv_root(call) ? KEYS_IMPORT : KEYS_MEMBER,
			    host_kv_deadline(), ret);
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

int host_kv_import(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	const struct va_value *keys = va_item(call->params, 1);
	CLEANUP_FREE struct key_change *changes =
		calloc(va_count(keys) + 1, sizeof(*changes));
	struct keys_set set = { .who = KEYS_IMPORT, .changes = changes,
				.if_revision = -1 };
	struct keys_result result;
	struct kv_whose w;
	int err = changes ? host_kv_guest(call, &w) : -ENOMEM;

	if (err == 0 && !host_kv_root(call))
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
	err = keys_set(h->keys, &set, host_kv_deadline(), &result);
	if (err < 0)
		return host_kv_failed(call, err, &result);
	*ret = va_int((int64_t)result.changed);
	return *ret ? 0 : -ENOMEM;
}
