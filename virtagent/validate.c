/*
 * validate.c - see validate.h
 *
 * Two stages, both linear.  A look at the raw bytes refuses what XML-RPC never
 * holds and XML parsers are attacked with: NUL, "<!" (DOCTYPE, CDATA, comments),
 * "<?" behind the declaration, long tags, encodings other than UTF-8.  So
 * libxml2 never sees a document type or an entity declaration, whatever its
 * options.  Then its push parser calls us for elements and text.  The elements
 * form a stack (an array; nothing here recurses) and each row of the table below
 * says which elements may follow in which place, so depth and number are checked
 * before anything is built of them.  Text is checked by state, as base64 arrives, or
 * collected in a small buffer, as numbers are.
 *
 * What gets through, xmlrpc-c can parse: its own parser crashes on <i8>junk</i8>
 * and on deep nesting, expands entities and drops bad base64 silently.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/validate.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <libxml/parser.h>

#include "common/log.h"
#include "common/str.h"

enum el {
	EL_CALL, EL_REPLY, EL_METHOD_NAME, EL_PARAMS, EL_PARAM, EL_FAULT,
	EL_VALUE, EL_ARRAY, EL_DATA, EL_STRUCT, EL_MEMBER, EL_NAME,
	EL_I4, EL_INT, EL_I8, EL_BOOLEAN, EL_DOUBLE, EL_STRING, EL_DATETIME,
	EL_BASE64, EL_NIL, EL_EX_I8, EL_EX_NIL,
	EL_COUNT, EL_NONE,
};

#define BIT(el) (1u << (el))
#define TYPES (BIT(EL_ARRAY) | BIT(EL_STRUCT) | BIT(EL_I4) | BIT(EL_INT) | \
	       BIT(EL_I8) | BIT(EL_BOOLEAN) | BIT(EL_DOUBLE) |             \
	       BIT(EL_STRING) | BIT(EL_DATETIME) | BIT(EL_BASE64) |        \
	       BIT(EL_NIL) | BIT(EL_EX_I8) | BIT(EL_EX_NIL))

/* Deepest stack: the root, params, param, a scalar, and value, struct, member
 * for each level. */
#define STACK_MAX (VA_XML_DEPTH_MAX * 3 + 8)

/* What text an element may hold. */
enum text_kind {
	TEXT_SPACE,	/* none but white space between elements */
	TEXT_STRING,	/* any */
	TEXT_VALUE,	/* any, if no element is there */
	TEXT_BASE64,
	TEXT_COLLECTED, /* short; checked at the end */
};

struct validator;

struct el_row {
	const char *name; /* "ex:" stands for the prefix */
	uint32_t first, more; /* children in the first place, and after it */
	unsigned min, max;    /* how many children */
	enum text_kind text;
	size_t text_max; /* of TEXT_COLLECTED */
	bool (*check)(const char *text);
};

struct frame {
	uint8_t el;
	bool has_text; /* other than white space */
	unsigned children;
};

struct validator {
	enum va_xml_kind kind;
	xmlParserCtxtPtr ctxt;
	struct frame stack[STACK_MAX];
	unsigned depth; /* frames in use */
	unsigned values; /* values within values now */
	unsigned elements;
	size_t text_len;
	char text[VA_DOUBLE_TEXT_MAX + 1]; /* of TEXT_COLLECTED */
	size_t base64_chars;
	unsigned base64_pads;
	struct va_xml_facts *facts;
	int error;
	char *err;
	size_t err_size;
};

/* --- scalars ------------------------------------------------------------- */

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

