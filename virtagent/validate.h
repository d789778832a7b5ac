/*
 * validate.h - the strict gate before any XML-RPC parse, and the only place
 * that knows libxml2
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_VALIDATE_H
#define VA_VALIDATE_H

#include <stddef.h>

#include "common/buf.h"
#include "virtagent/limits.h"

/* Process-wide set-up; before threads. */
void va_validate_init(void);

enum va_xml_kind { VA_XML_CALL, VA_XML_REPLY };

/*
 * Is this a well-formed XML-RPC document of that kind: UTF-8, no DOCTYPE, no
 * processing instructions, no entities but the five, no attributes, only the
 * known elements, each where it belongs, every number in range?  0, or -EBADMSG
 * (-EMSGSIZE for a limit) with the reason in err.  Linear time, constant
 * memory.
 */
int va_validate_xml(enum va_xml_kind kind, const void *xml, size_t n, char *err,
		    size_t err_size);

/* What the decoder wants to know of a document besides. */
struct va_xml_facts {
	char method[VA_METHOD_NAME_MAX + 1]; /* of a call */
	size_t params;	    /* how many it has */
	size_t members;	    /* of all structs together */
	struct buf doubles; /* every <double>, in order, as C doubles */
};

/* The same; facts may be NULL, else they are filled (doubles: the caller gives
 * an empty buffer and frees it). */
int va_validate_xml_facts(enum va_xml_kind kind, const void *xml, size_t n,
			  struct va_xml_facts *facts, char *err, size_t err_size);

#endif
