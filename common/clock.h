/*
 * clock.h - time
 *
 * Everything inside the tree is CLOCK_MONOTONIC nanoseconds in a uint64_t;
 * wall-clock time appears only in what people read.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_CLOCK_H
#define VA_COMMON_CLOCK_H

#include <stdint.h>

#define NSEC_PER_USEC UINT64_C(1000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_SEC UINT64_C(1000000000)
#define CLOCK_NEVER UINT64_MAX

/* CLOCK_MONOTONIC now. */
uint64_t clock_now(void);
/* Seconds since 1970, with fraction; for people and records only. */
double clock_wall(void);
/* Waits are scaled by VA_TIME_SCALE (a decimal factor, 1 when unset), for slow
 * machines and emulated guests. */
double clock_scale(void);

#endif
