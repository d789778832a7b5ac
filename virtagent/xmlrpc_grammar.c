/*
 * xmlrpc_grammar.c - see xmlrpc_grammar.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/xmlrpc_grammar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "virtagent/limits.h"

#define BIT(el) EL_BIT(el)
#define TYPES (BIT(EL_ARRAY) | BIT(EL_STRUCT) | BIT(EL_I4) | BIT(EL_INT) | \
	       BIT(EL_I8) | BIT(EL_BOOLEAN) | BIT(EL_DOUBLE) |             \
	       BIT(EL_STRING) | BIT(EL_DATETIME) | BIT(EL_BASE64) |        \
	       BIT(EL_NIL) | BIT(EL_EX_I8) | BIT(EL_EX_NIL))

static size_t digits(const char *s)
{
	return strspn(s, "0123456789");
}

static bool int_ok(const char *s, int64_t min, int64_t max)
{
	int64_t v;

	s += *s == '+';
	return (*s == '-' || digits(s)) && str_to_i64(s, min, max, &v) == 0;
}

static bool check_i4(const char *s)
{
	return int_ok(s, INT32_MIN, INT32_MAX);
}

static bool check_i8(const char *s)
{
	return int_ok(s, INT64_MIN, INT64_MAX);
}

static bool check_boolean(const char *s)
{
	return (s[0] == '0' || s[0] == '1') && !s[1];
}

static bool check_double(const char *s)
{
	const char *p = s;
	size_t n;

	p += *p == '+' || *p == '-';
	n = digits(p);
	p += n;
	if (*p == '.') {
		size_t fraction = digits(++p);

		p += fraction;
		n += fraction;
	}
	if (n == 0)
		return false;
	if (*p == 'e' || *p == 'E') {
		p++;
		p += *p == '+' || *p == '-';
		if (!digits(p))
			return false;
		p += digits(p);
	}
	return !*p && isfinite(strtod(s, NULL));
}

static bool two_digits(const char *s, int min, int max)
{
	int v = (s[0] - '0') * 10 + (s[1] - '0');

	return v >= min && v <= max;
}

/* 20260102T03:04:05, the form that XML-RPC shows. */
static bool check_datetime(const char *s)
{
	static const char form[] = "00000000T00:00:00";

	for (size_t i = 0; i < sizeof(form); i++) {
		if (form[i] == '0' ? s[i] < '0' || s[i] > '9' : s[i] != form[i])
			return false;
	}
	return memcmp(s, "0000", 4) != 0 && two_digits(s + 4, 1, 12) &&
	       two_digits(s + 6, 1, 31) && two_digits(s + 9, 0, 23) &&
	       two_digits(s + 12, 0, 59) && two_digits(s + 15, 0, 59);
}

/* The characters that XML-RPC allows in a method's name. */
static bool check_method_name(const char *s)
{
	return *s && !s[strspn(s, "abcdefghijklmnopqrstuvwxyz"
				  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/-")];
}

static bool check_name(const char *s)
{
	return true; /* its length was */
}

const struct el_row xmlrpc_rows[EL_COUNT] = {
	[EL_CALL] = { "methodCall", BIT(EL_METHOD_NAME), BIT(EL_PARAMS), 1, 2,
		      TEXT_SPACE, 0, NULL },
	[EL_REPLY] = { "methodResponse", BIT(EL_PARAMS) | BIT(EL_FAULT), 0, 1, 1,
		       TEXT_SPACE, 0, NULL },
	[EL_METHOD_NAME] = { "methodName", 0, 0, 0, 0, TEXT_COLLECTED,
			     VA_METHOD_NAME_MAX, check_method_name },
	[EL_PARAMS] = { "params", BIT(EL_PARAM), BIT(EL_PARAM), 0, UINT32_MAX,
			TEXT_SPACE, 0, NULL },
	[EL_PARAM] = { "param", BIT(EL_VALUE), 0, 1, 1, TEXT_SPACE, 0, NULL },
	[EL_FAULT] = { "fault", BIT(EL_VALUE), 0, 1, 1, TEXT_SPACE, 0, NULL },
	[EL_VALUE] = { "value", TYPES, 0, 0, 1, TEXT_VALUE, 0, NULL },
	[EL_ARRAY] = { "array", BIT(EL_DATA), 0, 1, 1, TEXT_SPACE, 0, NULL },
	[EL_DATA] = { "data", BIT(EL_VALUE), BIT(EL_VALUE), 0, UINT32_MAX,
		      TEXT_SPACE, 0, NULL },
	[EL_STRUCT] = { "struct", BIT(EL_MEMBER), BIT(EL_MEMBER), 0,
			VA_STRUCT_MEMBERS_MAX, TEXT_SPACE, 0, NULL },
	[EL_MEMBER] = { "member", BIT(EL_NAME), BIT(EL_VALUE), 2, 2, TEXT_SPACE,
			0, NULL },
	[EL_NAME] = { "name", 0, 0, 0, 0, TEXT_COLLECTED, VA_MEMBER_NAME_MAX,
		      check_name },
	[EL_I4] = { "i4", 0, 0, 0, 0, TEXT_COLLECTED, 24, check_i4 },
	[EL_INT] = { "int", 0, 0, 0, 0, TEXT_COLLECTED, 24, check_i4 },
	[EL_I8] = { "i8", 0, 0, 0, 0, TEXT_COLLECTED, 24, check_i8 },
	[EL_BOOLEAN] = { "boolean", 0, 0, 0, 0, TEXT_COLLECTED, 8,
			 check_boolean },
	[EL_DOUBLE] = { "double", 0, 0, 0, 0, TEXT_COLLECTED, VA_DOUBLE_TEXT_MAX,
			check_double },
	[EL_STRING] = { "string", 0, 0, 0, 0, TEXT_STRING, 0, NULL },
	[EL_DATETIME] = { "dateTime.iso8601", 0, 0, 0, 0, TEXT_COLLECTED, 32,
			  check_datetime },
	[EL_BASE64] = { "base64", 0, 0, 0, 0, TEXT_BASE64, 0, NULL },
	[EL_NIL] = { "nil", 0, 0, 0, 0, TEXT_SPACE, 0, NULL },
	[EL_EX_I8] = { "ex:i8", 0, 0, 0, 0, TEXT_COLLECTED, 24, check_i8 },
	[EL_EX_NIL] = { "ex:nil", 0, 0, 0, 0, TEXT_SPACE, 0, NULL },
};

enum el xmlrpc_element(const char *prefix, const char *name)
{
	bool ex = prefix && strcmp(prefix, "ex") == 0;

	if (prefix && !ex)
		return EL_NONE;
	for (enum el e = 0; e < EL_COUNT; e++) {
		const char *row = xmlrpc_rows[e].name;
		bool row_ex = strncmp(row, "ex:", 3) == 0;

		if (ex == row_ex && strcmp(row + (ex ? 3 : 0), name) == 0)
			return e;
	}
	return EL_NONE;
}
