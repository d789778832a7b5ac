/*
 * script.h - fuzz input as a sequence of small numbers and byte strings
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_FUZZ_SCRIPT_H
#define VA_FUZZ_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

struct script {
	const uint8_t *at, *end;
};

/* 0 at the end. */
static inline uint8_t script_u8(struct script *s)
{
	return s->at < s->end ? *s->at++ : 0;
}

static inline uint32_t script_u32(struct script *s)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++)
		v = v << 8 | script_u8(s);
	return v;
}

/* A length byte times unit, then so many bytes, as far as there are any. */
static inline const uint8_t *script_bytes(struct script *s, size_t unit, size_t *n)
{
	const uint8_t *at;

	*n = script_u8(s) * unit;
	at = s->at;
	if (*n > (size_t)(s->end - s->at))
		*n = (size_t)(s->end - s->at);
	s->at += *n;
	return at;
}

#endif
