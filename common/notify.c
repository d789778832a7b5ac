/*
 * notify.c - a condition that a thread waits for, and is called away from
 *
 * Each wait has an eventfd of its own, so that it can be polled beside others.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/notify.h"

#define POLL_MAX_MS (3600 * 1000)

struct notify_waiter {
	struct notify_waiter *next;
	int fd;
};

void notify_all(const struct notify *n)
{
	const uint64_t one = 1;

	for (const struct notify_waiter *w = n->waiters; w; w = w->next) {
		if (write(w->fd, &one, sizeof(one)) < 0)
			continue; /* full: it is awake already */
	}
}

static int wait_unlocked(int fd, int cancel_fd, uint64_t deadline)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
			       { .fd = cancel_fd, .events = POLLIN } };
	uint64_t now = clock_now();
	int ms = -1, n;

	if (deadline <= now)
		return -ETIMEDOUT;
	if (deadline != CLOCK_NEVER) {
		uint64_t left = (deadline - now) / NSEC_PER_MSEC;

		ms = left < POLL_MAX_MS ? (int)left + 1 : POLL_MAX_MS;
	}
	n = poll(p, 2, ms);
	if (n < 0 && errno != EINTR)
		return -errno;
	return n > 0 && p[1].revents ? -ECANCELED : 0;
}

int notify_wait(struct notify *n, pthread_mutex_t *lock, int cancel_fd,
		uint64_t deadline_ns)
{
	CLEANUP_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct notify_waiter w = { n->waiters, fd };
	int err;

	if (fd < 0)
		return -errno;
	n->waiters = &w;
	pthread_mutex_unlock(lock);
	err = wait_unlocked(fd, cancel_fd, deadline_ns);
	pthread_mutex_lock(lock);
	for (struct notify_waiter **p = &n->waiters; *p; p = &(*p)->next) {
		if (*p == &w) {
			*p = w.next;
			break;
		}
	}
	return err;
}
