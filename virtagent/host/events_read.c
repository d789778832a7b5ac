/*
 * events_read.c - reading the host's events, and waiting for newer ones
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/host/event_line.h"
#include "virtagent/host/events_priv.h"

#define LINES_MAX (1u << 20) /* bytes of one batch */

/* --- waiting ------------------------------------------------------------ */

struct events_watch *events_watch_new(struct events *e, loop_fn fn, void *arg)
{
	struct events_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	*w = (struct events_watch){ e->watches, e, fn, arg };
	e->watches = w;
	return w;
}

void events_watch_free(struct events_watch *w)
{
	if (!w)
		return;
	for (struct events_watch **p = &w->e->watches; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	free(w);
}

static int poll_ms(uint64_t deadline_ns)
{
	uint64_t now = clock_now();

	if (deadline_ns == CLOCK_NEVER)
		return -1;
	if (deadline_ns <= now)
		return 0;
	if (deadline_ns - now > 3600 * NSEC_PER_SEC)
		return 3600 * 1000;
	return (int)((deadline_ns - now) / NSEC_PER_MSEC) + 1;
}

static void remove_waiter(struct events *e, struct waiter *w)
{
	pthread_mutex_lock(&e->lock);
	for (struct waiter **p = &e->waiters; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	pthread_mutex_unlock(&e->lock);
}

int events_wait(struct events *e, uint64_t since, int cancel_fd,
		uint64_t deadline_ns)
{
	CLEANUP_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct waiter w = { .fd = fd };
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
			       { .fd = cancel_fd, .events = POLLIN } };
	bool there;
	int n;

	if (fd < 0)
		return -errno;
	pthread_mutex_lock(&e->lock);
	there = e->last > since;
	if (!there) {
		w.next = e->waiters;
		e->waiters = &w;
	}
	pthread_mutex_unlock(&e->lock);
	if (there)
		return 0;
	do
		n = poll(p, 2, poll_ms(deadline_ns));
	while (n < 0 && errno == EINTR);
	remove_waiter(e, &w);
	if (n < 0)
		return -errno;
	if (p[1].revents)
		return -ECANCELED;
	return p[0].revents ? 0 : -ETIMEDOUT;
}

uint64_t events_last(struct events *e)
{
	uint64_t last;

	pthread_mutex_lock(&e->lock);
	last = e->last;
	pthread_mutex_unlock(&e->lock);
	return last;
}

void events_trouble(struct events *e, char *text, size_t size)
{
	pthread_mutex_lock(&e->lock);
	snprintf(text, size, "%s", e->trouble);
	pthread_mutex_unlock(&e->lock);
}

/* --- reading ------------------------------------------------------------ */
static int take_event(void *arg, const struct store_event *ev)
{
	struct event_batch *batch = arg;
	size_t before = buf_len(&batch->lines);
	int err = event_line(&batch->lines, ev);

	if (err < 0) {
		/* Full: the next batch begins with this one. */
		buf_truncate(&batch->lines, before);
		if (before == 0)
			batch->error = err;
		return 1;
	}
	batch->last = ev->seq;
	batch->count++;
	return 0;
}

struct read_job {
	struct events *e;
	uint64_t since;
	char *guest;
	unsigned limit;
	struct event_batch batch;
	void (*fn)(void *arg, const struct event_batch *batch);
	void *arg;
};

static void run_read(void *arg)
{
	struct read_job *j = arg;
	int err;

	buf_init(&j->batch.lines, LINES_MAX);
	j->batch.last = j->since;
	err = store_event_read(j->e->store, j->since, j->guest,
			       j->limit < EVENTS_READ_MAX ? j->limit :
							    EVENTS_READ_MAX,
			       take_event, &j->batch);
	if (err < 0)
		j->batch.error = err;
}

int events_read(struct events *e, uint64_t since, const char *guest,
		unsigned limit, uint64_t deadline_ns, struct event_batch *batch)
{
	struct read_job j = { .e = e, .since = since, .limit = limit,
			      .guest = (char *)(uintptr_t)guest };
	int err;

	buf_init(&j.batch.lines, LINES_MAX);
	err = loop_call(store_loop(e->store), run_read, &j, deadline_ns);
	*batch = j.batch;
	return err < 0 ? err : batch->error;
}

static void read_job_free(struct read_job *j)
{
	buf_done(&j->batch.lines);
	free(j->guest);
	free(j);
}

/* Loop's thread again. */
static void finish_fetch(void *arg)
{
	struct read_job *j = arg;

	j->fn(j->arg, &j->batch);
	read_job_free(j);
}

static void run_fetch(void *arg)
{
	struct read_job *j = arg;

	run_read(j);
	if (loop_post(j->e->loop, finish_fetch, j) < 0)
		read_job_free(j);
}

int events_fetch(struct events *e, uint64_t since, const char *guest,
		 unsigned limit,
		 void (*fn)(void *arg, const struct event_batch *batch),
		 void *arg)
{
	struct read_job *j = calloc(1, sizeof(*j));
	int err;

	if (!j)
		return -ENOMEM;
	*j = (struct read_job){ .e = e, .since = since, .limit = limit,
				.fn = fn, .arg = arg };
	j->guest = guest ? strdup(guest) : NULL;
	err = guest && !j->guest ? -ENOMEM :
				   loop_post(store_loop(e->store), run_fetch, j);
	if (err < 0)
		read_job_free(j);
	return err;
}