static const struct el_row rows[EL_COUNT] = {
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

/* --- refusing ------------------------------------------------------------ */

static void refuse(struct validator *v, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Only the first reason counts; it stops the parser. */
static void refuse(struct validator *v, int error, const char *fmt, ...)
{
	int n = 0;
	va_list ap;

	if (v->error)
		return;
	v->error = error;
	if (v->ctxt && v->ctxt->input)
		n = snprintf(v->err, v->err_size, "line %d: ",
			     v->ctxt->input->line);
	if (n >= 0 && (size_t)n < v->err_size) {
		va_start(ap, fmt);
		vsnprintf(v->err + n, v->err_size - (size_t)n, fmt, ap);
		va_end(ap);
	}
	if (v->ctxt)
		xmlStopParser(v->ctxt);
}

/* --- elements ------------------------------------------------------------ */

#define EX_URI "http://ws.apache.org/xmlrpc/namespaces/extensions"

static enum el element_find(const char *prefix, const char *name)
{
	bool ex = prefix && strcmp(prefix, "ex") == 0;

	if (prefix && !ex)
		return EL_NONE;
	for (enum el e = 0; e < EL_COUNT; e++) {
		const char *row = rows[e].name;
		bool row_ex = strncmp(row, "ex:", 3) == 0;

		if (ex == row_ex && strcmp(row + (ex ? 3 : 0), name) == 0)
			return e;
	}
	return EL_NONE;
}

/* May el stand where the parser is now?  Refuses if not. */
static bool place_ok(struct validator *v, enum el el)
{
	struct frame *top;
	const struct el_row *row;

	if (v->depth == 0) {
		enum el root = v->kind == VA_XML_CALL ? EL_CALL : EL_REPLY;

		if (el != root)
			refuse(v, -EBADMSG, "<%s> where <%s> was expected",
			       rows[el].name, rows[root].name);
		return el == root;
	}
	top = &v->stack[v->depth - 1];
	row = &rows[top->el];
	if (top->children >= row->max && row->max == VA_STRUCT_MEMBERS_MAX) {
		refuse(v, -EMSGSIZE, "more than %u members in a struct",
		       VA_STRUCT_MEMBERS_MAX);
		return false;
	}
	if (top->children >= row->max || top->has_text ||
	    !((top->children ? row->more : row->first) & BIT(el)) ||
	    (el == EL_PARAM && v->kind == VA_XML_REPLY && top->children)) {
		refuse(v, -EBADMSG, "<%s> does not belong there in <%s>",
		       rows[el].name, row->name);
		return false;
	}
	top->children++;
	return true;
}

static bool limits_ok(struct validator *v, enum el el)
{
	if (++v->elements > VA_XML_ELEMENTS_MAX)
		refuse(v, -EMSGSIZE, "more than %u elements",
		       VA_XML_ELEMENTS_MAX);
	else if (el == EL_VALUE && v->values >= VA_XML_DEPTH_MAX)
		refuse(v, -EMSGSIZE, "values nested deeper than %u",
		       VA_XML_DEPTH_MAX);
	else if (v->depth >= STACK_MAX)
		refuse(v, -EMSGSIZE, "elements nested deeper than %u", STACK_MAX);
	return !v->error;
}

static void on_start(void *ctx, const xmlChar *name, const xmlChar *prefix,
		     const xmlChar *uri, int nb_namespaces,
		     const xmlChar **namespaces, int nb_attributes,
		     int nb_defaulted, const xmlChar **attributes)
{
	struct validator *v = ctx;
	enum el el = element_find((const char *)prefix, (const char *)name);
	char shown[64];

	if (v->error)
		return;
	if (el == EL_NONE) {
		refuse(v, -EBADMSG, "unknown element <%s>",
		       log_escape(shown, sizeof(shown), name,
				  strlen((const char *)name)));
		return;
	}
	/* Only the declaration of "ex" on the root has a meaning here. */
	if (nb_attributes ||
	    (nb_namespaces &&
	     (v->depth || nb_namespaces != 1 || !namespaces[0] ||
	      strcmp((const char *)namespaces[0], "ex") != 0 ||
	      strcmp((const char *)namespaces[1], EX_URI) != 0))) {
		refuse(v, -EBADMSG, "attribute on <%s>", rows[el].name);
		return;
	}
	if (!limits_ok(v, el) || !place_ok(v, el))
		return;
	v->values += el == EL_VALUE;
	if (v->facts)
		v->facts->members += el == EL_MEMBER;
	v->text_len = 0;
	v->base64_chars = v->base64_pads = 0;
	v->stack[v->depth++] = (struct frame){ .el = (uint8_t)el };
}

static void note_double(struct validator *v)
{
	double d = strtod(v->text, NULL);

	if (buf_put(&v->facts->doubles, &d, sizeof(d)) < 0)
		refuse(v, -ENOMEM, "out of memory");
}

static void check_text(struct validator *v, const struct el_row *row)
{
	char shown[64];

	v->text[v->text_len] = 0;
	if (!row->check(v->text))
		refuse(v, -EBADMSG, "bad or out of range <%s>: \"%s\"", row->name,
		       log_escape(shown, sizeof(shown), v->text, v->text_len));
	else if (v->facts && row->check == check_double)
		note_double(v);
}

static void on_end(void *ctx, const xmlChar *name, const xmlChar *prefix,
		   const xmlChar *uri)
{
	struct validator *v = ctx;
	const struct el_row *row;
	struct frame *top;

	if (v->error || !v->depth)
		return;
	top = &v->stack[--v->depth];
	row = &rows[top->el];
	v->values -= top->el == EL_VALUE;
	if (top->children < row->min ||
	    (top->el == EL_PARAMS && v->kind == VA_XML_REPLY && !top->children))
		refuse(v, -EBADMSG, "<%s> is not complete", row->name);
	else if (row->text == TEXT_COLLECTED)
		check_text(v, row);
	else if (row->text == TEXT_BASE64 &&
		 (v->base64_chars % 4 || v->base64_pads > 2))
		refuse(v, -EBADMSG, "base64 is cut short");
}

/* --- text ---------------------------------------------------------------- */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static const uint8_t base64_class[256] = {
	/* 1 = alphabet, 2 = padding, 3 = white space */
	['A' ... 'Z'] = 1, ['a' ... 'z'] = 1, ['0' ... '9'] = 1,
	['+'] = 1, ['/'] = 1, ['='] = 2,
	[' '] = 3, ['\t'] = 3, ['\r'] = 3, ['\n'] = 3,
};

static void base64_text(struct validator *v, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t c = base64_class[(uint8_t)s[i]];

		if (c == 3)
			continue;
		if (c == 0 || (c == 1 && v->base64_pads)) {
			refuse(v, -EBADMSG, "byte 0x%02x in base64",
			       (uint8_t)s[i]);
			return;
		}
		v->base64_chars++;
		v->base64_pads += c == 2;
	}
	if (v->base64_chars / 4 * 3 > VA_BYTES_MAX + 2)
		refuse(v, -EMSGSIZE, "base64 of more than %u bytes",
		       VA_BYTES_MAX);
}

/* Characters beyond U+FFFF: xmlrpc-c's strings end there. */
static bool within_bmp(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if ((uint8_t)s[i] >= 0xf0)
			return false;
	}
	return true;
}

