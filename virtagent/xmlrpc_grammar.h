/*
 * xmlrpc_grammar.h - which elements an XML-RPC document is made of, which may
 * stand in which, and what text each may hold
 *
 * A constant table and pure checks of short texts; validate.c walks a document
 * along it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_XMLRPC_GRAMMAR_H
#define VA_XMLRPC_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XMLRPC_EX_URI "http://ws.apache.org/xmlrpc/namespaces/extensions"

enum el { /* element */
	EL_CALL, EL_REPLY, EL_METHOD_NAME, EL_PARAMS, EL_PARAM, EL_FAULT,
	EL_VALUE, EL_ARRAY, EL_DATA, EL_STRUCT, EL_MEMBER, EL_NAME,
	EL_I4, EL_INT, EL_I8, EL_BOOLEAN, EL_DOUBLE, EL_STRING, EL_DATETIME,
	EL_BASE64, EL_NIL, EL_EX_I8, EL_EX_NIL,
	EL_COUNT, EL_NONE,
};

#define EL_BIT(el) (1u << (el)) /* in el_row.first and .more */

/* What text an element may hold. */
enum text_kind {
	TEXT_SPACE,	/* none but white space between elements */
	TEXT_STRING,	/* any */
	TEXT_VALUE,	/* any, if no element is there */
	TEXT_BASE64,
	TEXT_COLLECTED, /* short; checked at the end */
};

/* A row of the table, found by its enum el. */
struct el_row {
	const char *name; /* "ex:" stands for the prefix */
	uint32_t first, more; /* children in the first place, and after it */
	unsigned min, max;    /* how many children */
	enum text_kind text;
	size_t text_max; /* of TEXT_COLLECTED */
	bool (*check)(const char *text);
};

extern const struct el_row xmlrpc_rows[EL_COUNT];

/* The element of that name; prefix is NULL or what stood before the colon.
 * EL_NONE if there is none. */
enum el xmlrpc_element(const char *prefix, const char *name);

/* White space as XML means it. */
static inline bool xml_is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

#endif
