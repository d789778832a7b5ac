/*
 * hostd_feed.h - one guest's events, read-only, on GUESTDIR/events.sock
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_FEED_H
#define VA_HOSTD_FEED_H

#include <sys/types.h>

#include "common/loop.h"
#include "virtagent/host/events.h"

struct guest_feed;

/* Listens at path.  NULL with errno. */
struct guest_feed *feed_new(struct loop *loop, struct events *events,
			    const char *guest, const char *path, gid_t gid);
void feed_free(struct guest_feed *f);

#endif
