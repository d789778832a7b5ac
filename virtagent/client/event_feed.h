/*
 * event_feed.h - GET /events of the host, line by line
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_EVENT_FEED_H
#define VA_CLIENT_EVENT_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "virtagent/client/rpc.h"
#include "virtagent/value.h"

#define EVENT_LINE_MAX (2u << 20) /* an event's data may be 1 MiB */

struct event_feed {
	const char *guest; /* whose events; NULL = all */
	bool follow;	   /* go on with what happens */
	int64_t last;	   /* number of the last event; -1 = none yet */
	/* An event, read and as it came; a negative errno ends the feed. */
	int (*event)(void *arg, const struct va_value *v, const char *line, size_t n);
	void *arg;
	/* out */
	unsigned status; /* of HTTP */
	bool heard;	 /* an event, in this run */
	int failed;	 /* what event() returned, or -EBADMSG: a line is no event */
	struct buf line, error; /* error: the reply's body when the status is not 200 */
};

#define EVENT_FEED_INIT                                                        \
	.last = -1, .line = BUF_INIT(EVENT_LINE_MAX), .error = BUF_INIT(512)

void event_feed_done(struct event_feed *f);
/* Where "from now on" begins, so that a restart of va-hostd before the first event
 * loses nothing; -1 when the host does not tell. */
int64_t event_feed_newest(struct rpc *r);
/*
 * Asks once, from behind the last event on.  Returns when the events are over, the
 * connection is, event() wants no more, Ctrl-C came, or at the deadline: 0 or a
 * negative errno (-ENOTCONN: nobody answers), with rpc_error() set.
 */
int event_feed_run(struct event_feed *f, struct rpc *r, uint64_t deadline_ns);

#endif
