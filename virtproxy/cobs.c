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
/* Up to here, a loop over bytes beats two calls into the C library: bytes full
 * of zeros (numbers, sparse files) are common. */
#define SHORT_RUN 16u

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

/* Copies up to max bytes that are not 0, one by one; returns how many. */
static size_t copy_run(uint8_t *to, const uint8_t *from, size_t max)
{
	size_t n = 0;

	while (n < max && from[n]) {
		to[n] = from[n];
		n++;
	}
	return n;
}

void cobs_put(struct cobs_enc *e, const void *data, size_t n)
{
	const uint8_t *p = data, *zero;

	while (n) {
		size_t room = BLOCK_FULL - (e->end - e->code), run, start;

		if (!room) { /* a full block stands for no 0 */
			close_block(e);
			continue;
		}
		if (!*p) {
			close_block(e);
			p++;
			n--;
			continue;
		}
		run = n < room ? n : room;
		start = copy_run(e->out + e->end, p,
				 run < SHORT_RUN ? run : SHORT_RUN);
		if (start == SHORT_RUN) {
			zero = memchr(p, 0, run);
			run = zero ? (size_t)(zero - p) : run;
			memcpy(e->out + e->end, p, run);
		} else {
			run = start;
		}
		e->end += run;
		p += run;
		n -= run;
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

		if (!code || run > n - i || run > max - o)
			return -EBADMSG;
		if (run <= SHORT_RUN) {
			/* In place, too: it never writes ahead of itself. */
			if (copy_run(out + o, in + i, run) < run)
				return -EBADMSG;
		} else {
			if (memchr(in + i, 0, run))
				return -EBADMSG;
			memmove(out + o, in + i, run);
		}
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
