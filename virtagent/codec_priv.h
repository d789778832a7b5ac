/*
 * codec_priv.h - what the files of the codec share
 *
 * codec_encode.c and codec_decode.c alone know xmlrpc-c (codec_wire.h); codec_text.c is
 * what stands in a document, codec_call.c a whole call from document to document.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CODEC_PRIV_H
#define VA_CODEC_PRIV_H

#include "virtagent/codec.h"

/* --- codec_text.c --- */

/* Text as it may stand in a document; what may not is written as \xNN. */
int codec_text(const char *text, size_t n, struct buf *out);
/* Copies a document of xmlrpc-c's, with our own text for each double; they are
 * taken out of doubles. */
int codec_put_doubles(const char *xml, size_t n, struct buf *doubles, struct buf *out);
/* Fills in a fault, its text escaped where it is not clean or too long; r. */
int codec_fault(struct va_fault *fault, int code, int r, const char *text);

/* --- codec_encode.c --- */

/* As codec_encode_reply(), with the reason in fault (may be NULL). */
int codec_encode_result(const struct va_value *result, struct buf *out,
			struct va_fault *fault);

/* --- codec_decode.c --- */

/* A call document; name has VA_METHOD_NAME_MAX + 1 bytes.  Negative errno with fault. */
int codec_decode_call(const void *xml, size_t n, char name[],
		      struct va_value **params, struct va_fault *fault);

#endif
