/*
 * test-vp-compact.c - sequenced frames without what both sides know
 *
 * VA_SIM_ROUNDS=N damages N times 1000 frames instead of 100,000 in all.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>

#include "tests/lib/peer.h"
#include "tests/lib/unit.h"
#include "virtproxy/cobs.h"
#include "virtproxy/compact.h"
#include "virtproxy/link.h"

#define SEC UINT64_C(1000000000)
#define ACK_CHAIN 0x0badcafeu

static struct peer p;

static size_t put(struct buf *out, const struct vp_frame *f, uint32_t data_stream,
		  bool open)
{
	CHECK_INT(vp_compact_put(out, f, vp_chain_next(f->chain, f), data_stream,
				 open), 0);
	return buf_len(out);
}

/* What is between the delimiters of b, decoded; its length. */
static ssize_t content_of(const struct buf *b, uint8_t *to, size_t max)
{
	const uint8_t *d = buf_data(b);
	size_t n = buf_len(b);

	while (n && !*d) {
		d++;
		n--;
	}
	while (n && !d[n - 1])
		n--;
	return cobs_decode(d, n, to, max);
}

TEST(every_field_comes_back)
{
	static const uint32_t streams[] = { 0, 1, 127, 128, 300000, UINT32_MAX };
	static const uint8_t flags[] = { 0, VP_F_FIN, VP_F_DEFLATE, VP_F_PUSH,
					 VP_F_FIN | VP_F_DEFLATE | VP_F_PUSH };

	for (unsigned i = 0; i < 6 * 5 * 5 * 2; i++) {
		CLEANUP_BUF struct buf b = BUF_INIT(1024);
		struct vp_frame f = { .vr = i / 150 ? VP_VR_GUEST : VP_VR_HOST,
				      .type = VP_T_OPEN + i / 30 % 5,
				      .flags = flags[i / 6 % 5], .seq = i,
				      .ack = i * 77777, .ack_chain = ACK_CHAIN,
				      .chain = i * 99991, .stream = streams[i % 6],
				      .body = (const uint8_t *)"pay\0load", .len = i % 9 };
		uint32_t next = vp_chain_next(f.chain, &f);
		uint8_t content[VP_CONTENT_MAX];
		struct vp_compact c;
		ssize_t n;

		put(&b, &f, 127, i & 1);
		n = content_of(&b, content, sizeof(content));
		CHECK(n > 0 && vp_compact_get(&c, content, (size_t)n, 127));
		CHECK_INT(c.vr, f.vr);
		CHECK_INT(c.type, f.type);
		CHECK_INT(c.flags, f.flags);
		CHECK_INT(c.ack, f.ack & 0xff);
		CHECK_INT(c.stream, f.stream);
		CHECK_INT(c.len, f.len);
		CHECK_INT(memcmp(c.body, f.body, f.len), 0);
		CHECK(vp_compact_valid(&c, next, f.ack, ACK_CHAIN));
		CHECK(!vp_compact_valid(&c, next + 1, f.ack, ACK_CHAIN));
		CHECK(!vp_compact_valid(&c, next, f.ack + 256, ACK_CHAIN));
		CHECK(!vp_compact_valid(&c, next, f.ack, ACK_CHAIN + 1));
		for (size_t cut = 0; cut < (size_t)n; cut++)
			if (vp_compact_get(&c, content, cut, 127))
				CHECK(!vp_compact_valid(&c, next, f.ack, ACK_CHAIN));
	}
}

/* A call that repeats is 5 bytes after deflate, its answer 6: one receive trigger
 * of the guest's UART, and one load of its transmitter. */
TEST(a_ping_fits_the_fifos)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	struct vp_frame f = { .vr = VP_VR_HOST, .type = VP_T_DATA,
			      .flags = VP_F_DEFLATE, .stream = 2, .ack = 7,
			      .body = (const uint8_t *)"answer", .len = 5 };

	CHECK(put(&b, &f, 2, false) <= 14);
	buf_reset(&b);
	f.len = 6;
	f.vr = VP_VR_GUEST;
	CHECK(put(&b, &f, 2, true) <= 16);
}

