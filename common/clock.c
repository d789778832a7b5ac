/*
 * clock.c - see clock.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/clock.h"

#include <stdlib.h>
#include <time.h>

uint64_t clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

double clock_wall(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

double clock_scale(void)
{
	const char *text = getenv("VA_TIME_SCALE");
	double scale = text ? strtod(text, NULL) : 1.0;

	/* A nonsense factor must not turn waits into none or for ever. */
	return scale >= 0.01 && scale <= 1000.0 ? scale : 1.0;
}
