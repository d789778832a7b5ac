/*
 * cobs.h - Consistent Overhead Byte Stuffing
 *
 * Rewrites bytes so that no 0x00 is left, at the cost of one byte and one more
 * per 254.  0x00 can then end a frame, and a reader that is lost finds the next
 * frame at the next 0x00, whatever lies between.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_COBS_H
#define VP_COBS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Most bytes that n bytes become. */
#define COBS_MAX(n) ((n) + (n) / 254 + 1)

/* An encoder fed in pieces; out has room for COBS_MAX of their sum. */
struct cobs_enc {
	uint8_t *out;
	size_t code; /* where the code of the open block goes */
	size_t end;  /* one past the last byte written */
};

void cobs_start(struct cobs_enc *e, uint8_t *out);
void cobs_put(struct cobs_enc *e, const void *data, size_t n);
/* Returns the length of the whole. */
size_t cobs_finish(struct cobs_enc *e);

/*
 * Decodes n bytes (without the delimiter) to out, which has room for max and may be
 * the same memory.  Returns the decoded length, or -EBADMSG: a 0x00 inside, a
 * block longer than what is left, or more than max.
 */
ssize_t cobs_decode(const uint8_t *in, size_t n, uint8_t *out, size_t max);

#endif