/* R1: 0 undetected. */
TEST(a_damaged_one_is_not_valid)
{
	const char *rounds = getenv("VA_SIM_ROUNDS");
	uint64_t n = rounds ? strtoull(rounds, NULL, 0) * 1000 : 100000;

	srandom(7);
	for (uint64_t i = 0; i < n; i++) {
		CLEANUP_BUF struct buf b = BUF_INIT(1024);
		uint8_t body[300], content[VP_CONTENT_MAX], *d;
		struct vp_frame f = { .vr = VP_VR_GUEST, .type = VP_T_DATA,
				      .seq = (uint32_t)i, .ack = (uint32_t)i,
				      .ack_chain = ACK_CHAIN,
				      .chain = (uint32_t)random(), .stream = 3,
				      .body = body,
				      .len = (size_t)random() % sizeof(body) };
		uint32_t next;
		struct vp_compact c;
		size_t at, k;
		ssize_t len;

		for (size_t j = 0; j < f.len; j++)
			body[j] = (uint8_t)(random() % 3 ? random() : 0);
		next = vp_chain_next(f.chain, &f);
		put(&b, &f, 3, false);
		d = (uint8_t *)buf_data(&b);
		at = (size_t)random() % (buf_len(&b) - 1);
		k = 1 + (size_t)random() % 8;
		k = k > buf_len(&b) - at ? buf_len(&b) - at : k;
		if (i % 3 == 0) {
			d[at] ^= (uint8_t)(1 << random() % 8);
		} else if (i % 3 == 1) {
			for (size_t j = 0; j < k; j++)
				d[at + j] ^= (uint8_t)(1 + random() % 255);
		} else {
			memmove(d + at, d + at + k, buf_len(&b) - at - k);
			buf_truncate(&b, buf_len(&b) - k);
		}
		len = content_of(&b, content, sizeof(content));
		if (len < 0 || !vp_compact_get(&c, content, (size_t)len, 3))
			continue;
		/* With whatever ack its 8 bits may mean. */
		f.ack += (uint8_t)(c.ack - f.ack);
		f.len = c.len;
		f.body = c.body;
		f.flags = c.flags;
		f.stream = c.stream;
		f.type = c.type;
		if (vp_chain_next(f.chain, &f) == next && f.ack == (uint32_t)i)
			continue; /* the delimiter was hit, not the frame */
		if (vp_compact_valid(&c, vp_chain_next(f.chain, &f), f.ack,
				     ACK_CHAIN))
			unit_fail(__FILE__, __LINE__, "frame %llu",
				  (unsigned long long)i);
	}
}

static void connected(enum vp_role role, uint32_t features)
{
	peer_init(&p, role, VP_CHANNEL_SERIAL, NULL);
	p.features = features;
	peer_connect(&p);
}

TEST(only_a_peer_that_knows_them_gets_them)
{
	connected(VP_HOST, 0);
	peer_have_sent(&p, 3000);
	CHECK(peer_count(&p, VP_T_DATA) > 3);
	CHECK_INT(p.compact, 0);
	peer_done(&p);
	connected(VP_HOST, VP_FEATURE_COMPACT);
	peer_have_sent(&p, 3000);
	CHECK(peer_count(&p, VP_T_DATA) > 3);
	CHECK_INT(p.compact, p.n);
	peer_done(&p);
}

TEST(what_is_sent_again_names_its_number)
{
	unsigned before;

	connected(VP_GUEST, VP_FEATURE_COMPACT);
	p.no_acks = true;
	peer_have_sent(&p, 100);
	before = p.compact;
	CHECK(before >= 1); /* the others do not fit to what is said to be heard */
	peer_forget(&p);
	peer_control(&p, VP_T_NAK, 0, NULL, 0);
	peer_pump(&p);
	CHECK_INT(p.compact, before);
	CHECK_INT(peer_count(&p, VP_T_OPEN), 1);
	CHECK_INT(peer_count(&p, VP_T_DATA), 1);
	CHECK_INT(peer_heard(&p, VP_T_OPEN, 0)->f.seq, 0);
	peer_done(&p);
}