static void on_text(void *ctx, const xmlChar *text, int len)
{
	struct validator *v = ctx;
	const char *s = (const char *)text;
	size_t n = (size_t)len;
	struct frame *top;
	const struct el_row *row;

	if (v->error || !v->depth)
		return;
	top = &v->stack[v->depth - 1];
	row = &rows[top->el];
	if (row->text == TEXT_BASE64) {
		base64_text(v, s, n);
		return;
	}
	if (!within_bmp(s, n)) {
		refuse(v, -EBADMSG, "character beyond U+FFFF in <%s>: "
		       "send it as base64", row->name);
		return;
	}
	if (row->text == TEXT_COLLECTED) {
		if (n > row->text_max - v->text_len) {
			refuse(v, -EMSGSIZE, "<%s> longer than %zu bytes",
			       row->name, row->text_max);
			return;
		}
		memcpy(v->text + v->text_len, s, n);
		v->text_len += n;
	} else if (row->text != TEXT_STRING && !top->has_text) {
		while (n && is_space(*s))
			s++, n--;
		if (!n)
			return;
		top->has_text = true;
		if (row->text == TEXT_SPACE || top->children)
			refuse(v, -EBADMSG, "text in <%s>", row->name);
	}
}

/* --- the rest of XML, none of which is XML-RPC --------------------------- */

static void on_comment(void *ctx, const xmlChar *value)
{
	refuse(ctx, -EBADMSG, "a comment");
}

static void on_cdata(void *ctx, const xmlChar *value, int len)
{
	refuse(ctx, -EBADMSG, "a CDATA section");
}

static void on_pi(void *ctx, const xmlChar *target, const xmlChar *data)
{
	refuse(ctx, -EBADMSG, "a processing instruction");
}

static void on_doctype(void *ctx, const xmlChar *name, const xmlChar *id,
		       const xmlChar *system)
{
	refuse(ctx, -EBADMSG, "a document type declaration");
}

static void on_reference(void *ctx, const xmlChar *name)
{
	refuse(ctx, -EBADMSG, "an entity other than the five of XML");
}

