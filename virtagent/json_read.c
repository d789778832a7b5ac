/*
 * json_read.c - values from JSON (value.h)
 *
 * The parser takes exactly RFC 8259 with the limits of limits.h.  It recurses
 * once per container, VA_XML_DEPTH_MAX deep at most.  A string with control
 * characters (tab, newline and return excepted) has no form as an XML-RPC
 * string and is refused, naming the way out: {"base64":"..."}.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/value.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "common/str.h"
#include "virtagent/limits.h"

struct parser {
	const char *text;
	size_t n, at;
	unsigned depth, values;
	char *err;
	size_t err_size;
};

static int refuse(struct parser *p, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct parser *p, int error, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(p->err, p->err_size, "JSON, byte %zu: ", p->at);

	if (n >= 0 && (size_t)n < p->err_size) {
		va_start(ap, fmt);
		vsnprintf(p->err + n, p->err_size - (size_t)n, fmt, ap);
		va_end(ap);
	}
	return error;
}

static int peek(const struct parser *p)
{
	return p->at < p->n ? (unsigned char)p->text[p->at] : -1;
}

static int skip_space(struct parser *p)
{
	while (p->at < p->n && strchr(" \t\r\n", p->text[p->at]) &&
	       p->text[p->at])
		p->at++;
	return peek(p);
}

static int hex4(struct parser *p, unsigned *ret)
{
	unsigned v = 0;

	if (p->n - p->at < 4)
		return refuse(p, -EBADMSG, "\\u without four digits");
	for (int i = 0; i < 4; i++) {
		char c = p->text[p->at + (size_t)i];

		if (c >= '0' && c <= '9')
			v = v * 16 + (unsigned)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			v = v * 16 + (unsigned)((c | 32) - 'a') + 10;
		else
			return refuse(p, -EBADMSG, "\\u without four digits");
	}
	p->at += 4;
	*ret = v;
	return 0;
}

static int put_utf8(struct buf *out, unsigned cp)
{
	uint8_t s[4];
	size_t n = 0;

	if (cp < 0x80) {
		s[n++] = (uint8_t)cp;
	} else {
		if (cp >= 0x10000) {
			s[n++] = (uint8_t)(0xf0 | cp >> 18);
			s[n++] = (uint8_t)(0x80 | (cp >> 12 & 0x3f));
		} else if (cp >= 0x800) {
			s[n++] = (uint8_t)(0xe0 | cp >> 12);
		}
		if (cp >= 0x800)
			s[n++] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
		else
			s[n++] = (uint8_t)(0xc0 | cp >> 6);
		s[n++] = (uint8_t)(0x80 | (cp & 0x3f));
	}
	return buf_put(out, s, n);
}

/* Behind "\u". */
static int parse_unicode(struct parser *p, struct buf *out)
{
	unsigned cp, low;
	int r = hex4(p, &cp);

	if (r < 0)
		return r;
	if (cp >= 0xd800 && cp < 0xdc00) {
		if (p->n - p->at < 6 || memcmp(p->text + p->at, "\\u", 2) != 0)
			return refuse(p, -EBADMSG, "half a surrogate pair");
		p->at += 2;
		r = hex4(p, &low);
		if (r < 0)
			return r;
		if (low < 0xdc00 || low > 0xdfff)
			return refuse(p, -EBADMSG, "half a surrogate pair");
		cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
	} else if (cp >= 0xdc00 && cp < 0xe000) {
		return refuse(p, -EBADMSG, "half a surrogate pair");
	}
	if (cp < 0x20 && cp != '\t' && cp != '\n' && cp != '\r')
		return refuse(p, -EBADMSG, "control character U+%04X in a string: "
			      "use {\"base64\":\"...\"}", cp);
	return put_utf8(out, cp);
}

static int parse_escape(struct parser *p, struct buf *out)
{
	static const char from[] = "\"\\/nrt", to[] = "\"\\/\n\r\t";
	int c = peek(p);
	const char *f = c > 0 ? strchr(from, c) : NULL;

	p->at++;
	if (c == 'u')
		return parse_unicode(p, out);
	if (c == 'b' || c == 'f')
		return refuse(p, -EBADMSG, "control character \\%c in a string: "
			      "use {\"base64\":\"...\"}", c);
	if (!f)
		return refuse(p, -EBADMSG, "unknown escape");
	return buf_put_u8(out, (uint8_t)to[f - from]);
}

