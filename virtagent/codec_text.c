/*
 * codec_text.c - text and numbers as they may stand in a document
 *
 * What xmlrpc-c gets wrong in what it writes is put right here: text that is not
 * clean or lies beyond U+FFFF, which it cannot carry, is escaped; doubles, which it
 * rounds, are put into its output from our own text.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/str.h"
#include "virtagent/codec_priv.h"

/* The length of the character at s when XML and xmlrpc-c can carry it. */
static size_t wire_char(const uint8_t *s, size_t n)
{
	size_t len = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : 3;

	if (s[0] >= 0xf0 || len > n || !str_is_clean_text(s, len, "\t\n"))
		return 0;
	if (len == 3 && s[0] == 0xef && s[1] == 0xbf && s[2] >= 0xbe)
		return 0; /* U+FFFE, U+FFFF */
	return len;
}

int codec_text(const char *text, size_t n, struct buf *out)
{
	const uint8_t *s = (const uint8_t *)text;
	size_t start = 0, i = 0;
	int r = 0;

	while (i < n && r == 0) {
		size_t len = s[i] >= 0x20 && s[i] < 0x7f ? 1 :
							   wire_char(s + i, n - i);

		if (len) {
			i += len;
			continue;
		}
		r = buf_put(out, s + start, i - start);
		if (r == 0)
			r = buf_printf(out, "\\x%02x", s[i]);
		start = ++i;
	}
	return r < 0 ? r : buf_put(out, s + start, n - start);
}

/* '<' stands for nothing but an element in the document, so the n-th <double> is the
 * n-th that was met. */
int codec_put_doubles(const char *s, size_t n, struct buf *doubles, struct buf *out)
{
	static const char open[] = "<double>";
	double d;
	int r = 0;

	while (r == 0 && buf_get(doubles, &d, sizeof(d)) == 0) {
		const char *at = memmem(s, n, open, sizeof(open) - 1);
		const char *end;
		char text[VA_DOUBLE_TEXT_SIZE];

		if (!at)
			return -EBADMSG;
		at += sizeof(open) - 1;
		end = memchr(at, '<', n - (size_t)(at - s));
		if (!end)
			return -EBADMSG;
		va_double_text(d, text);
		r = buf_put(out, s, (size_t)(at - s));
		if (r == 0)
			r = buf_puts(out, text);
		n -= (size_t)(end - s);
		s = end;
	}
	return r < 0 ? r : buf_put(out, s, n);
}

int codec_fault(struct va_fault *fault, int code, int r, const char *text)
{
	fault->code = code;
	if (strlen(text) < sizeof(fault->text) &&
	    str_is_clean_text(text, strlen(text), "\t\n"))
		strcpy(fault->text, text);
	else
		log_escape(fault->text, sizeof(fault->text), text, strlen(text));
	return r;
}
