/*
 * spec.c - the grammar of -c, -o and -i
 *
 *	METHOD:ADDR:PORT[:ID]   SERVICE:ADDR:PORT[:ID]
 *
 * PORT "-" means that ADDR is a path; a path may hold colons, so the fields are
 * cut from the right.  A path that starts with "/" may leave ":-" out.  An IPv6
 * address stands in square brackets.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/virtproxy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/str.h"
#include "virtproxy/mux.h"

#define SPEC_ID_MAX 9999
#define UNIX_PATH_MAX_LEN 107 /* sun_path, less its terminator */

enum addr_kind { ADDR_UNIX, ADDR_TCP, ADDR_DEVICE, ADDR_FD };

static const struct {
	const char *word;
	enum vp_method method;
	enum addr_kind kind;
} methods[] = {
	{ "unix-connect", VP_UNIX_CONNECT, ADDR_UNIX },
	{ "unix-listen", VP_UNIX_LISTEN, ADDR_UNIX },
	{ "tcp-connect", VP_TCP_CONNECT, ADDR_TCP },
	{ "tcp-listen", VP_TCP_LISTEN, ADDR_TCP },
	{ "virtserial-open", VP_VIRTSERIAL_OPEN, ADDR_DEVICE },
	{ "isaserial-open", VP_ISASERIAL_OPEN, ADDR_DEVICE },
	{ "pty-open", VP_PTY_OPEN, ADDR_DEVICE },
	{ "fd", VP_FD, ADDR_FD },
};

#define METHOD_WORDS                                                           \
	"unix-connect, unix-listen, tcp-connect, tcp-listen, virtserial-open, " \
	"isaserial-open, pty-open, fd"

