/*
 * crc32c.c - CRC-32C by table (slice-by-8) or by the SSE4.2 instruction
 *
 * Which one runs is found by timing both at first use, not from the processor's
 * flags alone: an emulator may offer the instruction and take three times as
 * long for it as for the tables.  Timing costs a few dozen microseconds.  The
 * tables are made at first use; a program with threads makes the first call
 * before it starts them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/crc32c.h"

#include <string.h>

#include "common/buf.h"
#include "common/clock.h"

#define POLYNOMIAL 0x82f63b78u /* reflected */
#define TIMED_BYTES 2048u      /* fits every first-level cache with the tables */
#define TIMED_ROUNDS 4	       /* the best one counts: others were interrupted */

static uint32_t table[8][256];

static void make_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ POLYNOMIAL : c >> 1;
		table[0][i] = c;
	}
	for (int k = 1; k < 8; k++)
		for (uint32_t i = 0; i < 256; i++)
			table[k][i] = table[k - 1][i] >> 8 ^
				      table[0][table[k - 1][i] & 0xff];
}

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
	if (!table[0][1])
		make_tables();
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