static void on_error(void *ctx, xmlErrorPtr error)
{
	char shown[128];
	size_t n = error->message ? strlen(error->message) : 0;

	while (n && is_space(error->message[n - 1]))
		n--;
	refuse(ctx, -EBADMSG, "%s",
	       log_escape(shown, sizeof(shown), n ? error->message : "", n));
}

static xmlSAXHandler handlers = {
	.initialized = XML_SAX2_MAGIC,
	.startElementNs = on_start,
	.endElementNs = on_end,
	.characters = on_text,
	.ignorableWhitespace = on_text,
	.comment = on_comment,
	.cdataBlock = on_cdata,
	.processingInstruction = on_pi,
	.internalSubset = on_doctype,
	.externalSubset = on_doctype,
	.reference = on_reference,
	.serror = on_error,
};

/* --- the raw bytes ------------------------------------------------------- */

/* The length of the XML declaration, 0 without one; -1 if it names an encoding
 * other than UTF-8 (of which US-ASCII is a part). */
static long declaration(const char *s, size_t n)
{
	static const char *const encodings[] = { "utf-8", "us-ascii" };
	const char *end, *enc;
	size_t len;

	if (n < 6 || memcmp(s, "<?xml", 5) != 0 || !is_space(s[5]))
		return 0;
	end = memmem(s, n < 256 ? n : 256, "?>", 2);
	if (!end)
		return -1;
	len = (size_t)(end - s);
	enc = memmem(s, len, "encoding", 8);
	if (!enc)
		return (long)len + 2;
	enc += 8;
	while (enc < end && (is_space(*enc) || *enc == '='))
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

static void first_look(struct validator *v, const char *s, size_t n)
{
	const char *p = s, *end = s + n;
	long decl;

	if (n > VA_XML_MAX) {
		refuse(v, -EMSGSIZE, "document of %zu bytes, limit %u", n,
		       VA_XML_MAX);
		return;
	}
	if (n == 0 || (*s != '<' && !is_space(*s)) || memchr(s, 0, n)) {
		refuse(v, -EBADMSG, "not an XML document in UTF-8");
		return;
	}
	decl = declaration(s, n);
	if (decl < 0) {
		refuse(v, -EBADMSG, "an encoding other than UTF-8");
		return;
	}
	for (p += decl; (p = memchr(p, '<', (size_t)(end - p))); p++) {
		size_t left = (size_t)(end - p);

		if (!memchr(p, '>', left < VA_XML_TAG_MAX ? left : VA_XML_TAG_MAX)) {
			refuse(v, -EBADMSG, "tag at byte %zu without an end within "
			       "%u bytes", (size_t)(p - s), VA_XML_TAG_MAX);
			return;
		}
		if (p[1] == '!' || p[1] == '?') {
			refuse(v, -EBADMSG, "\"<%c\" at byte %zu: document types, "
			       "comments, CDATA and processing instructions are "
			       "not XML-RPC", p[1], (size_t)(p - s));
			return;
		}
	}
}

void va_validate_init(void)
{
	xmlInitParser();
}

int va_validate_xml(enum va_xml_kind kind, const void *xml, size_t n, char *err,
		    size_t err_size)
{
	return va_validate_xml_facts(kind, xml, n, NULL, err, err_size);
}

int va_validate_xml_facts(enum va_xml_kind kind, const void *xml, size_t n,
			  struct va_xml_facts *facts, char *err, size_t err_size)
{
	const size_t piece = 64u << 10;
	struct validator v = { .kind = kind, .facts = facts, .err = err,
			       .err_size = err_size };

	if (err_size)
		err[0] = 0;
	first_look(&v, xml, n);
	if (v.error)
		return v.error;
	v.ctxt = xmlCreatePushParserCtxt(&handlers, &v, NULL, 0, NULL);
	if (!v.ctxt)
		return -ENOMEM;
	xmlCtxtUseOptions(v.ctxt, XML_PARSE_NONET);
	for (size_t at = 0; at < n && !v.error; at += piece)
		xmlParseChunk(v.ctxt, (const char *)xml + at,
			      (int)(n - at < piece ? n - at : piece), 0);
	if (!v.error)
		xmlParseChunk(v.ctxt, NULL, 0, 1);
	if (!v.error && (!v.ctxt->wellFormed || v.depth || !v.elements))
		refuse(&v, -EBADMSG, "not a whole XML document");
	xmlFreeParserCtxt(v.ctxt);
	return v.error;
}
