/*
 * read_guard.h - a limit in time for reads that might block
 *
 * Between start and stop the calling thread gets a signal after ms milliseconds
 * and each second from then on (one might arrive just before the read begins), so
 * that an interruptible read returns EINTR.  Where no timer
 * can be had, the guard does nothing.  Not nested.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_READ_GUARD_H
#define VA_GUEST_READ_GUARD_H

#include <stdbool.h>
#include <time.h>

struct read_guard {
	timer_t timer;
	bool armed;
};

void read_guard_start(struct read_guard *g, unsigned ms);
void read_guard_stop(struct read_guard *g);

#endif