__attribute__((format(printf, 3, 4)))
static int fail(char *err, size_t err_size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, err_size, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int copy_field(char *to, size_t size, const char *from, size_t n,
		      const char *what, char *err, size_t err_size)
{
	if (n == 0)
		return fail(err, err_size, "the %s is empty", what);
	if (n >= size)
		return fail(err, err_size, "the %s is longer than %zu bytes", what,
			    size - 1);
	memcpy(to, from, n);
	to[n] = 0;
	return 0;
}

/* The last field of s up to *len, which is moved before its colon; NULL when
 * there is no colon left. */
static const char *cut_last(const char *s, size_t *len, size_t *field_len)
{
	size_t i = *len;

	while (i > 0 && s[i - 1] != ':')
		i--;
	if (i == 0)
		return NULL;
	*field_len = *len - i;
	*len = i - 1;
	return s + i;
}

static bool is_dash(const char *field, size_t n)
{
	return field && n == 1 && field[0] == '-';
}

/* Is ":ID" behind a PORT at the end of s?  Only a number can be. */
static bool ends_in_id(const char *s, size_t len)
{
	size_t n = 0, port_n = 0, rest = len;
	const char *id = cut_last(s, &rest, &n), *port;

	if (!id || n == 0 || strspn(id, "0123456789") < n)
		return false;
	port = cut_last(s, &rest, &port_n);
	return port && (is_dash(port, port_n) || s[0] != '/');
}

static int parse_id(const char *field, size_t n, unsigned *ret, char *err,
		    size_t err_size)
{
	char text[8];
	uint64_t v;
	int r = copy_field(text, sizeof(text), field, n, "channel id", err, err_size);

	if (r < 0)
		return r;
	if (str_to_u64(text, SPEC_ID_MAX, &v) < 0)
		return fail(err, err_size, "channel id %s is not a number up to %d",
			    text, SPEC_ID_MAX);
	*ret = (unsigned)v;
	return 0;
}

/* "[ADDR]:PORT[:ID]" */
static int parse_bracketed(const char *s, struct vp_spec *ret, char *err,
			   size_t err_size)
{
	const char *end = strchr(s, ']'), *port, *id;
	int r;

	if (!end)
		return fail(err, err_size, "\"]\" is missing after the address");
	if (end[1] != ':')
		return fail(err, err_size, "\":PORT\" is missing after the address");
	port = end + 2;
	id = strchr(port, ':');
	r = copy_field(ret->addr, sizeof(ret->addr), s + 1, (size_t)(end - s - 1),
		       "address", err, err_size);
	if (r == 0)
		r = copy_field(ret->port, sizeof(ret->port), port,
			       id ? (size_t)(id - port) : strlen(port), "port", err,
			       err_size);
	if (r == 0 && id)
		r = parse_id(id + 1, strlen(id + 1), &ret->id, err, err_size);
	return r;
}

/* "ADDR:PORT[:ID]", or a path alone. */
static int parse_address(const char *s, struct vp_spec *ret, char *err,
			 size_t err_size)
{
	size_t len = strlen(s), n = 0, rest;
	const char *field;
	int r;

	if (s[0] == '[')
		return parse_bracketed(s, ret, err, err_size);
	if (ends_in_id(s, len)) {
		field = cut_last(s, &len, &n);
		r = parse_id(field, n, &ret->id, err, err_size);
		if (r < 0)
			return r;
	}
	rest = len;
	field = cut_last(s, &rest, &n);
	if (s[0] == '/' && !is_dash(field, n)) {
		field = "-";
		n = 1;
		rest = len;
	}
	if (!field)
		return fail(err, err_size, "\":PORT\" is missing (\"-\" for a path)");
	r = copy_field(ret->port, sizeof(ret->port), field, n, "port", err, err_size);
	if (r == 0)
		r = copy_field(ret->addr, sizeof(ret->addr), s, rest, "address", err,
			       err_size);
	if (r == 0 && !is_dash(field, n) && strchr(ret->addr, ':'))
		r = fail(err, err_size, "too many fields, or an IPv6 address "
					"without brackets");
	return r;
}

static int check_address(const struct vp_spec *spec, enum addr_kind kind, char *err,
			 size_t err_size)
{
	bool is_path = strcmp(spec->port, "-") == 0;
	uint64_t fd;

	if (kind == ADDR_TCP && is_path)
		return fail(err, err_size, "%s needs a port", spec->name);
	if (kind != ADDR_TCP && !is_path)
		return fail(err, err_size, "%s takes \"-\" as port, not %s", spec->name,
			    spec->port);
	if (kind == ADDR_UNIX && strlen(spec->addr) > UNIX_PATH_MAX_LEN)
		return fail(err, err_size, "the path is longer than %d bytes",
			    UNIX_PATH_MAX_LEN);
	if (kind == ADDR_FD && str_to_u64(spec->addr, INT32_MAX, &fd) < 0)
		return fail(err, err_size, "%s is not a descriptor number", spec->addr);
	return 0;
}

/* The word before the first colon, into name; *rest is what follows. */
static int parse_word(const char *text, struct vp_spec *ret, const char *what,
		      const char **rest, char *err, size_t err_size)
{
	const char *colon = strchr(text, ':');

	*ret = (struct vp_spec){ 0 };
	if (!colon)
		return fail(err, err_size, "\"%s\" is not %s:ADDR:PORT[:ID]", text, what);
	*rest = colon + 1;
	return copy_field(ret->name, sizeof(ret->name), text, (size_t)(colon - text),
			  what, err, err_size);
}

int vp_parse_channel(const char *text, struct vp_spec *ret, char *err,
		     size_t err_size)
{
	const char *rest;
	int r = parse_word(text, ret, "METHOD", &rest, err, err_size);

	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (strcmp(methods[i].word, ret->name) != 0)
			continue;
		ret->method = methods[i].method;
		if (methods[i].kind == ADDR_FD && !strchr(rest, ':'))
			r = copy_field(ret->addr, sizeof(ret->addr), rest,
				       strlen(rest), "address", err, err_size);
		else
			r = parse_address(rest, ret, err, err_size);
		if (r == 0 && !ret->port[0])
			memcpy(ret->port, "-", 2);
		return r < 0 ? r : check_address(ret, methods[i].kind, err, err_size);
	}
	return fail(err, err_size, "unknown method %s (there are " METHOD_WORDS ")",
		    ret->name);
}

int vp_parse_forward(const char *text, struct vp_spec *ret, char *err,
		     size_t err_size)
{
	const char *rest;
	int r = parse_word(text, ret, "SERVICE", &rest, err, err_size);

	if (r == 0 && strlen(ret->name) > VP_SERVICE_MAX)
		r = fail(err, err_size, "the service's name is longer than %u bytes",
			 VP_SERVICE_MAX);
	if (r == 0 && strspn(ret->name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklm"
					"nopqrstuvwxyz0123456789._-") <
			      strlen(ret->name))
		r = fail(err, err_size, "the service's name holds other characters "
					"than letters, digits, \".\", \"_\", \"-\"");
	if (r == 0)
		r = parse_address(rest, ret, err, err_size);
	if (r < 0)
		return r;
	return check_address(ret, strcmp(ret->port, "-") == 0 ? ADDR_UNIX : ADDR_TCP,
			     err, err_size);
}
