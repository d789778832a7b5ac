/*
 * test-vp-codec.c - CRC, COBS, and finding frames in noise
 *
 * VA_SIM_ROUNDS=N damages N times 1000 frames instead of 100,000 in all.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>

#include "common/buf.h"
#include "tests/lib/unit.h"
#include "virtproxy/cobs.h"
#include "virtproxy/counters.h"
#include "virtproxy/crc32c.h"
#include "virtproxy/frame.h"

static uint64_t rng = 1;

static uint64_t random_below(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

TEST(crc_of_known_bytes)
{
	static const uint8_t zeros[32], ones[32] = { [0 ... 31] = 0xff };
	const char *name;
	crc32c_fn fn;
	size_t i;

	/* RFC 3720, B.4, and the usual check value. */
	for (i = 0; (fn = crc32c_routine(i, &name)); i++) {
		CHECK_INT(fn(0, (const uint8_t *)"123456789", 9), 0xe3069283);
		CHECK_INT(fn(0, zeros, 32), 0x8a9136aa);
		CHECK_INT(fn(0, ones, 32), 0x62a8ab43);
		CHECK_INT(fn(0, zeros, 0), 0);
	}
	CHECK(i >= 1);
	CHECK_INT(crc32c(0, "123456789", 9), 0xe3069283);
	printf("# picked: %s\n", crc32c_picked());
}

/* Bit by bit, as the polynomial says. */
static uint32_t crc_by_bits(const uint8_t *p, size_t len)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < len * 8; i++) {
		uint32_t bit = p[i / 8] >> i % 8 & 1;

		crc = crc >> 1 ^ ((crc ^ bit) & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

/* Every entry of every table is used at each of the eight places. */
TEST(crc_is_the_polynomials)
{
	uint8_t bytes[16];
	const char *name;
	crc32c_fn fn;

	for (unsigned at = 0; at < sizeof(bytes); at++)
		for (unsigned value = 0; value < 256; value++) {
			memset(bytes, 0xa5, sizeof(bytes));
			bytes[at] = (uint8_t)value;
			for (size_t i = 0; (fn = crc32c_routine(i, &name)); i++)
				CHECK_INT(fn(0, bytes, sizeof(bytes)),
					  crc_by_bits(bytes, sizeof(bytes)));
		}
}

TEST(crc_runs_on_in_pieces)
{
	uint8_t bytes[300];
	const char *name;
	crc32c_fn fn;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)random_below(256);
	for (size_t i = 0; (fn = crc32c_routine(i, &name)); i++)
		for (size_t cut = 0; cut <= sizeof(bytes); cut++)
			CHECK_INT(fn(fn(0, bytes, cut), bytes + cut,
				     sizeof(bytes) - cut),
				  crc32c(0, bytes, sizeof(bytes)));
}

static size_t encode(const uint8_t *in, size_t n, uint8_t *out)
{
	struct cobs_enc e;
	size_t cut = n ? random_below(n) : 0;

	cobs_start(&e, out);
	cobs_put(&e, in, cut);
	cobs_put(&e, in + cut, n - cut);
	return cobs_finish(&e);
}

TEST(cobs_of_known_bytes)
{
	static const struct {
		const char *in, *out;
		size_t n, m;
	} cases[] = {
		{ "", "\x01", 0, 1 },
		{ "\0", "\x01\x01", 1, 2 },
		{ "\0\0", "\x01\x01\x01", 2, 3 },
		{ "\x11\x22\0\x33", "\x03\x11\x22\x02\x33", 4, 5 },
		{ "\x11\0\0\0", "\x02\x11\x01\x01\x01", 4, 5 },
	};
	uint8_t out[8], back[8];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = encode((const uint8_t *)cases[i].in, cases[i].n, out);

		CHECK_INT(n, cases[i].m);
		CHECK_MEM(out, cases[i].out, n);
		CHECK_INT(cobs_decode(out, n, back, sizeof(back)), cases[i].n);
		CHECK_MEM(back, cases[i].in, cases[i].n);
	}
}

TEST(cobs_of_every_length)
{
	uint8_t in[1100], out[COBS_MAX(1100)], back[1100];

	for (size_t n = 0; n <= sizeof(in); n++) {
		size_t len, zeros = random_below(3);

		for (size_t i = 0; i < n; i++)
			in[i] = zeros ? (uint8_t)random_below(zeros == 1 ? 2 : 256) :
					7;
		len = encode(in, n, out);
		CHECK(len <= COBS_MAX(n));
		CHECK(!memchr(out, 0, len));
		CHECK_INT(cobs_decode(out, len, back, sizeof(back)), n);
		CHECK_MEM(back, in, n);
		/* In place, and never past the room it was given. */
		CHECK_INT(cobs_decode(out, len, out, n), n);
	}
}

