/*
 * jobs_io.c - a job's output and input, for those who follow, wait and write
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/guest/jobs_priv.h"

#define EOF_GAP_MIN (100 * NSEC_PER_MSEC)
#define EOF_GAP_MAX (5 * NSEC_PER_SEC)

/* --- output --------------------------------------------------------------- */

void job_follow(struct job *j, uint64_t at[2])
{
	pthread_mutex_lock(&j->table->lock);
	for (int s = 0; s < 2; s++) {
		at[s] = j->ring[s].start;
		if (!j->info.followers || at[s] < j->seen[s])
			j->seen[s] = at[s];
	}
	j->info.followers++;
	pthread_mutex_unlock(&j->table->lock);
}

void job_unfollow(struct job *j, const uint64_t at[2])
{
	pthread_mutex_lock(&j->table->lock);
	j->info.followers--;
	jobs_wake(j->table->wake_fd);
	pthread_mutex_unlock(&j->table->lock);
}

void job_seen(struct job *j, const uint64_t old[2], const uint64_t at[2])
{
	pthread_mutex_lock(&j->table->lock);
	for (int s = 0; s < 2; s++) {
		/* The slowest follower moved up; with several, the mark may now
		 * run ahead of another, who then sees a gap that is reported to
		 * him as dropped bytes. */
		if (old[s] <= j->seen[s] && at[s] > j->seen[s])
			j->seen[s] = at[s];
		if (ring_used(&j->ring[s]) == j->ring[s].max)
			jobs_wake(j->table->wake_fd);
	}
	pthread_mutex_unlock(&j->table->lock);
}

ssize_t job_read(struct job *j, enum job_stream stream, uint64_t *offset,
		 void *to, size_t max)
{
	size_t n;
	bool ended;

	pthread_mutex_lock(&j->table->lock);
	n = ring_peek(&j->ring[stream], offset, to, max);
	ended = j->out_fd[stream] < 0;
	pthread_mutex_unlock(&j->table->lock);
	return n > 0 ? (ssize_t)n : ended ? 0 : -EAGAIN;
}

typedef bool (*job_ready)(const struct job *j, const uint64_t at[2]);

static bool has_output(const struct job *j, const uint64_t at[2])
{
	return j->info.over || j->ring[0].end > at[0] || j->ring[1].end > at[1];
}

static bool is_over(const struct job *j, const uint64_t at[2])
{
	return j->info.over;
}

