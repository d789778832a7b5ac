/*
 * validate.c - see validate.h
 *
 * Two stages, both linear.  A look at the raw bytes (xml_look.h) comes first: so
 * libxml2 never sees a document type or an entity declaration, whatever its
 * options.  Then its push parser calls us for elements and text.  The elements
 * form a stack (an array; nothing here recurses) and each row of the grammar
 * (xmlrpc_grammar.h) says which elements may follow in which place, so depth and
 * number are checked before anything is built of them.  Text is checked by state,
 * as base64 arrives, or collected in a small buffer, as numbers are.
 *
 * What gets through, xmlrpc-c can parse: its own parser crashes on <i8>junk</i8>
 * and on deep nesting, expands entities and drops bad base64 silently.
 *
 * Making and freeing a parser costs more than parsing a call, so one is kept for
 * the next document.  Only a parser that has seen nothing but a valid one is: it
 * remembers names, and those of a valid document are the grammar's.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/validate.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libxml/parser.h>

#include "common/log.h"
#include "virtagent/xml_look.h"
#include "virtagent/xmlrpc_grammar.h"

/* Deepest stack: the root, params, param, a scalar, and value, struct, member
 * for each level. */
#define STACK_MAX (VA_XML_DEPTH_MAX * 3 + 8)

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

/* May el stand where the parser is now?  Refuses if not. */
static bool place_ok(struct validator *v, enum el el)
{
	struct frame *top;
	const struct el_row *row;

	if (v->depth == 0) {
		enum el root = v->kind == VA_XML_CALL ? EL_CALL : EL_REPLY;

		if (el != root)
			refuse(v, -EBADMSG, "<%s> where <%s> was expected",
			       xmlrpc_rows[el].name, xmlrpc_rows[root].name);
		return el == root;
	}
	top = &v->stack[v->depth - 1];
	row = &xmlrpc_rows[top->el];
	if (top->children >= row->max && row->max == VA_STRUCT_MEMBERS_MAX) {
		refuse(v, -EMSGSIZE, "more than %u members in a struct",
		       VA_STRUCT_MEMBERS_MAX);
		return false;
	}
	if (top->children >= row->max || top->has_text ||
	    !((top->children ? row->more : row->first) & EL_BIT(el)) ||
	    (el == EL_PARAM && v->kind == VA_XML_REPLY && top->children)) {
		refuse(v, -EBADMSG, "<%s> does not belong there in <%s>",
		       xmlrpc_rows[el].name, row->name);
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
	enum el el = xmlrpc_element((const char *)prefix, (const char *)name);
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
	      strcmp((const char *)namespaces[1], XMLRPC_EX_URI) != 0))) {
		refuse(v, -EBADMSG, "attribute on <%s>", xmlrpc_rows[el].name);
		return;
	}
	if (!limits_ok(v, el) || !place_ok(v, el))
		return;
	v->values += el == EL_VALUE;
	if (v->facts) {
		v->facts->members += el == EL_MEMBER;
		v->facts->params += el == EL_PARAM;
	}
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
	else if (v->facts && row == &xmlrpc_rows[EL_DOUBLE])
		note_double(v);
	else if (v->facts && row == &xmlrpc_rows[EL_METHOD_NAME])
		memcpy(v->facts->method, v->text, v->text_len + 1);
}

static void refuse_base64(struct validator *v)
{
	refuse(v, -EMSGSIZE, "base64 of more than %u bytes", VA_BYTES_MAX);
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
	row = &xmlrpc_rows[top->el];
	v->values -= top->el == EL_VALUE;
	if (top->children < row->min ||
	    (top->el == EL_PARAMS && v->kind == VA_XML_REPLY && !top->children))
		refuse(v, -EBADMSG, "<%s> is not complete", row->name);
	else if (row->text == TEXT_COLLECTED)
		check_text(v, row);
	else if (row->text == TEXT_BASE64 &&
		 (v->base64_chars % 4 || v->base64_pads > 2))
		refuse(v, -EBADMSG, "base64 is cut short");
	else if (row->text == TEXT_BASE64 &&
		 v->base64_chars / 4 * 3 - v->base64_pads > VA_BYTES_MAX)
		refuse_base64(v);
}

/* --- text ---------------------------------------------------------------- */

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
		refuse_base64(v); /* whatever pads may follow */
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
	row = &xmlrpc_rows[top->el];
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
		while (n && xml_is_space(*s))
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

	while (n && xml_is_space(error->message[n - 1]))
		n--;
	refuse(ctx, error->code == XML_ERR_NO_MEMORY ? -ENOMEM : -EBADMSG, "%s",
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

/* --- parsers ------------------------------------------------------------- */

static _Atomic(xmlParserCtxtPtr) spare;

static xmlParserCtxtPtr take_parser(struct validator *v)
{
	xmlParserCtxtPtr ctxt = atomic_exchange(&spare, NULL);

	/* Also a reset out of memory calls the handlers. */
	if (ctxt)
		ctxt->userData = v;
	if (ctxt && xmlCtxtResetPush(ctxt, NULL, 0, NULL, NULL) == 0)
		return ctxt;
	xmlFreeParserCtxt(ctxt);
	v->error = 0;
	ctxt = xmlCreatePushParserCtxt(&handlers, v, NULL, 0, NULL);
	if (ctxt)
		xmlCtxtUseOptions(ctxt, XML_PARSE_NONET);
	return ctxt;
}

static void leave_parser(xmlParserCtxtPtr ctxt, bool keep)
{
	xmlParserCtxtPtr none = NULL;

	if (keep) {
		xmlCtxtReset(ctxt); /* frees the document's text */
		ctxt->userData = NULL;
		if (atomic_compare_exchange_strong(&spare, &none, ctxt))
			return;
	}
	xmlFreeParserCtxt(ctxt);
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
	v.error = xml_look(xml, n, err, err_size);
	if (v.error)
		return v.error;
	v.ctxt = take_parser(&v);
	if (!v.ctxt)
		return -ENOMEM;
	for (size_t at = 0; at < n && !v.error; at += piece)
		xmlParseChunk(v.ctxt, (const char *)xml + at,
			      (int)(n - at < piece ? n - at : piece), 0);
	if (!v.error)
		xmlParseChunk(v.ctxt, NULL, 0, 1);
	if (!v.error && (!v.ctxt->wellFormed || v.depth || !v.elements))
		refuse(&v, -EBADMSG, "not a whole XML document");
	leave_parser(v.ctxt, !v.error);
	return v.error;
}
