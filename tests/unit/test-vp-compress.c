/*
 * test-vp-compress.c - deflate as the mux uses it: piece by piece
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/unit.h"
#include "virtproxy/compress.h"

#define PIECE_MAX 5000u

static const char request[] =
	"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
	"Content-Length: 96\r\n\r\n<?xml version='1.0'?>\n<methodCall>\n"
	"<methodName>guest.ping</methodName>\n<params>\n</params>\n"
	"</methodCall>\n";

/* All of what went in comes out of what was made of it, at once. */
static void inflates_to(struct vp_inflate *in, struct buf *wire,
			const uint8_t *want, size_t n)
{
	size_t got = 0;

	for (;;) {
		const uint8_t *out = NULL;
		size_t used = 0;
		ssize_t made = vp_inflate_run(in, buf_data(wire), buf_len(wire),
					      &used, &out);

		CHECK(made >= 0);
		buf_consume(wire, used);
		if (!made)
			break;
		CHECK(got + (size_t)made <= n);
		CHECK_INT(memcmp(out, want + got, (size_t)made), 0);
		got += (size_t)made;
	}
	CHECK_INT(buf_len(wire), 0);
	CHECK_INT(got, n);
}

/* Text of few words, bytes of any value, or one value. */
static size_t make_piece(uint8_t *to, size_t max)
{
	size_t n = 1 + (size_t)random() % max;
	long kind = random() % 3, value = random();

	for (size_t i = 0; i < n; i++)
		to[i] = kind == 0 ? (uint8_t)request[(i * 7 / 5) % sizeof(request)] :
			kind == 1 ? (uint8_t)random() : (uint8_t)value;
	return n;
}

TEST(every_piece_arrives_whole_at_once)
{
	static const size_t lengths[] = { PIECE_MAX, 40, 1024, 4 };
	static uint8_t piece[PIECE_MAX];

	for (unsigned seed = 1; seed <= 20; seed++) {
		struct vp_deflate *out = vp_deflate_new();
		struct vp_inflate *in = vp_inflate_new();
		struct buf wire = BUF_INIT(1u << 20);

		srandom(seed);
		for (int i = 0; i < 200; i++) {
			size_t n = make_piece(piece, lengths[i % 4]);

			CHECK_INT(vp_deflate_run(out, piece, n, &wire), 0);
			inflates_to(in, &wire, piece, n);
		}
		buf_done(&wire);
		vp_deflate_free(out);
		vp_inflate_free(in);
	}
}

/* What a ping on a kept connection costs the serial line. */
TEST(a_request_that_repeats_costs_few_bytes)
{
	struct vp_deflate *out = vp_deflate_new();
	struct vp_inflate *in = vp_inflate_new();
	struct buf wire = BUF_INIT(1u << 20);
	size_t cost = 0;

	for (int i = 0; i < 10; i++) {
		size_t now;

		CHECK_INT(vp_deflate_run(out, (const uint8_t *)request,
					 sizeof(request), &wire), 0);
		now = buf_len(&wire);
		/* Of bits that are kept back a piece may have more. */
		cost = i < 2 || now > cost ? now : cost;
		inflates_to(in, &wire, (const uint8_t *)request, sizeof(request));
	}
	printf("# %zu of %zu bytes\n", cost, sizeof(request));
	CHECK(cost <= 5);
	buf_done(&wire);
	vp_deflate_free(out);
	vp_inflate_free(in);
}

UNIT_MAIN(CASE(every_piece_arrives_whole_at_once),
	  CASE(a_request_that_repeats_costs_few_bytes))
