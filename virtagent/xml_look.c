/*
 * xml_look.c - see xml_look.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/xml_look.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "virtagent/limits.h"
#include "virtagent/xmlrpc_grammar.h"

static int bad(char *err, size_t err_size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int bad(char *err, size_t err_size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, err_size, fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

/* The length of the XML declaration, 0 without one; -1 if it names an encoding
 * other than UTF-8 (of which US-ASCII is a part). */
static long declaration(const char *s, size_t n)
{
	static const char *const encodings[] = { "utf-8", "us-ascii" };
	const char *end, *enc;
	size_t len;

	if (n < 6 || memcmp(s, "<?xml", 5) != 0 || !xml_is_space(s[5]))
		return 0;
	end = memmem(s, n < 256 ? n : 256, "?>", 2);
	if (!end)
		return -1;
	len = (size_t)(end - s);
	enc = memmem(s, len, "encoding", 8);
	if (!enc)
		return (long)len + 2;
	enc += 8;
	while (enc < end && (xml_is_space(*enc) || *enc == '='))
		enc++;
	for (size_t i = 0; i < 2; i++) {
		size_t l = strlen(encodings[i]);

		if ((size_t)(end - enc) >= l + 2 &&
		    (*enc == '"' || *enc == '\'') &&
		    strncasecmp(enc + 1, encodings[i], l) == 0 &&
		    enc[l + 1] == *enc)
			return (long)len + 2;
	}
	return -1;
}

/* Every tag of the document from p on; s is its start, for the message. */
static int look_at_tags(const char *s, const char *p, const char *end, char *err,
			size_t err_size)
{
	for (; (p = memchr(p, '<', (size_t)(end - p))); p++) {
		size_t left = (size_t)(end - p);

		if (!memchr(p, '>', left < VA_XML_TAG_MAX ? left : VA_XML_TAG_MAX))
			return bad(err, err_size,
				   "tag at byte %zu without an end within %u bytes",
				   (size_t)(p - s), VA_XML_TAG_MAX);
		if (p[1] == '!' || p[1] == '?')
			return bad(err, err_size,
				   "\"<%c\" at byte %zu: document types, comments, "
				   "CDATA and processing instructions are not XML-RPC",
				   p[1], (size_t)(p - s));
	}
	return 0;
}

int xml_look(const char *s, size_t n, char *err, size_t err_size)
{
	long decl;

	if (n > VA_XML_MAX) {
		snprintf(err, err_size, "document of %zu bytes, limit %u", n,
			 VA_XML_MAX);
		return -EMSGSIZE;
	}
	if (n == 0 || (*s != '<' && !xml_is_space(*s)) || memchr(s, 0, n))
		return bad(err, err_size, "not an XML document in UTF-8");
	decl = declaration(s, n);
	if (decl < 0)
		return bad(err, err_size, "an encoding other than UTF-8");
	return look_at_tags(s, s + decl, s + n, err, err_size);
}
