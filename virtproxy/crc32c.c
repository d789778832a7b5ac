/*
 * crc32c.c - CRC-32C by table (slice-by-8) or by the SSE4.2 instruction
 *
 * Which one runs is found by timing both at first use, not from the processor's
 * flags alone: an emulator may offer the instruction and take three times as
 * long for it as for the tables.  Timing costs a few dozen microseconds.  A
 * program with threads makes the first call before it starts them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/crc32c.h"

#include <string.h>

#include "common/buf.h"
#include "common/clock.h"

#define TIMED_BYTES 2048u      /* fits every first-level cache with the tables */
#define TIMED_ROUNDS 4	       /* the best one counts: others were interrupted */

/*
 * A CRC is linear: the entry of a byte is the sum (exclusive or) of the entries of
 * its bits, so the eight entries of single bits are all there is to know of a
 * table.  The compiler adds them up: tables in memory that cannot be written
 * are one copy for all processes of a host.
 */
#define BIT(i, n, entry) ((i) >> (n) & 1 ? (entry) : 0u)
#define E(i, a, b, c, d, e, f, g, h) \
	(BIT(i, 0, a) ^ BIT(i, 1, b) ^ BIT(i, 2, c) ^ BIT(i, 3, d) ^ \
	 BIT(i, 4, e) ^ BIT(i, 5, f) ^ BIT(i, 6, g) ^ BIT(i, 7, h))
#define E4(i, ...) \
	E(i, __VA_ARGS__), E((i) + 1, __VA_ARGS__), E((i) + 2, __VA_ARGS__), \
		E((i) + 3, __VA_ARGS__)
#define E16(i, ...) \
	E4(i, __VA_ARGS__), E4((i) + 4, __VA_ARGS__), E4((i) + 8, __VA_ARGS__), \
		E4((i) + 12, __VA_ARGS__)
#define E64(i, ...) \
	E16(i, __VA_ARGS__), E16((i) + 16, __VA_ARGS__), \
		E16((i) + 32, __VA_ARGS__), E16((i) + 48, __VA_ARGS__)
#define TABLE(...) \
	{ E64(0, __VA_ARGS__), E64(64, __VA_ARGS__), E64(128, __VA_ARGS__), \
	  E64(192, __VA_ARGS__) }

/* table[k][i]: the byte i, followed by k bytes of zeros (polynomial 0x82f63b78). */
static const uint32_t table[8][256] = {
	TABLE(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf,
	      0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78),
	TABLE(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8,
	      0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9),
	TABLE(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5,
	      0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743),
	TABLE(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6,
	      0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f),
	TABLE(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91,
	      0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c),
	TABLE(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f,
	      0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6),
	TABLE(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53,
	      0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4),
	TABLE(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da,
	      0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664),
};

static uint32_t crc_slice8(uint32_t crc, const uint8_t *p, size_t len)
{
	crc = ~crc;
	for (; len >= 8; p += 8, len -= 8) {
		uint32_t a = get_le32(p) ^ crc, b = get_le32(p + 4);

		crc = table[7][a & 0xff] ^ table[6][a >> 8 & 0xff] ^
		      table[5][a >> 16 & 0xff] ^ table[4][a >> 24] ^
		      table[3][b & 0xff] ^ table[2][b >> 8 & 0xff] ^
		      table[1][b >> 16 & 0xff] ^ table[0][b >> 24];
	}
	for (; len; len--)
		crc = crc >> 8 ^ table[0][(crc ^ *p++) & 0xff];
	return ~crc;
}

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_SSE42 1
__attribute__((target("sse4.2"))) static uint32_t
crc_sse42(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t c = (uint32_t)~crc;

	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v;

		memcpy(&v, p, 8);
		c = __builtin_ia32_crc32di(c, v);
	}
	for (; len; len--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
	return ~(uint32_t)c;
}

static bool can_sse42(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("sse4.2");
}
#endif

static uint32_t crc_first_use(uint32_t crc, const uint8_t *p, size_t len);

static crc32c_fn picked = crc_first_use;

crc32c_fn crc32c_routine(size_t i, const char **name)
{
	if (i == 0) {
		*name = "slice-by-8";
		return crc_slice8;
	}
#ifdef HAVE_SSE42
	if (i == 1 && can_sse42()) {
		*name = "sse4.2";
		return crc_sse42;
	}
#endif
	return NULL;
}

static uint64_t time_of(crc32c_fn fn)
{
	static const uint8_t bytes[TIMED_BYTES];
	uint64_t best = UINT64_MAX;

	for (int round = 0; round < TIMED_ROUNDS; round++) {
		uint64_t start = clock_now(), took;
		volatile uint32_t sink = fn(0, bytes, sizeof(bytes));

		(void)sink;
		took = clock_now() - start;
		if (took < best)
			best = took;
	}
	return best;
}

static uint32_t crc_first_use(uint32_t crc, const uint8_t *p, size_t len)
{
	crc32c_fn best = NULL, fn;
	uint64_t best_time = UINT64_MAX;
	const char *name;

	for (size_t i = 0; (fn = crc32c_routine(i, &name)); i++) {
		uint64_t t = time_of(fn);

		if (t < best_time) {
			best_time = t;
			best = fn;
		}
	}
	picked = best;
	return best(crc, p, len);
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	return picked(crc, data, len);
}

const char *crc32c_picked(void)
{
	const char *name = "none yet";
	crc32c_fn fn;

	for (size_t i = 0; (fn = crc32c_routine(i, &name)); i++)
		if (fn == picked)
			return name;
	return "none yet";
}
