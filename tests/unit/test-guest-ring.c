/*
 * test-guest-ring.c - the kept part of a stream: order, growth, dropping
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/unit.h"
#include "virtagent/guest/ring.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/cleanup.h"

/* The byte at an offset of the test's stream. */
static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(offset * 7 + offset / 251);
}

static void feed(int fd, uint64_t from, size_t n)
{
	uint8_t data[8192];

	for (size_t i = 0; i < n; i++)
		data[i] = byte_at(from + i);
	CHECK_INT(write(fd, data, n), (long)n);
}

static void check_kept(const struct ring *r)
{
	CLEANUP_FREE uint8_t *got = malloc(ring_used(r) + 1);
	uint64_t offset = 0;
	size_t n = ring_peek(r, &offset, got, ring_used(r) + 1);

	CHECK_INT(n, ring_used(r));
	CHECK(offset == r->start);
	for (size_t i = 0; i < n; i++)
		CHECK_INT(got[i], byte_at(offset + i));
}

TEST(bytes_keep_their_order_while_it_grows)
{
	CLEANUP(ring_done) struct ring r = RING_INIT(64u << 10);
	uint64_t sent = 0;
	int p[2];

	CHECK_INT(pipe(p), 0);
	for (int round = 0; round < 400; round++) {
		size_t n = (size_t)(round * 37 % 4000 + 1);

		feed(p[1], sent, n);
		sent += n;
		while (r.end < sent) {
			ssize_t got = ring_read_fd(&r, p[0]);

			if (got == -ENOBUFS) {
				CHECK_INT(ring_used(&r), r.max);
				ring_drop(&r, r.start + r.max / 4);
			} else {
				CHECK(got > 0);
			}
		}
		if (round % 3 == 0)
			ring_drop(&r, r.start + (uint64_t)round);
		check_kept(&r);
	}
	CHECK(r.start > 0);
	close(p[0]);
	close(p[1]);
}

TEST(the_newest_bytes_are_kept_to_the_last_one)
{
	CLEANUP(ring_done) struct ring r = RING_INIT(10000);
	uint64_t sent = 0;
	int p[2];

	CHECK_INT(pipe(p), 0);
	for (int round = 0; round < 400; round++) {
		size_t n = (size_t)(round * 37 % 4000 + 1);

		feed(p[1], sent, n);
		sent += n;
		while (r.end < sent)
			CHECK(ring_read_over(&r, p[0]) > 0);
		CHECK_INT(ring_used(&r), sent < 10000 ? sent : 10000);
		check_kept(&r);
	}
	close(p[1]);
	CHECK_INT(ring_read_over(&r, p[0]), 0);
	CHECK_INT(ring_used(&r), 10000);
	close(p[0]);
}

TEST(the_end_is_told)
{
	CLEANUP(ring_done) struct ring r = RING_INIT(4096);
	int p[2];

	CHECK_INT(pipe(p), 0);
	feed(p[1], 0, 10);
	close(p[1]);
	CHECK_INT(ring_read_fd(&r, p[0]), 10);
	CHECK_INT(ring_read_fd(&r, p[0]), 0);
	close(p[0]);
}

TEST(peek_moves_over_what_was_dropped)
{
	CLEANUP(ring_done) struct ring r = RING_INIT(4096);
	uint64_t offset = 2;
	uint8_t got[10];
	int p[2];

	CHECK_INT(pipe(p), 0);
	feed(p[1], 0, 10);
	CHECK_INT(ring_read_fd(&r, p[0]), 10);
	ring_drop(&r, 6);
	CHECK_INT(ring_peek(&r, &offset, got, 3), 3);
	CHECK_INT(offset, 6);
	CHECK_INT(got[0], byte_at(6));
	ring_drop(&r, 100);
	CHECK_INT(ring_used(&r), 0);
	CHECK(r.start == 10);
	close(p[0]);
	close(p[1]);
}

UNIT_MAIN(CASE(bytes_keep_their_order_while_it_grows), CASE(the_end_is_told),
	  CASE(the_newest_bytes_are_kept_to_the_last_one),
	  CASE(peek_moves_over_what_was_dropped))
