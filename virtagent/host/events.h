/*
 * events.h - the host's events: numbered, kept, handed on
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_EVENTS_H
#define VA_HOST_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/loop.h"
#include "virtagent/value.h"

struct events;
struct store;

#define EVENT_NAME_MAX 64u	  /* bytes of an event's name */
#define EVENT_DATA_MAX (16u << 10) /* bytes of its data as JSON */
#define EVENT_LINE_MAX (20u << 10) /* bytes of an event as a line of JSON */
#define EVENTS_READ_MAX 1000u	  /* events of one read */

struct events_config {
	struct loop *loop; /* the daemon's: where posts and watches are */
	const char *path;  /* the database */
	uint64_t max_age_ns, max_count;
	unsigned per_sec; /* of one guest; 0 = VA_GUEST_EVENTS_MAX */
};

/* NULL with errno. */
struct events *events_new(const struct events_config *cfg);
void events_free(struct events *e);
/* Where they are kept; it lives as long as the events. */
struct store *events_store(struct events *e);
void events_set_limits(struct events *e, uint64_t max_age_ns,
		       uint64_t max_count, unsigned per_sec);
/* How many events a second each guest may send. */
unsigned events_per_sec(struct events *e);

/* Keeps an event of the host's own.  Takes data over (NULL = {}).  Any thread;
 * never blocks. */
void events_post(struct events *e, const char *guest, const char *name,
		 struct va_value *data);

/*
 * Keeps an event that a guest sent, on a thread that may wait.  agent and
 * agent_seq are the guest's own numbering (agent may be NULL): what was kept
 * before under them is not kept again.  0 with *seq (of the first time, when it
 * was kept before: *again), -EBUSY: the guest's rate is exceeded, -EINVAL: the
 * name or data, -ETIMEDOUT, or the store's error; text says which.
 */
struct event_sent {
	const char *guest;
	const char *name;
	const struct va_value *data;
	const char *agent;
	int64_t agent_seq;
};
int events_send(struct events *e, const struct event_sent *sent,
		uint64_t deadline_ns, uint64_t *seq, bool *again, char *text,
		size_t size);

/* Lines of JSON, and how far they go. */
struct event_batch {
	struct buf lines;
	uint64_t last;	/* number of the last one, or since */
	unsigned count;
	int error;
};
/* Events after since, of guest or all (NULL), at most limit and 1 MiB.  Any
 * thread but the loop's.  The caller does buf_done(&batch->lines). */
int events_read(struct events *e, uint64_t since, const char *guest,
		unsigned limit, uint64_t deadline_ns,
		struct event_batch *batch);
/* The same for the loop's thread: fn runs there later; the batch is freed
 * behind it. */
int events_fetch(struct events *e, uint64_t since, const char *guest,
		 unsigned limit,
		 void (*fn)(void *arg, const struct event_batch *batch),
		 void *arg);
/* The number of the newest event.  Any thread. */
uint64_t events_last(struct events *e);
/* Why nothing can be written to disk, or "".  Any thread. */
void events_trouble(struct events *e, char *text, size_t size);

/* fn runs on the loop's thread after events were added; it then reads what it
 * wants.  NULL with errno. */
struct events_watch;
struct events_watch *events_watch_new(struct events *e, loop_fn fn, void *arg);
void events_watch_free(struct events_watch *w);

/* For a thread that may wait: until there is an event after since, or cancel_fd
 * (-1 = none) becomes readable (-ECANCELED), or the deadline (-ETIMEDOUT). */
int events_wait(struct events *e, uint64_t since, int cancel_fd,
		uint64_t deadline_ns);

/* Lower-case letters, digits and dashes, 1 to EVENT_NAME_MAX. */
bool events_name_ok(const char *name);

#endif
