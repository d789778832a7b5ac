/*
 * rate.h - how often each guest may do something
 *
 * A token bucket per name.  Not locked.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_RATE_H
#define VA_HOST_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct named;

struct rate {
	double per_sec, burst;
	struct named *buckets;
};

#define RATE_INIT(per_second, at_once)                                         \
	((struct rate){ .per_sec = (per_second), .burst = (at_once) })

/*
 * May name do it now?  true: *refused is how often it was refused since the last
 * time it might, which is told once.  false: *refused counts this one too.
 */
bool rate_take(struct rate *r, const char *name, uint64_t now_ns,
	       uint64_t *refused);
void rate_done(struct rate *r);

#endif