/* At the opening quote.  out gets clean UTF-8 text. */
static int parse_text(struct parser *p, struct buf *out)
{
	size_t start = ++p->at;
	int r = 0;

	for (int c; (c = peek(p)) != '"' && r == 0;) {
		if (c < 0)
			return refuse(p, -EBADMSG, "string without an end");
		if (c < 0x20)
			return refuse(p, -EBADMSG, "raw control character");
		p->at++;
		r = c == '\\' ? parse_escape(p, out) :
				buf_put_u8(out, (uint8_t)c);
	}
	if (r < 0)
		return r;
	p->at++;
	/* Escapes are ASCII here and gave whole characters; raw bytes may not be
	 * UTF-8. */
	if (!str_is_clean_text(p->text + start, p->at - 1 - start, "\x7f"))
		return refuse(p, -EBADMSG, "bad UTF-8 or a control character");
	return 0;
}

static int parse_number(struct parser *p, struct va_value **ret)
{
	char text[VA_DOUBLE_TEXT_MAX + 1];
	size_t n = strspn(p->text + p->at, "+-0123456789.eE"), i = 0, digits;
	bool whole = true;
	int64_t v;

	if (n > p->n - p->at)
		n = p->n - p->at;
	if (n > VA_DOUBLE_TEXT_MAX)
		return refuse(p, -EMSGSIZE, "number of %zu characters, limit %u", n,
			      VA_DOUBLE_TEXT_MAX);
	memcpy(text, p->text + p->at, n);
	text[n] = 0;
	i += text[i] == '-';
	digits = strspn(text + i, "0123456789");
	if (digits == 0 || (digits > 1 && text[i] == '0'))
		return refuse(p, -EBADMSG, "not a number");
	i += digits;
	if (text[i] == '.') {
		whole = false;
		digits = strspn(text + ++i, "0123456789");
		i += digits;
	}
	if (digits && (text[i] | 32) == 'e') {
		whole = false;
		i++;
		i += text[i] == '+' || text[i] == '-';
		digits = strspn(text + i, "0123456789");
		i += digits;
	}
	if (digits == 0 || i != n)
		return refuse(p, -EBADMSG, "not a number");
	if (whole && str_to_i64(text, INT64_MIN, INT64_MAX, &v) == 0)
		*ret = va_int(v);
	else if (isfinite(strtod(text, NULL)))
		*ret = va_double(strtod(text, NULL));
	else
		return refuse(p, -ERANGE, "number out of range");
	p->at += n;
	return *ret ? 0 : -ENOMEM;
}

static int parse_value(struct parser *p, struct va_value **ret);

static int parse_array(struct parser *p, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *array = va_array();

	p->at++;
	if (skip_space(p) == ']') {
		p->at++;
		*ret = take_ptr(array);
		return *ret ? 0 : -ENOMEM;
	}
	for (;;) {
		struct va_value *item = NULL;
		int r = parse_value(p, &item);

		if (r == 0)
			r = va_append(array, item);
		if (r < 0)
			return r;
		switch (skip_space(p)) {
		case ',':
			p->at++;
			continue;
		case ']':
			p->at++;
			*ret = take_ptr(array);
			return 0;
		}
		return refuse(p, -EBADMSG, "expected , or ]");
	}
}

static int parse_member(struct parser *p, struct va_value *strct)
{
	CLEANUP_BUF struct buf name = BUF_INIT(VA_MEMBER_NAME_MAX);
	struct va_value *item = NULL;
	int r;

	if (skip_space(p) != '"')
		return refuse(p, -EBADMSG, "expected a member's name");
	if (va_count(strct) >= VA_STRUCT_MEMBERS_MAX)
		return refuse(p, -EMSGSIZE, "more than %u members",
			      VA_STRUCT_MEMBERS_MAX);
	r = parse_text(p, &name);
	if (r == -EMSGSIZE)
		return refuse(p, r, "member name over %u bytes",
			      VA_MEMBER_NAME_MAX);
	if (r < 0)
		return r;
	if (skip_space(p) != ':')
		return refuse(p, -EBADMSG, "expected :");
	p->at++;
	r = parse_value(p, &item);
	if (r < 0)
		return r;
	if (!buf_cstr(&name)) {
		va_value_free(item);
		return -ENOMEM;
	}
	return va_set(strct, buf_cstr(&name), item);
}

