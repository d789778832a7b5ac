/*
 * xml_look.h - a look at the raw bytes of a document, before any XML parser
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_XML_LOOK_H
#define VA_XML_LOOK_H

#include <stddef.h>

/*
 * Refuses what XML-RPC never holds and XML parsers are attacked with: more than
 * VA_XML_MAX bytes, NUL, "<!" (DOCTYPE, CDATA, comments), "<?" behind the
 * declaration, tags longer than VA_XML_TAG_MAX, encodings other than UTF-8.  0,
 * or -EBADMSG (-EMSGSIZE for the size) with the reason in err.  Linear time.
 */
int xml_look(const char *s, size_t n, char *err, size_t err_size);

#endif