static int poll_until(struct pollfd *fds, nfds_t n, uint64_t deadline_ns)
{
	uint64_t now = clock_now();
	int timeout = -1;

	if (deadline_ns != CLOCK_NEVER) {
		uint64_t left = now < deadline_ns ? deadline_ns - now : 0;

		if (!left)
			return -ETIMEDOUT;
		timeout = left > 3600 * NSEC_PER_SEC ?
				  3600000 :
				  (int)((left + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
	}
	if (poll(fds, n, timeout) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

static int wait_for(struct job *j, job_ready ready, const uint64_t at[2],
		    int cancel_fd, int extra_fd, uint64_t deadline_ns)
{
	CLEANUP_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct waiter self = { .fd = fd };
	struct pollfd fds[3] = { { .fd = fd, .events = POLLIN },
				 { .fd = cancel_fd, .events = POLLIN },
				 { .fd = extra_fd, .events = POLLIN } };
	int r = 0;
	uint64_t count;

	if (fd < 0)
		return -errno;
	pthread_mutex_lock(&j->table->lock);
	self.next = j->waiters;
	j->waiters = &self;
	while (job_check_over(j), !ready(j, at)) {
		pthread_mutex_unlock(&j->table->lock);
		r = poll_until(fds, 3, deadline_ns);
		if (r == 0 && fds[1].revents)
			r = -ECANCELED;
		else if (r == 0 && fds[2].revents)
			r = 1;
		if (fds[0].revents && read(fd, &count, sizeof(count)) < 0 &&
		    errno != EAGAIN)
			r = -errno;
		pthread_mutex_lock(&j->table->lock);
		if (r != 0)
			break;
	}
	for (struct waiter **w = &j->waiters; *w; w = &(*w)->next) {
		if (*w == &self) {
			*w = self.next;
			break;
		}
	}
	pthread_mutex_unlock(&j->table->lock);
	return r;
}

int job_wait(struct job *j, const uint64_t at[2], int cancel_fd, int extra_fd,
	     uint64_t deadline_ns)
{
	return wait_for(j, has_output, at, cancel_fd, extra_fd, deadline_ns);
}

int job_wait_over(struct job *j, int cancel_fd, uint64_t deadline_ns)
{
	return wait_for(j, is_over, NULL, cancel_fd, -1, deadline_ns);
}

/* --- input ---------------------------------------------------------------- */

/* Takes the right to write; -EBUSY while another holds it. */
static int take_input(struct job *j, int *fd)
{
	int r = 0;

	pthread_mutex_lock(&j->table->lock);
	if (j->in_fd < 0)
		r = -EPIPE;
	else if (j->writing)
		r = -EBUSY;
	/* A duplicate, so that the job's end can close its own at any time. */
	if (r == 0) {
		*fd = fcntl(j->in_fd, F_DUPFD_CLOEXEC, 0);
		r = *fd < 0 ? -errno : 0;
	}
	if (r == 0) {
		j->writing = true;
		j->eof_gap = 0; /* somebody types after all */
	}
	pthread_mutex_unlock(&j->table->lock);
	return r;
}

static void give_input_back(struct job *j)
{
	pthread_mutex_lock(&j->table->lock);
	j->writing = false;
	pthread_mutex_unlock(&j->table->lock);
}

int job_write(struct job *j, const void *data, size_t n, int cancel_fd)
{
	CLEANUP_CLOSE int fd = -1;
	const char *from = data;
	int r = take_input(j, &fd);

	if (r < 0)
		return r;
	while (n > 0 && r == 0) {
		struct pollfd fds[2] = { { .fd = fd, .events = POLLOUT },
					 { .fd = cancel_fd, .events = POLLIN } };
		ssize_t w = write(fd, from, n);

		if (w >= 0) {
			from += w;
			n -= (size_t)w;
		} else if (errno != EAGAIN && errno != EINTR) {
			r = -errno;
		} else if (poll(fds, 2, -1) > 0 && fds[1].revents) {
			r = -ECANCELED;
		}
	}
	give_input_back(j);
	return r;
}

/*
 * A terminal has no end of input that stays: ^D is one, for who reads then.  A shell
 * that sets its modes throws it away with all that was typed before, so it is said
 * again, at growing gaps, until the program ends or somebody types.
 */
int job_say_eof(struct job *j, uint64_t now)
{
	if (!j->eof_gap || j->in_fd < 0)
		return -1;
	if (now >= j->eof_at) {
		/* Where the terminal holds all it can, the next time will do. */
		(void)!write(j->in_fd, "\004", 1);
		j->eof_gap = j->eof_gap < EOF_GAP_MAX / 2 ? j->eof_gap * 2 : EOF_GAP_MAX;
		j->eof_at = now + j->eof_gap;
	}
	return (int)((j->eof_at - now) / NSEC_PER_MSEC) + 1;
}

void job_close_stdin(struct job *j)
{
	uint64_t now = clock_now();

	pthread_mutex_lock(&j->table->lock);
	if (j->in_fd >= 0 && j->info.tty) {
		/* The terminal stays, as its size and signals need it. */
		if (!j->eof_gap) {
			j->eof_gap = EOF_GAP_MIN;
			j->eof_at = now;
			job_say_eof(j, now);
			jobs_wake(j->table->wake_fd);
		}
	} else {
		close_fd(&j->in_fd);
		j->info.stdin_open = false;
	}
	pthread_mutex_unlock(&j->table->lock);
}