TEST(cobs_refuses_what_it_never_made)
{
	uint8_t out[8];

	CHECK_INT(cobs_decode((const uint8_t *)"\x05\x01", 2, out, 8), -EBADMSG);
	CHECK_INT(cobs_decode((const uint8_t *)"\x03\x01\0", 3, out, 8), -EBADMSG);
	CHECK_INT(cobs_decode((const uint8_t *)"\0", 1, out, 8), -EBADMSG);
	CHECK_INT(cobs_decode((const uint8_t *)"\x04\x01\x01\x01", 4, out, 2),
		  -EBADMSG);
	CHECK_INT(cobs_decode((const uint8_t *)"\x01\x01\x01", 3, out, 1),
		  -EBADMSG);
}

/* --- the parser ---------------------------------------------------------- */

struct reader {
	struct vp_parser p;
	uint64_t counters[VP_C_COUNT];
	unsigned frames, wrong;
	uint32_t last; /* number of the last frame taken */
};

/* Each frame's payload is made of its number. */
static void fill(uint8_t *to, uint32_t number, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)(number * 2654435761u >> i % 24 ^ i * 7);
}

static void see(void *arg, const struct vp_frame *f)
{
	struct reader *r = arg;
	uint8_t want[2048];

	fill(want, f->seq, f->len);
	r->frames++;
	r->last = f->seq;
	if (f->stream != f->seq + 5 || f->len != 10 + f->seq % 500 ||
	    memcmp(want, f->body, f->len) != 0)
		r->wrong++;
}

static void reader_init(struct reader *r, bool raw)
{
	memset(r, 0, sizeof(*r));
	r->p.frame = see;
	r->p.arg = r;
	r->p.counters = r->counters;
	r->p.own_vr = VP_VR_HOST;
	r->p.raw = raw;
	r->p.seed = 0x12345678;
	r->p.max_payload = VP_RAW_PAYLOAD;
	vp_parser_init(&r->p);
}

static void put_frame(struct buf *out, uint32_t number, bool raw)
{
	uint8_t slot[VP_RAW_HEAD + 600 + VP_RAW_TRAILER];
	struct vp_frame f = { .vr = VP_VR_GUEST, .type = VP_T_DATA,
			      .seq = number, .stream = number + 5,
			      .body = slot + VP_RAW_HEAD,
			      .len = 10 + number % 500 };

	fill(slot + VP_RAW_HEAD, number, f.len);
	if (raw) {
		vp_raw_make(slot, &f, 0x12345678);
		buf_put(out, slot, VP_RAW_HEAD + f.len + VP_RAW_TRAILER);
	} else {
		CHECK_INT(vp_frame_put(out, &f), 0);
	}
}

static void feed(struct reader *r, const struct buf *b, bool sliced)
{
	size_t at = 0, n;

	for (; at < buf_len(b); at += n) {
		n = sliced ? 1 + random_below(40) : buf_len(b);
		if (n > buf_len(b) - at)
			n = buf_len(b) - at;
		vp_parser_input(&r->p, buf_data(b) + at, n, 1);
	}
}

TEST(frames_come_out_however_they_are_cut)
{
	for (int k = 0; k < 4; k++) {
		CLEANUP_BUF struct buf b = BUF_INIT(1 << 20);
		struct reader r;

		reader_init(&r, k & 1);
		for (uint32_t i = 0; i < 600; i++)
			put_frame(&b, i, k & 1);
		feed(&r, &b, k & 2);
		CHECK_INT(r.frames, 600);
		CHECK_INT(r.wrong, 0);
		CHECK_INT(r.counters[VP_C_NOISE_BYTES], 0);
		vp_parser_done(&r.p);
	}
}

static void damage(struct buf *b, int kind)
{
	uint8_t *d = (uint8_t *)buf_data(b);
	size_t n = buf_len(b), at = random_below(n), k = 1 + random_below(16);

	if (k > n - at)
		k = n - at;
	switch (kind) {
	case 0:
		d[at] ^= (uint8_t)(1 << random_below(8));
		break;
	case 1:
		for (size_t i = 0; i < k; i++)
			d[at + i] = (uint8_t)random_below(256);
		break;
	case 2: /* lost */
		memmove(d + at, d + at + k, n - at - k);
		buf_truncate(b, n - k);
		break;
	default: /* inserted */
		if (buf_reserve(b, k)) {
			d = (uint8_t *)buf_data(b);
			buf_commit(b, k);
			memmove(d + at + k, d + at, n - at);
			for (size_t i = 0; i < k; i++)
				d[at + i] = (uint8_t)(' ' + random_below(90));
		}
		break;
	}
}

