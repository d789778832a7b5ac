/*
 * hostd_places.h - how much each guest has under way on this host
 *
 * Thread-safe.  A client of the host itself (guest NULL) is not counted.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_PLACES_H
#define VA_HOSTD_PLACES_H

#include <stdbool.h>
#include <stdint.h>

enum place_kind {
	PLACE_CALL,   /* calls at once, commands included: limit calls */
	PLACE_STREAM, /* forwarded connections at once: limit streams */
	PLACE_KINDS,
};

/* Of one kind and guest. */
struct place_counts {
	unsigned now;
	uint64_t taken, refused; /* since the start */
};

struct places;

struct places *places_new(void);
void places_free(struct places *p);
/* For what is taken from now on; 0 = the default of limits.h. */
void places_set_max(struct places *p, enum place_kind kind, unsigned max);
unsigned places_max(struct places *p, enum place_kind kind);
/* false: the guest is at its limit. */
bool places_take(struct places *p, const char *guest, enum place_kind kind);
void places_give(struct places *p, const char *guest, enum place_kind kind);
/* Zeros for a guest that never asked. */
struct place_counts places_counts(struct places *p, const char *guest,
				  enum place_kind kind);

#endif
