/*
 * keys_common.c - what both sides hold true of keys
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/fault.h"
#include "virtagent/keys_common.h"

#define KEY_WAIT_MAX_S 3600.0

static const char name_bytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				 "abcdefghijklmnopqrstuvwxyz0123456789._-:@+";

static const struct {
	const char *prefix;
	enum key_owner owner;
} owners[] = {
	{ "host.", KEY_OF_HOST },
	{ "user.", KEY_OF_USER },
	{ "guest.", KEY_OF_GUEST },
};

int key_name_check(const char *name, enum key_owner *owner, char *why,
		   size_t size)
{
	size_t n = strlen(name);
	char shown[80];

	log_escape(shown, sizeof(shown), name, n < 60 ? n : 60);
	if (n > KEY_NAME_MAX) {
		snprintf(why, size, "key %s...: its name has %zu bytes; the "
			 "limit is %u", shown, n, KEY_NAME_MAX);
		return -EINVAL;
	}
	for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
		if (!str_starts(name, owners[i].prefix) ||
		    n == strlen(owners[i].prefix) ||
		    strspn(name, name_bytes) != n)
			continue;
		*owner = owners[i].owner;
		return 0;
	}
	snprintf(why, size, "key \"%s\": a name is host., user. or guest. and "
		 "letters, digits and ._-:@+", shown);
	return -EINVAL;
}

static int take_change(struct va_call *call, const char *name,
		       const struct va_value *value, struct key_change *c)
{
	char why[256];

	c->name = name;
	if (key_name_check(name, &c->owner, why, sizeof(why)) < 0)
		return va_fail(call, EINVAL, "%s: %s", call->method->name, why);
	if (!value)
		return 0;
	if (va_get_bytes(value, &c->value, &c->size) < 0)
		return va_fail(call, EINVAL, "%s: key %s: the value is neither "
			       "a string nor base64", call->method->name, name);
	if (!c->value)
		c->value = "";
	if (c->size > KEY_VALUE_MAX)
		return va_fault(call, VA_FAULT_LIMIT, EMSGSIZE,
				"%s: key %s: the value has %zu bytes; the limit "
				"is %u", call->method->name, name, c->size,
				KEY_VALUE_MAX);
	return 0;
}

static int take_item(struct va_call *call, const struct va_value *v, size_t i,
		     struct key_change *c)
{
	const struct va_value *value = NULL;
	const char *name;

	if (va_typeof(v) == VA_STRUCT)
		value = va_member_at(v, i, &name);
	else if (va_get_string(va_item(v, i), &name) < 0)
		return va_fail(call, EINVAL, "%s: a key's name is a string",
			       call->method->name);
	return take_change(call, name, value, c);
}

int key_changes_get(struct va_call *call, size_t i, struct key_change **ret,
		    size_t *n)
{
	const struct va_value *v = va_item(call->params, i);
	CLEANUP_FREE struct key_change *list = NULL;
	size_t total = 0;

	*n = va_count(v);
	if (*n == 0 || *n > KEYS_LIST_MAX)
		return va_fail(call, EINVAL, "%s: %zu keys; 1 to %u go in one "
			       "call", call->method->name, *n, KEYS_LIST_MAX);
	list = calloc(*n, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (size_t k = 0; k < *n; k++) {
		int err = take_item(call, v, k, &list[k]);

		if (err < 0)
			return err;
		total += list[k].size;
	}
	if (total > KEYS_SET_MAX)
		return va_fault(call, VA_FAULT_LIMIT, EMSGSIZE,
				"%s: key %s and %zu more: %zu bytes of values; "
				"the limit of one call is %u",
				call->method->name, list[0].name, *n - 1, total,
				KEYS_SET_MAX);
	*ret = take_ptr(list);
	return 0;
}

static const struct {
	const char *name;
	unsigned bit;
} flag_names[] = {
	{ "read", KEY_READ },
	{ "write", KEY_WRITE },
	{ "secret", KEY_SECRET },
};

static const struct {
	const char *name;
	unsigned bits;
} lifetimes[] = {
	{ "persistent", 0 },
	{ "poweroff", KEY_POWEROFF },
	{ "reset", KEY_RESET },
};

static int take_lifetime(struct va_call *call, const struct va_value *v,
			 unsigned *flags)
{
	const char *text;

	if (va_get_string(v, &text) < 0)
		text = "";
	for (size_t i = 0; i < sizeof(lifetimes) / sizeof(lifetimes[0]); i++) {
		if (strcmp(text, lifetimes[i].name) != 0)
			continue;
		*flags = (*flags & ~(KEY_POWEROFF | KEY_RESET)) |
			 lifetimes[i].bits;
		return 0;
	}
	return va_fail(call, EINVAL, "%s: lifetime is one of persistent, "
		       "poweroff, reset", call->method->name);
}

int key_flags_get(struct va_call *call, const struct va_value *s,
		  unsigned *flags, bool *given)
{
	const struct va_value *life = va_member(s, "lifetime");

	*given = false;
	for (size_t i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]); i++) {
		const struct va_value *v = va_member(s, flag_names[i].name);
		bool on;

		if (!v)
			continue;
		if (va_get_bool(v, &on) < 0)
			return va_fail(call, EINVAL, "%s: %s is no boolean",
				       call->method->name, flag_names[i].name);
		*flags = on ? *flags | flag_names[i].bit :
			      *flags & ~flag_names[i].bit;
		*given = true;
	}
	if (!life)
		return 0;
	*given = true;
	return take_lifetime(call, life, flags);
}

int key_flags_put(struct va_value *s, unsigned flags)
{
	const char *life = flags & KEY_POWEROFF ? "poweroff" :
			   flags & KEY_RESET	? "reset" :
						  "persistent";
	int err = va_set(s, "lifetime", va_string(life));

	for (size_t i = 0; err == 0 &&
	     i < sizeof(flag_names) / sizeof(flag_names[0]); i++)
		err = va_set(s, flag_names[i].name,
			     va_bool(flags & flag_names[i].bit));
	return err;
}

int key_option_int(struct va_call *call, const struct va_value *s,
		   const char *name, int64_t dflt, int64_t min, int64_t *ret)
{
	const struct va_value *v = va_member(s, name);

	*ret = dflt;
	if (!v || (va_get_int(v, ret) == 0 && *ret >= min))
		return 0;
	return va_fail(call, EINVAL, "%s: %s is no integer of at least %lld",
		       call->method->name, name, (long long)min);
}

int key_option_deadline(struct va_call *call, const struct va_value *v,
			double dflt_s, uint64_t *ret)
{
	double s = dflt_s;
	int64_t i;

	if (v && va_typeof(v) == VA_INT && va_get_int(v, &i) == 0)
		s = (double)i;
	else if (v && va_typeof(v) != VA_NIL && va_get_double(v, &s) < 0)
		return va_fail(call, EINVAL, "%s: a time is a number of seconds",
			       call->method->name);
	if (!(s >= 0))
		s = 0;
	if (s > KEY_WAIT_MAX_S)
		s = KEY_WAIT_MAX_S;
	*ret = clock_now() + (uint64_t)(s * (double)NSEC_PER_SEC);
	return 0;
}