/* The peer's next DATA frame, compact; flip: one bit of its payload. */
static void say_compact(uint32_t stream, const char *text, bool flip)
{
	CLEANUP_BUF struct buf b = BUF_INIT(1024);
	struct vp_frame f = { .vr = p.vr, .type = VP_T_DATA, .seq = p.seq,
			      .ack = p.ack, .ack_chain = p.ack_chain,
			      .chain = p.chain, .stream = stream,
			      .body = (const uint8_t *)text, .len = strlen(text) };

	put(&b, &f, 0, true); /* the stream always said */
	if (flip)
		((uint8_t *)buf_data(&b))[buf_len(&b) - 8] ^= 1;
	peer_bytes(&p, buf_data(&b), buf_len(&b));
	if (flip)
		return;
	p.chain = vp_chain_next(p.chain, &f);
	p.seq++;
}

TEST(what_cannot_be_proved_is_asked_for_once)
{
	connected(VP_HOST, VP_FEATURE_COMPACT);
	peer_open(&p, 1, "s");
	say_compact(1, "hello", false);
	CHECK_INT(p.delivered, 5);
	peer_pump(&p);
	peer_forget(&p);
	say_compact(1, "damaged", true);
	p.seq++; /* lost, and what follows does not fit */
	p.chain ^= 0x10000;
	say_compact(1, "after it", false);
	peer_pump(&p);
	say_compact(1, "after it", false);
	peer_pump(&p);
	CHECK_INT(p.delivered, 5);
	CHECK_INT(peer_count(&p, VP_T_NAK), 1);
	CHECK_INT(peer_heard(&p, VP_T_NAK, 0)->f.ack, 2);
	CHECK_INT(p.downs, 0);
	/* Sent again, with its number; then compact ones go on. */
	p.seq = 2;
	p.chain = peer_heard(&p, VP_T_NAK, 0)->f.ack_chain;
	peer_sequenced(&p, VP_T_DATA, 0, 1, "again", 5);
	say_compact(1, "further", false);
	CHECK_INT(p.delivered, 17);
	say_compact(1, "damaged", true);
	peer_pump(&p);
	CHECK_INT(peer_count(&p, VP_T_NAK), 2);
	CHECK_INT(peer_counter(&p, "rollbacks"), 0);
	peer_done(&p);
}

/* R23, R26 */
TEST(a_foreign_one_asks_who_is_there_but_not_on_a_line_unheard)
{
	peer_init(&p, VP_HOST, VP_CHANNEL_SERIAL, NULL);
	peer_pump(&p);
	peer_forget(&p);
	say_compact(1, "of another session", false);
	peer_wait(&p, SEC);
	CHECK_INT(p.bytes, 0);
	peer_control(&p, VP_T_ACK, 0, NULL, 0); /* any valid frame */
	peer_wait(&p, SEC);
	peer_forget(&p);
	for (int i = 0; i < 100; i++)
		say_compact(1, "of another session", false);
	peer_pump(&p);
	CHECK_INT(peer_count(&p, VP_T_HELLO), 1);
	peer_done(&p);
}

UNIT_MAIN(CASE(every_field_comes_back), CASE(a_ping_fits_the_fifos),
	  CASE_SLOW(a_damaged_one_is_not_valid, 3600),
	  CASE(only_a_peer_that_knows_them_gets_them),
	  CASE(what_is_sent_again_names_its_number),
	  CASE(what_cannot_be_proved_is_asked_for_once),
	  CASE(a_foreign_one_asks_who_is_there_but_not_on_a_line_unheard))