/* R1: a damaged frame is never taken for another, and costs no other frame. */
TEST(damage_costs_the_frame_it_hits)
{
	const char *rounds = getenv("VA_SIM_ROUNDS");
	uint64_t n = rounds ? strtoull(rounds, NULL, 0) * 1000 : 100000;
	struct reader r;

	reader_init(&r, false);
	for (uint64_t i = 0; i < n; i++) {
		CLEANUP_BUF struct buf b = BUF_INIT(2048);
		uint32_t number = (uint32_t)(2 * i);

		put_frame(&b, number, false);
		damage(&b, (int)random_below(4));
		/* A delimiter may be lost with it; the next frame has its own. */
		feed(&r, &b, false);
		buf_reset(&b);
		put_frame(&b, number + 1, false);
		feed(&r, &b, false);
		if (r.wrong || r.last != number + 1)
			unit_fail(__FILE__, __LINE__, "frame %u: wrong %u, last %u",
				  number, r.wrong, r.last);
	}
	CHECK(r.counters[VP_C_BAD_CRC] > n / 4);
	vp_parser_done(&r.p);
}

/* A cut raw frame eats nothing that follows it, once it was found out. */
TEST(cut_raw_frame_is_found_by_its_trailer_or_by_time)
{
	CLEANUP_BUF struct buf b = BUF_INIT(1 << 16);
	struct reader r;

	reader_init(&r, true);
	put_frame(&b, 400, true);
	buf_truncate(&b, 300);
	for (uint32_t i = 401; i < 410; i++)
		put_frame(&b, i, true);
	feed(&r, &b, true);
	CHECK_INT(r.frames, 9);
	CHECK_INT(r.wrong, 0);
	CHECK_INT(r.counters[VP_C_CUT_FRAMES], 1);
	/* Nothing follows that would fill it up: time finds it. */
	buf_reset(&b);
	put_frame(&b, 450, true);
	buf_truncate(&b, 100);
	put_frame(&b, 3, true);
	feed(&r, &b, false);
	CHECK_INT(r.frames, 9);
	CHECK(r.p.cut_at <= 1 + VP_CUT_AFTER);
	vp_parser_tick(&r.p, r.p.cut_at - 1);
	CHECK_INT(r.frames, 9);
	vp_parser_tick(&r.p, r.p.cut_at);
	CHECK_INT(r.frames, 10);
	CHECK_INT(r.last, 3);
	CHECK_INT(r.wrong, 0);
	CHECK(r.p.cut_at == UINT64_MAX);
	vp_parser_done(&r.p);
}

/* A payload full of frames of another session yields none of them, wherever
 * the reader comes in. */
TEST(payload_forges_no_raw_frame)
{
	CLEANUP_BUF struct buf inner = BUF_INIT(1 << 16);
	struct reader r;

	for (uint32_t i = 200; i < 220; i++)
		put_frame(&inner, i, true);
	for (size_t from = 0; from < 2000; from++) {
		reader_init(&r, true);
		r.p.seed = 0x99999999;
		vp_parser_input(&r.p, buf_data(&inner) + from,
				buf_len(&inner) - from, 1);
		CHECK_INT(r.frames, 0);
		vp_parser_done(&r.p);
	}
}

TEST(endless_noise_is_not_kept)
{
	static uint8_t noise[1 << 16];
	struct reader r;

	memset(noise, 0x41, sizeof(noise));
	for (int k = 0; k < 2; k++) {
		reader_init(&r, k);
		for (int i = 0; i < 100; i++)
			vp_parser_input(&r.p, noise, sizeof(noise), 1);
		CHECK(r.counters[VP_C_NOISE_BYTES] > 6000000);
		CHECK(r.p.acc.alloc <= 65536);
		vp_parser_done(&r.p);
	}
}

UNIT_MAIN(CASE(crc_of_known_bytes), CASE(crc_is_the_polynomials),
	  CASE(crc_runs_on_in_pieces),
	  CASE(cobs_of_known_bytes), CASE(cobs_of_every_length),
	  CASE(cobs_refuses_what_it_never_made),
	  CASE(frames_come_out_however_they_are_cut),
	  CASE_SLOW(damage_costs_the_frame_it_hits, 36000),
	  CASE(cut_raw_frame_is_found_by_its_trailer_or_by_time),
	  CASE(payload_forges_no_raw_frame), CASE(endless_noise_is_not_kept))