/* {"base64":"..."} are bytes. */
static int struct_to_bytes(struct parser *p, struct va_value **strct)
{
	const struct va_value *text = va_member(*strct, "base64");
	const void *data;
	struct va_value *bytes;
	char *to;
	size_t n;
	long len;

	if (va_count(*strct) != 1 || va_typeof(text) != VA_STRING)
		return 0;
	va_get_bytes(text, &data, &n);
	to = malloc(n / 4 * 3 + 3);
	if (!to)
		return -ENOMEM;
	len = base64_decode(data, n, to);
	if (len < 0) {
		free(to);
		return refuse(p, -EBADMSG, "bad base64");
	}
	bytes = va_bytes_take(to, (size_t)len);
	if (!bytes)
		return -ENOMEM;
	va_value_free(*strct);
	*strct = bytes;
	return 0;
}

static int parse_struct(struct parser *p, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *strct = va_struct();
	int r = strct ? 0 : -ENOMEM;

	p->at++;
	if (skip_space(p) != '}') {
		for (bool more = true; more && r == 0;) {
			r = parse_member(p, strct);
			more = r == 0 && skip_space(p) == ',';
			p->at += more;
		}
		if (r == 0 && peek(p) != '}')
			r = refuse(p, -EBADMSG, "expected , or }");
	}
	p->at++;
	if (r == 0)
		r = struct_to_bytes(p, &strct);
	if (r == 0)
		*ret = take_ptr(strct);
	return r;
}

static int parse_string(struct parser *p, struct va_value **ret)
{
	CLEANUP_BUF struct buf text = BUF_INIT(VA_XML_MAX);
	int r = parse_text(p, &text);

	if (r < 0)
		return r;
	*ret = va_string_checked((const char *)buf_data(&text), buf_len(&text));
	return *ret ? 0 : -ENOMEM;
}

static int parse_word(struct parser *p, struct va_value **ret)
{
	static const char *const words[] = { "null", "true", "false" };

	for (size_t i = 0; i < 3; i++) {
		size_t n = strlen(words[i]);

		if (p->n - p->at < n || memcmp(p->text + p->at, words[i], n) != 0)
			continue;
		p->at += n;
		*ret = i ? va_bool(i == 1) : va_nil();
		return *ret ? 0 : -ENOMEM;
	}
	return refuse(p, -EBADMSG, "expected a value");
}

static int parse_value(struct parser *p, struct va_value **ret)
{
	int c = skip_space(p), r;

	if (++p->values > VA_XML_ELEMENTS_MAX)
		return refuse(p, -EMSGSIZE, "more than %u values",
			      VA_XML_ELEMENTS_MAX);
	if (c == '"')
		return parse_string(p, ret);
	if (c == '-' || (c >= '0' && c <= '9'))
		return parse_number(p, ret);
	if (c != '[' && c != '{')
		return parse_word(p, ret);
	if (p->depth >= VA_XML_DEPTH_MAX)
		return refuse(p, -EMSGSIZE, "values nested deeper than %u",
			      VA_XML_DEPTH_MAX);
	p->depth++;
	r = c == '[' ? parse_array(p, ret) : parse_struct(p, ret);
	p->depth--;
	return r;
}

int va_from_json(const char *text, size_t n, struct va_value **ret, char *err,
		 size_t err_size)
{
	struct parser p = { .n = n, .err = err, .err_size = err_size };
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_FREE char *copy = NULL;
	int r;

	if (err_size)
		err[0] = 0;
	if (n > VA_XML_MAX)
		return refuse(&p, -EMSGSIZE, "%zu bytes, limit %u", n, VA_XML_MAX);
	/* A terminator lets the scans of numbers stop at the end. */
	copy = malloc(n + 1);
	if (!copy)
		return -ENOMEM;
	if (n)
		memcpy(copy, text, n);
	copy[n] = 0;
	p.text = copy;
	r = parse_value(&p, &v);
	if (r == 0 && skip_space(&p) >= 0)
		r = refuse(&p, -EBADMSG, "text behind the value");
	if (r == 0)
		*ret = take_ptr(v);
	return r;
}
