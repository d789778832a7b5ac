/*
 * agent_log.c - see agent_log.h
 *
 * Lines wait in a list, at most QUEUE_BYTES of them.  The writer takes one off,
 * writes it without the lock, and looks again.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

#define QUEUE_BYTES (64u << 10)
#define FLUSH_LOOK_MS 5
#define WRITER_STACK (128u << 10)

struct line {
	struct line *next;
	enum log_level level;
	bool reopen; /* no text: a request */
	char text[];
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct line *first, **last;
	size_t bytes;
	unsigned long dropped;
	bool running, busy;
	const char *target;
} queue = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
	.last = &queue.first,
};

static void write_line(const struct line *l, unsigned long dropped)
{
	char text[64];

	if (dropped) {
		snprintf(text, sizeof(text), "%lu log lines were lost", dropped);
		log_write(LOG_LVL_WARNING, text);
	}
	if (l->reopen)
		(void)log_reopen();
	else
		log_write(l->level, l->text);
}

static void open_target(void)
{
	char text[256];
	int r = log_set_target(queue.target);

	if (r == 0)
		return;
	snprintf(text, sizeof(text), "log %s: %s", queue.target, strerror(-r));
	log_write(LOG_LVL_ERROR, text);
}

static void *writer(void *arg)
{
	open_target();
	pthread_mutex_lock(&queue.lock);
	for (;;) {
		struct line *l = queue.first;
		unsigned long dropped = queue.dropped;

		if (!l) {
			queue.busy = false;
			pthread_cond_broadcast(&queue.changed);
			pthread_cond_wait(&queue.changed, &queue.lock);
			continue;
		}
		queue.busy = true;
		queue.dropped = 0;
		queue.first = l->next;
		if (!queue.first)
			queue.last = &queue.first;
		queue.bytes -= sizeof(*l) + strlen(l->text) + 1;
		pthread_mutex_unlock(&queue.lock);
		write_line(l, dropped);
		free(l);
		pthread_mutex_lock(&queue.lock);
	}
	return arg;
}

/* With the lock held. */
static bool start_writer(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	if (queue.running)
		return true;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WRITER_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	queue.running = pthread_create(&thread, &attr, writer, NULL) == 0;
	pthread_attr_destroy(&attr);
	return queue.running;
}

static void add(enum log_level level, const char *text, bool reopen)
{
	size_t n = strlen(text) + 1;
	struct line *l;

	pthread_mutex_lock(&queue.lock);
	l = queue.bytes + sizeof(*l) + n <= QUEUE_BYTES && start_writer() ?
		    malloc(sizeof(*l) + n) : NULL;
	if (l) {
		l->next = NULL;
		l->level = level;
		l->reopen = reopen;
		memcpy(l->text, text, n);
		*queue.last = l;
		queue.last = &l->next;
		queue.bytes += sizeof(*l) + n;
		pthread_cond_broadcast(&queue.changed);
	} else {
		queue.dropped++;
	}
	pthread_mutex_unlock(&queue.lock);
}

void agent_log_add(enum log_level level, const char *text)
{
	add(level, text, false);
}

void agent_log_queue(const char *target)
{
	queue.target = target;
	log_set_sink(agent_log_add);
}

void agent_log_reopen(void)
{
	add(LOG_LVL_INFO, "", true);
}

void agent_log_flush(int ms)
{
	uint64_t until = clock_now() + (uint64_t)ms * NSEC_PER_MSEC;
	bool left = true;

	/* Not a timed wait: its clock is the wall's, which may be set back. */
	while (left) {
		pthread_mutex_lock(&queue.lock);
		left = (queue.first || queue.busy) && clock_now() < until;
		pthread_mutex_unlock(&queue.lock);
		if (left)
			poll(NULL, 0, FLUSH_LOOK_MS);
	}
}
