/*
 * test-vp-hostile.c - a peer that breaks every rule (R38, F33)
 *
 * The mux's memory lies in the simulator's arena, so that what a peer can make
 * it hold is measured.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>
#include <zlib.h>

#include "tests/lib/peer.h"
#include "tests/lib/sim_arena.h"
#include "tests/lib/unit.h"
#include "virtproxy/link.h"

#define SEC UINT64_C(1000000000)
#define MIB (1u << 20)

static struct peer p;

static void connected(enum vp_channel channel, const struct vp_mux_config *cfg)
{
	p.arena = true;
	peer_init(&p, VP_HOST, channel, cfg);
	peer_connect(&p);
}

static void expect_rst(uint32_t stream, uint8_t reason)
{
	const struct peer_frame *f;

	peer_pump(&p);
	for (unsigned i = 0; (f = peer_heard(&p, VP_T_RST, i)); i++)
		if (f->f.stream == stream) {
			CHECK_INT(f->body[0], reason);
			return;
		}
	unit_fail(__FILE__, __LINE__, "no RST for stream %u", stream);
}

TEST(more_bytes_than_credit)
{
	static const uint8_t full[512];

	connected(VP_CHANNEL_SERIAL, NULL);
	p.takes = 0;
	peer_open(&p, 1, "s");
	for (int i = 0; i < 8; i++)
		peer_sequenced(&p, VP_T_DATA, 0, 1, full, 512);
	CHECK_INT(p.closed, 0);
	peer_sequenced(&p, VP_T_DATA, 0, 1, full, 1);
	CHECK_INT(p.closed, 1);
	CHECK_INT(p.last_reason, VP_RESET_PROTOCOL);
	expect_rst(1, VP_RESET_PROTOCOL);
	peer_done(&p);
}

TEST(bytes_after_the_end_and_for_streams_that_never_were)
{
	connected(VP_CHANNEL_SERIAL, NULL);
	peer_open(&p, 1, "s");
	peer_sequenced(&p, VP_T_DATA, VP_F_FIN, 1, "x", 1);
	CHECK_INT(p.eofs, 1);
	peer_sequenced(&p, VP_T_DATA, 0, 1, "x", 1);
	expect_rst(1, VP_RESET_PROTOCOL);
	peer_sequenced(&p, VP_T_DATA, 0, 77, "x", 1);
	expect_rst(77, VP_RESET_PROTOCOL);
	peer_sequenced(&p, VP_T_DATA, 0, 2, "x", 1);
	expect_rst(2, VP_RESET_PROTOCOL);
	CHECK_INT(p.delivered, 1);
	CHECK_INT(p.downs, 0);
	peer_done(&p);
}

TEST(opens_that_make_no_sense)
{
	static const uint8_t bad[][16] = { { [12] = 0 }, { [12] = 200 },
					   { [12] = 4, 'a' } };

	connected(VP_CHANNEL_SERIAL, NULL);
	for (size_t i = 0; i < 3; i++)
		peer_sequenced(&p, VP_T_OPEN, 0, 1, bad[i], 14 + (i == 2));
	peer_sequenced(&p, VP_T_OPEN, 0, 1, NULL, 0);
	peer_open(&p, 2, "s"); /* our number */
	CHECK_INT(p.opened, 0);
	peer_open(&p, 5, "s");
	peer_open(&p, 5, "s"); /* twice */
	peer_open(&p, 3, "s"); /* going back */
	CHECK_INT(p.opened, 1);
	CHECK_INT(peer_counter(&p, "protocol-errors"), 7);
	peer_open(&p, 7, "refused");
	expect_rst(7, VP_RESET_REFUSED);
	CHECK_MEM(peer_heard(&p, VP_T_RST, 0)->body + 1, "not today", 9);
	peer_done(&p);
}

TEST(a_flood_of_opens_is_bounded)
{
	size_t before;

	for (int k = 0; k < 2; k++) {
		connected(k ? VP_CHANNEL_VIRTIO : VP_CHANNEL_SERIAL, NULL);
		p.streams = k ? 256 : 64;
		before = sim_arena_used();
		p.takes = 0;
		p.no_acks = true;
		for (uint32_t i = 0; i < 65535; i++) {
			peer_open(&p, 2 * i + 1, "s");
			if (i % 100 == 0) {
				peer_pump(&p);
				peer_forget(&p);
			}
		}
		CHECK(p.opened <= 256);
		CHECK(sim_arena_used() - before < MIB);
		peer_done(&p);
	}
}

