/*
 * method.c - faults, signatures and parameters of methods
 *
 * A signature is read left to right: the result's letter, ':', the letters that
 * must be there, '|', those that may, and '*' for any number more of the last.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/method.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "virtagent/fault.h"

const char *va_class_name(enum va_class c)
{
	static const char *const names[] = {
		[VA_CLASS_INFO] = "info",   [VA_CLASS_READ] = "read",
		[VA_CLASS_WRITE] = "write", [VA_CLASS_EXEC] = "exec",
		[VA_CLASS_POWER] = "power", [VA_CLASS_FS] = "fs",
		[VA_CLASS_NET] = "net",
		[VA_CLASS_ADMIN] = "admin",
	};

	return (size_t)c < sizeof(names) / sizeof(names[0]) ? names[c] : "?";
}

struct va_value *va_method_value(const struct va_method *m, bool allowed)
{
	static const struct {
		unsigned flag;
		const char *name;
	} names[] = {
		{ VA_M_IDEMPOTENT, "idempotent" }, { VA_M_PATH, "path" },
		{ VA_M_ORIGINAL, "original" },	   { VA_M_QUIET, "quiet" },
		{ VA_M_UNTIL_EOF, "until-eof" },   { VA_M_UNCOUNTED, "uncounted" },
	};
	CLEANUP_VALUE struct va_value *v = va_struct(), *flags = va_array();
	int r = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (m->flags & names[i].flag)
			r |= va_append(flags, va_string(names[i].name));
	r |= va_set(v, "name", va_string(m->name));
	r |= va_set(v, "signature", va_string(m->signature));
	r |= va_set(v, "args", va_string(m->args ? m->args : ""));
	r |= va_set(v, "class", va_string(va_class_name(m->cls)));
	r |= va_set(v, "help", va_string(m->help));
	r |= va_set(v, "flags", take_ptr(flags));
	r |= va_set(v, "allowed", va_bool(allowed));
	if (m->raw)
		r |= va_set(v, "raw", va_string(m->raw));
	return r < 0 ? NULL : take_ptr(v);
}

int va_fail(struct va_call *call, int errno_value, const char *fmt, ...)
{
	va_list ap;

	call->fault.code = VA_FAULT_ERRNO + errno_value;
	va_start(ap, fmt);
	vsnprintf(call->fault.text, sizeof(call->fault.text), fmt, ap);
	va_end(ap);
	return -errno_value;
}

int va_fault(struct va_call *call, int code, int errno_value, const char *fmt,
	     ...)
{
	va_list ap;

	call->fault.code = code;
	va_start(ap, fmt);
	vsnprintf(call->fault.text, sizeof(call->fault.text), fmt, ap);
	va_end(ap);
	return -errno_value;
}

void va_fault_complete(struct va_fault *fault, int errno_value)
{
	if (fault->code == 0)
		fault->code = VA_FAULT_ERRNO + errno_value;
	if (!fault->text[0])
		snprintf(fault->text, sizeof(fault->text), "%s",
			 strerror(errno_value));
}

/* --- signatures ---------------------------------------------------------- */

static const struct letter {
	char letter;
	const char *type; /* as introspection names it */
	const char *expected;
} letters[] = {
	{ 's', "string", "a string" },
	{ 'i', "int", "an int" },
	{ 'b', "boolean", "a boolean" },
	{ 'd', "double", "a double" },
	{ '6', "base64", "base64" },
	{ 'A', "array", "an array" },
	{ 'S', "struct", "a struct" },
	{ 'n', "nil", "nil" },
	{ 'x', "any", "a value" },
	{ 't', "string", "a string or base64" },
};

static const struct letter *letter_find(char c)
{
	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
		if (letters[i].letter == c)
			return &letters[i];
	}
	return NULL;
}

const char *va_signature_type(char letter)
{
	const struct letter *l = letter_find(letter);

	return l ? l->type : NULL;
}

bool va_signature_valid(const char *s)
{
	bool bar = false;

	if (!letter_find(s[0]) || s[1] != ':')
		return false;
	for (s += 2; *s; s++) {
		if (*s == '|' && !bar)
			bar = true;
		else if (*s == '*')
			return s[1] == 0 && letter_find(s[-1]);
		else if (!letter_find(*s))
			return false;
	}
	return true;
}

static bool letter_accepts(char c, const struct va_value *v)
{
	enum va_type t = va_typeof(v);
	int64_t i;

	switch (c) {
	case 's':
		return t == VA_STRING || t == VA_DATETIME;
	case 'i':
		return va_get_int(v, &i) == 0;
	case 'b':
		return t == VA_BOOL;
	case 'd':
		return t == VA_DOUBLE || t == VA_INT;
	case '6':
		return t == VA_BYTES;
	case 't':
		return t == VA_BYTES || t == VA_STRING;
	case 'A':
		return t == VA_ARRAY;
	case 'S':
		return t == VA_STRUCT;
	case 'n':
		return t == VA_NIL;
	default:
		return c == 'x';
	}
}

