/*
 * events_priv.h - what events.c (adding) and events_read.c (reading, waiting)
 * share; nobody else's business
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_EVENTS_PRIV_H
#define VA_HOST_EVENTS_PRIV_H

#include <pthread.h>

#include "virtagent/host/events.h"
#include "virtagent/host/rate.h"
#include "virtagent/host/store.h"

/* A thread in events_wait(). */
struct waiter {
	struct waiter *next;
	int fd;
};

struct events_watch {
	struct events_watch *next;
	struct events *e;
	loop_fn fn;
	void *arg;
};

struct events {
	struct loop *loop;
	struct store *store;
	struct events_watch *watches; /* loop's thread */
	/* the store's thread: */
	unsigned since_trim;
	bool wall_known;
	int64_t wall_ahead; /* ms, of clock_now(), when last looked at */
	int64_t wall_low;   /* ms, the lowest that it was set to */
	/* everything below: */
	pthread_mutex_t lock;
	uint64_t last;
	uint64_t max_age_ns, max_count;
	struct waiter *waiters;
	struct rate rate; /* of the guests */
	unsigned posted; /* jobs under way */
	uint64_t lost;	 /* posts dropped at POSTED_MAX */
	bool told;	 /* a post to the watches is under way */
	char trouble[256];
};

#endif
