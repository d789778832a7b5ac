/*
 * notify.h - a condition that a thread waits for, and is called away from
 *
 * As a condition variable, but the wait also ends when a descriptor becomes
 * readable.  It belongs to data under the caller's lock.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_NOTIFY_H
#define VA_COMMON_NOTIFY_H

#include <pthread.h>
#include <stdint.h>

struct notify_waiter;

struct notify {
	struct notify_waiter *waiters;
};

/* Wakes every thread that waits.  Under the lock. */
void notify_all(const struct notify *n);
/*
 * Waits with the lock let go, and returns with it held: 0 (woken: look again),
 * -ETIMEDOUT, -ECANCELED (cancel_fd is readable; -1 = none) or -errno.
 */
int notify_wait(struct notify *n, pthread_mutex_t *lock, int cancel_fd,
		uint64_t deadline_ns);

#endif