/* Says how many parameters a row takes: "1", "1 to 3", "at least 1". */
static int wrong_count(struct va_call *call, size_t given, size_t must,
		       size_t may, bool more)
{
	const char *name = call->method->name;

	if (more)
		return va_fault(call, VA_FAULT_TYPE, EINVAL,
				"%s takes at least %zu parameters, %zu given",
				name, must, given);
	if (must != may)
		return va_fault(call, VA_FAULT_TYPE, EINVAL,
				"%s takes %zu to %zu parameters, %zu given", name,
				must, may, given);
	return va_fault(call, VA_FAULT_TYPE, EINVAL,
			"%s takes %zu parameter%s, %zu given", name, must,
			must == 1 ? "" : "s", given);
}

int va_check_args(struct va_call *call)
{
	const char *sig = call->method->signature + 2;
	const char *bar = strchr(sig, '|'), *star = strchr(sig, '*');
	size_t given = va_count(call->params);
	size_t may = strlen(sig) - (bar != NULL) - (star != NULL);
	size_t must = bar ? (size_t)(bar - sig) : may;

	if (given < must || (given > may && !star))
		return wrong_count(call, given, must, may, star != NULL);
	for (size_t i = 0; i < given; i++) {
		const struct va_value *v = va_item(call->params, i);
		size_t at = i < may ? i : may - 1;
		char c = sig[at + (bar && at >= must)];

		if (i >= must && va_typeof(v) == VA_NIL)
			continue;
		if (!letter_accepts(c, v))
			return va_fault(call, VA_FAULT_TYPE, EINVAL,
					"%s: parameter %zu must be %s, not %s",
					call->method->name, i + 1,
					letter_find(c)->expected,
					va_type_name(va_typeof(v)));
	}
	return 0;
}

/* --- parameters ---------------------------------------------------------- */

bool va_arg_given(const struct va_call *call, size_t i)
{
	return va_typeof(va_item(call->params, i)) != VA_NIL;
}

static int wrong_type(struct va_call *call, size_t i, const char *expected)
{
	return va_fault(call, VA_FAULT_TYPE, EINVAL,
			"%s: parameter %zu must be %s, not %s",
			call->method->name, i + 1, expected,
			va_type_name(va_typeof(va_item(call->params, i))));
}

int va_arg_int(struct va_call *call, size_t i, int64_t dflt, int64_t min,
	       int64_t max, int64_t *ret)
{
	int64_t v = dflt;

	if (va_arg_given(call, i) && va_get_int(va_item(call->params, i), &v) < 0)
		return wrong_type(call, i, "an int");
	if (v < min || v > max)
		return va_fault(call, VA_FAULT_TYPE, ERANGE,
				"%s: parameter %zu is %lld, not within %lld to %lld",
				call->method->name, i + 1, (long long)v,
				(long long)min, (long long)max);
	*ret = v;
	return 0;
}

int va_arg_bool(struct va_call *call, size_t i, bool dflt, bool *ret)
{
	bool v = dflt;

	if (va_arg_given(call, i) &&
	    va_get_bool(va_item(call->params, i), &v) < 0)
		return wrong_type(call, i, "a boolean");
	*ret = v;
	return 0;
}

int va_arg_string(struct va_call *call, size_t i, const char *dflt,
		  const char **ret)
{
	const char *v = dflt;

	if (va_arg_given(call, i) &&
	    va_get_string(va_item(call->params, i), &v) < 0)
		return wrong_type(call, i, "a string");
	*ret = v;
	return 0;
}

int va_arg_text(struct va_call *call, size_t i, const char *dflt,
		const char **ret)
{
	const void *data;
	size_t n;

	if (!va_arg_given(call, i)) {
		*ret = dflt;
		return 0;
	}
	if (va_get_bytes(va_item(call->params, i), &data, &n) < 0)
		return wrong_type(call, i, "a string or base64");
	if (memchr(data, 0, n))
		return va_fault(call, VA_FAULT_TYPE, EINVAL,
				"%s: parameter %zu holds a NUL byte",
				call->method->name, i + 1);
	*ret = data; /* values end in a NUL of their own */
	return 0;
}

int va_arg_bytes(struct va_call *call, size_t i, const void **data, size_t *n)
{
	if (va_get_bytes(va_item(call->params, i), data, n) < 0)
		return wrong_type(call, i, "base64 or a string");
	return 0;
}