TEST(a_flood_of_bytes_is_bounded_by_credit)
{
	static uint8_t full[VP_RAW_PAYLOAD];
	size_t before;

	connected(VP_CHANNEL_VIRTIO, NULL);
	before = sim_arena_used();
	p.takes = 0;
	for (uint32_t i = 0; i < 300; i++)
		peer_open(&p, 2 * i + 1, "s");
	for (uint32_t k = 0; k < 4; k++)
		for (uint32_t i = 0; i < 300; i++)
			peer_sequenced(&p, VP_T_DATA, 0, 2 * i + 1, full,
				       sizeof(full));
	/* 64 streams of 32 KiB, rounded up by the arena and the buffer. */
	CHECK(sim_arena_used() - before < 5 * MIB);
	peer_done(&p);
}

/* Grown windows come out of one pool. */
TEST(grown_credit_is_bounded_by_the_pool)
{
	static uint8_t part[8192];
	const struct vp_params *v = vp_params_of(VP_CHANNEL_VIRTIO);
	uint64_t granted = 0;
	uint32_t limit[64];

	connected(VP_CHANNEL_VIRTIO, NULL);
	for (uint32_t i = 0; i < 64; i++) {
		peer_open(&p, 2 * i + 1, "s");
		limit[i] = v->credit;
	}
	for (uint32_t k = 0; k < 80; k++) {
		for (uint32_t i = 0; i < 64; i++)
			peer_sequenced(&p, VP_T_DATA, VP_F_PUSH, 2 * i + 1,
				       part, sizeof(part));
		peer_pump(&p);
		for (unsigned i = 0; i < p.n; i++) {
			const struct vp_frame *f = &p.frames[i].f;

			for (size_t at = 0; f->type == VP_T_CREDIT &&
					    at + 8 <= f->len; at += 8)
				limit[get_le32(f->body + at) / 2] =
					get_le32(f->body + at + 4);
		}
		peer_forget(&p);
	}
	for (uint32_t i = 0; i < 64; i++)
		granted += limit[i] - 80 * sizeof(part);
	CHECK(granted > v->credit_pool / 2);
	CHECK(granted <= 64 * v->credit + v->credit_pool);
	CHECK_INT(p.downs, 0);
	peer_done(&p);
}

/* 1 MB of zeros in 1 KB: the owner does not read, so nothing grows. */
TEST(a_deflate_bomb_costs_no_memory)
{
	struct vp_mux_config cfg = { .compress = true };
	static uint8_t bomb[4096], zeros[1 << 20];
	z_stream z = { 0 };
	size_t n, before;

	p.arena = true;
	peer_init(&p, VP_HOST, VP_CHANNEL_SERIAL, &cfg);
	p.features = 1;
	peer_connect(&p);
	deflateInit2(&z, 9, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY);
	z.next_in = zeros;
	z.avail_in = sizeof(zeros);
	z.next_out = bomb;
	z.avail_out = sizeof(bomb);
	deflate(&z, Z_SYNC_FLUSH);
	n = sizeof(bomb) - z.avail_out;
	deflateEnd(&z);
	peer_open(&p, 1, "s");
	before = sim_arena_used();
	p.takes = 10;
	for (size_t at = 0; at < n; at += 512)
		peer_sequenced(&p, VP_T_DATA, VP_F_DEFLATE, 1, bomb + at,
			       n - at < 512 ? n - at : 512);
	CHECK_INT(p.delivered, 10);
	CHECK(sim_arena_used() - before < 65536);
	p.takes = SIZE_MAX;
	vp_stream_drain(p.stream);
	CHECK_INT(p.delivered, sizeof(zeros));
	/* Garbage, and deflate after plain bytes. */
	peer_sequenced(&p, VP_T_DATA, VP_F_DEFLATE, 1, "\xff\xff\xff\xff", 4);
	CHECK_INT(p.last_reason, VP_RESET_PROTOCOL);
	peer_open(&p, 3, "s");
	peer_sequenced(&p, VP_T_DATA, 0, 3, "x", 1);
	peer_sequenced(&p, VP_T_DATA, VP_F_DEFLATE, 3, bomb, 10);
	CHECK_INT(p.closed, 2);
	peer_done(&p);
}

