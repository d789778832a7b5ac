/*
 * methods.c - see methods.h
 *
 * The rows below let the everyday calls go out in one round trip.  They are a
 * first guess only: a server of another version that refuses the arguments'
 * types (and so has not run the call) is asked for its own row, and the call is
 * made anew from that.  system.methodInfo gives the one row; an older server
 * is asked for all of them (capabilities), a stock one for
 * system.methodSignature.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/methods.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "virtagent/client/member.h"
#include "virtagent/fault.h"
#include "virtagent/method.h"

#define READ_ONLY VA_M_IDEMPOTENT
#define BY_PIECES (VA_M_IDEMPOTENT | VA_M_UNTIL_EOF)

static const struct {
	const char *name, *signature, *args, *raw;
	unsigned flags;
} builtin[] = {
	{ "guest.capabilities", "S:", "", NULL, READ_ONLY },
	{ "guest.getdmesg", "S:|iii", "[MAX_BYTES [SINCE [SECONDS]]]", "data", READ_ONLY },
	{ "guest.getfile", "S:t|ii", "PATH [OFFSET [LENGTH]]", "data",
	  BY_PIECES },
	{ "guest.ping", "s:", "", NULL, READ_ONLY },
	{ "host.capabilities", "S:", "", NULL, READ_ONLY },
	{ "host.guest", "S:|s", "[GUEST]", NULL, READ_ONLY },
	{ "host.guests", "A:", "", NULL, READ_ONLY },
	{ "host.ping", "s:", "", NULL, READ_ONLY },
	{ "system.listMethods", "A:", "", NULL, READ_ONLY },
	{ "system.methodHelp", "s:s", "METHOD", NULL, READ_ONLY },
	{ "system.methodSignature", "x:s", "METHOD", NULL, READ_ONLY },
};

int method_builtin(const char *name, struct method_info *ret)
{
	for (size_t i = 0; i < NROWS(builtin); i++) {
		if (strcmp(builtin[i].name, name) != 0)
			continue;
		*ret = (struct method_info){ .flags = builtin[i].flags,
					     .allowed = true };
		snprintf(ret->name, sizeof(ret->name), "%s", name);
		snprintf(ret->signature, sizeof(ret->signature), "%s",
			 builtin[i].signature);
		snprintf(ret->args, sizeof(ret->args), "%s", builtin[i].args);
		if (builtin[i].raw)
			snprintf(ret->raw, sizeof(ret->raw), "%s",
				 builtin[i].raw);
		return 0;
	}
	return -ENOENT;
}

/* A number, or names in an array. */
static unsigned read_flags(const struct va_value *v)
{
	static const struct {
		const char *name;
		unsigned flag;
	} names[] = {
		{ "idempotent", VA_M_IDEMPOTENT },
		{ "path", VA_M_PATH },
		{ "original", VA_M_ORIGINAL },
		{ "quiet", VA_M_QUIET },
		{ "until-eof", VA_M_UNTIL_EOF },
		{ "uncounted", VA_M_UNCOUNTED },
	};
	unsigned flags = 0;
	int64_t number;

	if (v && !va_get_int(v, &number))
		return (unsigned)number;
	for (size_t i = 0; v && i < va_count(v); i++) {
		const struct va_value *item = va_item(v, i);
		const char *s;

		if (!item || va_get_string(item, &s))
			continue;
		for (size_t n = 0; n < NROWS(names); n++)
			if (strcmp(names[n].name, s) == 0)
				flags |= names[n].flag;
	}
	return flags;
}

#define COPY(member, name)                                                     \
	snprintf(ret->member, sizeof(ret->member), "%s", member_text(row, name))

int method_from_value(const struct va_value *row, struct method_info *ret)
{
	const char *name;

	*ret = (struct method_info){ .allowed = true, .from_server = true };
	if (va_typeof(row) != VA_STRUCT) {
		/* The originals' list: names only. */
		if (va_get_string(row, &name) || !*name)
			return -EBADMSG;
		snprintf(ret->name, sizeof(ret->name), "%s", name);
		return 0;
	}
	COPY(name, "name");
	COPY(signature, "signature");
	COPY(args, "args");
	COPY(raw, "raw");
	COPY(cls, "class");
	COPY(help, "help");
	ret->flags = read_flags(va_member(row, "flags"));
	ret->allowed = member_bool(row, "allowed", true);
	return *ret->name ? 0 : -EBADMSG;
}

static char letter_of(const char *type)
{
	static const struct {
		const char *type;
		char letter;
	} table[] = {
		{ "int", 'i' },	    { "i4", 'i' },     { "i8", 'i' },
		{ "string", 's' },  { "boolean", 'b' }, { "double", 'd' },
		{ "base64", '6' },  { "array", 'A' },  { "struct", 'S' },
		{ "nil", 'n' },
	};

	for (size_t i = 0; i < NROWS(table); i++)
		if (strcmp(table[i].type, type) == 0)
			return table[i].letter;
	return 'x';
}

/* What an argument may be when two signatures differ there. */
static char merge(char a, char b)
{
	if (a == b)
		return a;
	if ((a == 's' || a == '6' || a == 't') &&
	    (b == 's' || b == '6' || b == 't'))
		return 't';
	return 'x';
}

int method_signature(const struct va_value *signatures, size_t nargs, char *ret,
		     size_t size)
{
	char merged[40] = "";
	bool found = false;

	if (va_typeof(signatures) != VA_ARRAY || nargs + 2 >= sizeof(merged) ||
	    nargs + 3 > size)
		return -ENODATA;
	for (size_t i = 0; i < va_count(signatures); i++) {
		const struct va_value *one = va_item(signatures, i);

		if (va_count(one) != nargs + 1)
			continue;
		for (size_t p = 0; p <= nargs; p++) {
			const char *type = "";
			char letter;

			va_get_string(va_item(one, p), &type);
			letter = letter_of(type);
			merged[p] = found ? merge(merged[p], letter) : letter;
		}
		found = true;
	}
	if (!found)
		return -ENODATA;
	snprintf(ret, size, "%c:%s", merged[0], merged + 1);
	return 0;
}

static int from_capabilities(struct rpc *r, const char *name,
			     struct method_info *ret)
{
	const struct va_value *cap = rpc_capabilities(r);
	const struct va_value *list = cap ? va_member(cap, "methods") : NULL;

	if (!list || va_typeof(list) != VA_ARRAY)
		return -ENODATA;
	for (size_t i = 0; i < va_count(list); i++)
		if (!method_from_value(va_item(list, i), ret) &&
		    strcmp(ret->name, name) == 0)
			return *ret->signature ? 0 : -ENODATA;
	return -ENOENT;
}

int method_ask(struct rpc *r, const char *name, size_t nargs,
	       struct method_info *ret)
{
	CLEANUP_VALUE struct va_value *row = rpc_method_info(r, name);
	CLEANUP_VALUE struct va_value *v = NULL;
	int error;

	if (row && !method_from_value(row, ret) && !strcmp(ret->name, name) &&
	    *ret->signature)
		return 0;
	error = from_capabilities(r, name, ret);
	if (!error)
		return 0;
	/* system.* methods are in no table of ours, so also after -ENOENT. */
	*ret = (struct method_info){ .allowed = true, .from_server = true };
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	if (rpc_try(r, "system.methodSignature", RPC_IDEMPOTENT,
		    rpc_params(name, NULL), &v))
		return rpc_fault(r) == VA_FAULT_NO_METHOD ? error : -ENODATA;
	return method_signature(v, nargs, ret->signature,
				sizeof(ret->signature));
}
