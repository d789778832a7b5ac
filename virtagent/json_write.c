/*
 * json_write.c - values as JSON (value.h)
 *
 * Output is for people's terminals too: besides what JSON demands, control
 * characters of C1, DEL and the marks that turn the direction of text are
 * written as \uNNNN.  A number that is not finite is null.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/value.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/str.h"

/* The length of a character that is better not shown, with the character; 0 for any
 * other. */
static size_t hidden_char(const uint8_t *s, size_t n, uint32_t *c)
{
	size_t len = s[0] < 0x80 ? 0 : str_utf8(s, n, c);

	return len && (*c < 0xa0 || str_is_deceptive(*c)) ? len : 0;
}

static int put_escaped(struct buf *out, uint32_t c)
{
	if (c < 0x10000)
		return buf_printf(out, "\\u%04x", c);
	c -= 0x10000;
	return buf_printf(out, "\\u%04x\\u%04x", 0xd800 | c >> 10, 0xdc00 | (c & 0x3ff));
}

static int put_string(struct buf *out, const char *text, size_t n)
{
	const uint8_t *s = (const uint8_t *)text;
	int r = buf_put_u8(out, '"');

	for (size_t i = 0, len; i < n && r == 0; i += len) {
		uint32_t c;

		len = hidden_char(s + i, n - i, &c);
		if (len) {
			r = put_escaped(out, c);
			continue;
		}
		len = 1;
		if (s[i] == '"' || s[i] == '\\')
			r = buf_printf(out, "\\%c", s[i]);
		else if (s[i] == '\n')
			r = buf_puts(out, "\\n");
		else if (s[i] == '\t')
			r = buf_puts(out, "\\t");
		else if (s[i] == '\r')
			r = buf_puts(out, "\\r");
		else if (s[i] < 0x20 || s[i] == 0x7f)
			r = put_escaped(out, s[i]);
		else
			r = buf_put_u8(out, s[i]);
	}
	return r < 0 ? r : buf_put_u8(out, '"');
}

static int put_double(struct buf *out, double d)
{
	char text[VA_DOUBLE_TEXT_SIZE];

	if (!isfinite(d))
		return buf_puts(out, "null");
	va_double_text(d, text);
	/* What reads back must be a double again. */
	return buf_printf(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static int put_bytes(struct buf *out, const void *data, size_t n)
{
	char *to;
	int r = buf_puts(out, "{\"base64\":\"");

	if (r < 0)
		return r;
	to = (char *)buf_reserve(out, BASE64_LEN(n) + 1);
	if (!to)
		return -errno;
	buf_commit(out, base64_encode(data, n, to));
	return buf_puts(out, "\"}");
}

static int put_newline(struct buf *out, bool pretty, unsigned level)
{
	return pretty ? buf_printf(out, "\n%*s", (int)level * 2, "") : 0;
}

static int put_value(const struct va_value *v, bool pretty, unsigned level,
		     struct buf *out);

static int put_container(const struct va_value *v, bool pretty, unsigned level,
			 struct buf *out)
{
	bool is_struct = va_typeof(v) == VA_STRUCT;
	size_t n = va_count(v);
	int r = buf_put_u8(out, is_struct ? '{' : '[');

	for (size_t i = 0; i < n && r == 0; i++) {
		const char *name = NULL;
		const struct va_value *item =
			is_struct ? va_member_at(v, i, &name) : va_item(v, i);

		if (i)
			r = buf_put_u8(out, ',');
		if (r == 0)
			r = put_newline(out, pretty, level + 1);
		if (r == 0 && name)
			r = put_string(out, name, strlen(name));
		if (r == 0 && name)
			r = buf_puts(out, pretty ? ": " : ":");
		if (r == 0)
			r = put_value(item, pretty, level + 1, out);
	}
	if (r == 0 && n)
		r = put_newline(out, pretty, level);
	return r < 0 ? r : buf_put_u8(out, is_struct ? '}' : ']');
}

static int put_value(const struct va_value *v, bool pretty, unsigned level,
		     struct buf *out)
{
	const void *data = NULL;
	const char *text = "";
	size_t n = 0;
	int64_t i = 0;
	double d = 0;
	bool b = false;

	switch (va_typeof(v)) {
	case VA_BOOL:
		va_get_bool(v, &b);
		return buf_puts(out, b ? "true" : "false");
	case VA_INT:
		va_get_int(v, &i);
		return buf_printf(out, "%lld", (long long)i);
	case VA_DOUBLE:
		va_get_double(v, &d);
		return put_double(out, d);
	case VA_STRING:
		va_get_bytes(v, &data, &n);
		return put_string(out, data, n);
	case VA_DATETIME:
		va_get_string(v, &text);
		return put_string(out, text, strlen(text));
	case VA_BYTES:
		va_get_bytes(v, &data, &n);
		return put_bytes(out, data, n);
	case VA_ARRAY:
	case VA_STRUCT:
		return put_container(v, pretty, level, out);
	case VA_NIL:
		break;
	}
	return buf_puts(out, "null");
}

int va_to_json(const struct va_value *v, bool pretty, struct buf *out)
{
	return put_value(v, pretty, 0, out);
}