TEST(deflate_that_was_not_agreed_on)
{
	connected(VP_CHANNEL_SERIAL, NULL);
	peer_open(&p, 1, "s");
	peer_sequenced(&p, VP_T_DATA, VP_F_DEFLATE, 1, "x", 1);
	expect_rst(1, VP_RESET_PROTOCOL);
	peer_done(&p);
}

/* A reason text is for people: no control characters, no end of them. */
TEST(reasons_are_made_printable)
{
	uint8_t body[400];

	connected(VP_CHANNEL_SERIAL, NULL);
	peer_open(&p, 1, "s");
	memset(body, '\x1b', sizeof(body));
	body[0] = 200;
	peer_sequenced(&p, VP_T_RST, 0, 1, body, sizeof(body));
	CHECK_INT(p.closed, 1);
	CHECK_INT(p.last_reason, VP_RESET_BY_PEER);
	CHECK_INT(strlen(p.last_text), VP_REASON_MAX);
	CHECK(!strpbrk(p.last_text, "\x1b"));
	peer_done(&p);
}

/* Numbers in order, content at random: everything behind the CRC and the chain. */
TEST(random_frames_do_no_harm)
{
	const char *rounds = getenv("VA_SIM_ROUNDS");
	uint64_t n = rounds ? strtoull(rounds, NULL, 0) * 1000 : 60000;
	struct vp_mux_config cfg = { .compress = true };
	uint8_t body[512];
	size_t before;

	p.arena = true;
	peer_init(&p, VP_HOST, VP_CHANNEL_SERIAL, &cfg);
	p.features = 1;
	peer_connect(&p);
	before = sim_arena_used();
	srandom(1);
	for (uint64_t i = 0; i < n; i++) {
		size_t len = (size_t)random() % 40;
		uint8_t flags = (uint8_t)(random() % 4 | (random() & 0x80));

		for (size_t k = 0; k < len; k++)
			body[k] = (uint8_t)random() % (random() % 2 ? 4 : 255);
		if (random() % 4 == 0)
			len = sizeof(body);
		p.takes = (size_t)random() % 600;
		p.has = (size_t)random() % 100;
		if (random() % 8 == 0)
			peer_control(&p, (uint8_t)(5 + random() % 11),
				     (uint8_t)random(), body, len % 40);
		else if (random() % 4 == 0)
			peer_open(&p, (uint32_t)(i * 2 + 1), "s");
		else
			peer_sequenced(&p, (uint8_t)(0x10 + random() % 6), flags,
				       (uint32_t)(random() % 9 ?
							  i * 2 - random() % 40 :
							  (uint64_t)random()),
				       body, len);
		if (p.stream && random() % 3)
			vp_stream_ready(p.stream);
		if (random() % 20 == 0) {
			peer_wait(&p, (uint64_t)random() % SEC / 10);
			peer_forget(&p);
		}
		if (!vp_mux_session_up(p.mux)) {
			peer_forget(&p);
			p.nonce++;
			peer_connect(&p);
		}
		/* 64 streams, each with both deflate states in the arena's
		 * powers of two, and their credit. */
		CHECK(sim_arena_used() - before < 12 * MIB);
	}
	peer_done(&p);
}

UNIT_MAIN(CASE(more_bytes_than_credit),
	  CASE(bytes_after_the_end_and_for_streams_that_never_were),
	  CASE(opens_that_make_no_sense), CASE(a_flood_of_opens_is_bounded),
	  CASE(a_flood_of_bytes_is_bounded_by_credit),
	  CASE(grown_credit_is_bounded_by_the_pool),
	  CASE(a_deflate_bomb_costs_no_memory),
	  CASE(deflate_that_was_not_agreed_on),
	  CASE(reasons_are_made_printable),
	  CASE_SLOW(random_frames_do_no_harm, 3600))
