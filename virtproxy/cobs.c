/*
 * cobs.c - see cobs.h
 *
 * A block is a code byte c, then c - 1 bytes that are not 0; a block with
 * c < 255 stands for those bytes and a 0, except at the end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/cobs.h"

#include <errno.h>
#include <string.h>

#define BLOCK_FULL 0xff

void cobs_start(struct cobs_enc *e, uint8_t *out)
{
	e->out = out;
	e->code = 0;
	e->end = 1;
}

static void close_block(struct cobs_enc *e)
{
	e->out[e->code] = (uint8_t)(e->end - e->code);
	e->code = e->end++;
}

void cobs_put(struct cobs_enc *e, const void *data, size_t n)
{
	const uint8_t *p = data;

	while (n) {
		size_t room = BLOCK_FULL - (e->end - e->code), run;
		const uint8_t *zero;

		if (!room) {
			close_block(e);
			continue;
		}
		run = n < room ? n : room;
		zero = memchr(p, 0, run);
		if (zero)
			run = (size_t)(zero - p);
		memcpy(e->out + e->end, p, run);
		e->end += run;
		p += run;
		n -= run;
		if (zero) {
			close_block(e);
			p++;
			n--;
		}
	}
}

size_t cobs_finish(struct cobs_enc *e)
{
	e->out[e->code] = (uint8_t)(e->end - e->code);
	return e->end;
}

ssize_t cobs_decode(const uint8_t *in, size_t n, uint8_t *out, size_t max)
{
	size_t i = 0, o = 0;

	while (i < n) {
		uint8_t code = in[i++];
		size_t run = (size_t)code - 1;

		if (!code || run > n - i || run > max - o ||
		    memchr(in + i, 0, run))
			return -EBADMSG;
		memmove(out + o, in + i, run);
		i += run;
		o += run;
		if (code != BLOCK_FULL && i < n) {
			if (o == max)
				return -EBADMSG;
			out[o++] = 0;
		}
	}
	return (ssize_t)o;
}
