/*
 * jobs_pump.c - the thread that reads the output of all jobs
 *
 * It polls the output descriptors of all jobs, their ends, and a wake-up eventfd
 * that says "the set changed".
 *
 * A program that left children behind which hold its pipes open must not keep
 * the job for ever: DRAIN_NS after its end the output counts as ended.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/guest/jobs_priv.h"
#include "virtagent/limits.h"

#define DRAIN_NS (1 * NSEC_PER_SEC)
#define NO_MEMORY_MS 50
#define PUMP_STACK (128u << 10)
/* The wake-up, and per job two streams and its end. */
#define POLL_MAX (1 + 3 * (VA_CONF_JOBS_MAX + 1))

static void read_stream(struct job *j, int s)
{
	struct ring *r = &j->ring[s];
	ssize_t n;

	n = j->info.followers ? ring_read_fd(r, j->out_fd[s]) :
				ring_read_over(r, j->out_fd[s]);
	if (n == -ENOBUFS) {
		/* Full: what every follower has seen goes. */
		ring_drop(r, j->seen[s]);
		n = ring_read_fd(r, j->out_fd[s]);
	}
	j->table->no_memory |= n == -ENOMEM;
	if (n == -EAGAIN || n == -ENOBUFS || n == -ENOMEM)
		return;
	/* A terminal whose other end is closed gives EIO: its end of file. */
	if (n <= 0)
		close_fd(&j->out_fd[s]);
	j->info.bytes[s] = r->end;
	j->info.dropped[s] = r->start;
	job_changed(j);
}

static bool stream_full(const struct job *j, int s)
{
	const struct ring *r = &j->ring[s];

	return j->info.followers && ring_used(r) == r->max &&
	       j->seen[s] <= r->start;
}

/* ms of poll(), -1 = for ever. */
static void sooner(int *timeout, int ms)
{
	if (ms >= 0 && (*timeout < 0 || ms < *timeout))
		*timeout = ms;
}

/* Fills the poll set; the lock is held, and each job in it is referenced. */
static size_t pump_set(struct jobs *t, struct pollfd *fds, struct poll_slot *slots,
		       int *timeout)
{
	uint64_t now = clock_now();
	size_t n = 1;

	fds[0] = (struct pollfd){ .fd = t->wake_fd, .events = POLLIN };
	*timeout = -1;
	for (struct job *j = t->list; j; j = j->next) {
		bool ended = j->info.ended_ns != 0;

		if (j->info.over || !j->spawn)
			continue;
		for (int s = 0; s < 2; s++) {
			if (j->out_fd[s] < 0 || stream_full(j, s))
				continue;
			fds[n] = (struct pollfd){ .fd = j->out_fd[s], .events = POLLIN };
			slots[n++] = (struct poll_slot){ j, s };
			j->refs++;
		}
		if (!ended) {
			sooner(timeout, job_say_eof(j, now));
			fds[n] = (struct pollfd){ .fd = spawn_job_fd(j->spawn),
						  .events = POLLIN };
			slots[n++] = (struct poll_slot){ j, 2 };
			j->refs++;
			continue;
		}
		/* Ended, but a stream is still held open by somebody. */
		if (now >= j->info.ended_ns + DRAIN_NS && !stream_full(j, 0) &&
		    !stream_full(j, 1)) {
			close_fd(&j->out_fd[0]);
			close_fd(&j->out_fd[1]);
			job_check_over(j);
			*timeout = 0;
		} else {
			sooner(timeout, 100);
		}
	}
	return n;
}

/* Reads what the programs write for as long as the server lives, so what it needs
 * is there before it begins. */
static void *pump(void *arg)
{
	struct jobs *t = arg;
	struct pollfd *fds = t->fds;
	struct poll_slot *slots = t->slots;
	uint64_t count;
	int timeout;

	pthread_mutex_lock(&t->lock);
	while (!t->stop) {
		size_t n = pump_set(t, fds, slots, &timeout);

		pthread_mutex_unlock(&t->lock);
		if (t->no_memory) /* what waits to be read goes on doing so */
			poll(NULL, 0, NO_MEMORY_MS);
		t->no_memory = false;
		poll(fds, n, timeout);
		pthread_mutex_lock(&t->lock);
		if (fds[0].revents &&
		    read(t->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			break;
		for (size_t i = 1; i < n; i++) {
			struct job *j = slots[i].job;

			if (fds[i].revents && slots[i].stream < 2 &&
			    j->out_fd[slots[i].stream] == fds[i].fd)
				read_stream(j, slots[i].stream);
			job_check_over(j);
			job_unref(j);
		}
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int jobs_pump_start(struct jobs *t)
{
	pthread_attr_t attr;
	int r;

	if (t->running)
		return 0;
	t->fds = calloc(POLL_MAX, sizeof(*t->fds));
	t->slots = calloc(POLL_MAX, sizeof(*t->slots));
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, PUMP_STACK);
	r = t->fds && t->slots ? pthread_create(&t->thread, &attr, pump, t) : ENOMEM;
	pthread_attr_destroy(&attr);
	t->running = r == 0;
	if (!t->running) {
		free(take_ptr(t->fds));
		free(take_ptr(t->slots));
	}
	return -r;
}

void jobs_pump_stop(struct jobs *t)
{
	pthread_mutex_lock(&t->lock);
	t->stop = true;
	jobs_wake(t->wake_fd);
	pthread_mutex_unlock(&t->lock);
	if (t->running)
		pthread_join(t->thread, NULL);
	free(take_ptr(t->fds));
	free(take_ptr(t->slots));
}
