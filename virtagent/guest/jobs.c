/*
 * jobs.c - see jobs.h
 *
 * The table's mutex covers everything but the pipes' other ends; it is never
 * held over a wait.  Whoever waits for a job hangs an eventfd on the job's list
 * and polls it with his cancel descriptor; any change of the job writes to all
 * of them.  The reading thread polls the output descriptors of all jobs and a
 * wake-up eventfd that says "the set changed".
 *
 * A program that left children behind which hold its pipes open must not keep
 * the job for ever: DRAIN_NS after its end the output counts as ended.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/sock.h"
#include "virtagent/guest/ring.h"

#define DRAIN_NS (1 * NSEC_PER_SEC)
#define SPAWN_WAIT_NS (5 * NSEC_PER_SEC)
#define PUMP_STACK (128u << 10)

struct waiter {
	struct waiter *next;
	int fd;
};

struct job {
	struct jobs *table;
	struct job *next;
	unsigned refs; /* one is the table's */
	struct job_info info;
	struct spawn_job *spawn;
	int in_fd;	 /* program's stdin, or the terminal; -1 = closed */
	int out_fd[2];	 /* -1 = ended; a terminal has [0] only */
	bool writing;	 /* somebody is in job_write() */
	bool forgotten;
	struct ring ring[2];
	uint64_t seen[2]; /* of the slowest follower */
	struct waiter *waiters;
};

struct jobs {
	struct spawn_client *spawner;
	void (*ended)(void *arg, const struct job_info *info);
	void *ended_arg;
	pthread_mutex_t lock;
	pthread_t thread;
	bool running, stop;
	int wake_fd;
	uint32_t last_id;
	struct job *list; /* in the order of numbers */
};

static void wake(int fd)
{
	uint64_t one = 1;

	/* A full counter is a wake-up already. */
	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return;
}

static void changed(struct job *j)
{
	for (struct waiter *w = j->waiters; w; w = w->next)
		wake(w->fd);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* --- life of a job; the lock is held ------------------------------------ */

static void job_unref(struct job *j)
{
	if (--j->refs > 0)
		return;
	close_fd(&j->in_fd);
	close_fd(&j->out_fd[0]);
	close_fd(&j->out_fd[1]);
	ring_done(&j->ring[0]);
	ring_done(&j->ring[1]);
	spawn_job_free(j->spawn);
	free(j);
}

static void unlink_job(struct job *j)
{
	for (struct job **p = &j->table->list; *p; p = &(*p)->next) {
		if (*p != j)
			continue;
		*p = j->next;
		j->forgotten = true;
		job_unref(j);
		return;
	}
}

/* Makes a place in the table, by forgetting what ended longest ago. */
static int make_place(struct jobs *t)
{
	uint64_t now = clock_now();
	struct job *oldest = NULL;
	unsigned n = 0;

	for (struct job *j = t->list, *next; j; j = next) {
		next = j->next;
		if (j->info.over && !j->info.followers &&
		    now - j->info.ended_ns > JOB_KEEP_NS) {
			unlink_job(j);
			continue;
		}
		n++;
		if (j->info.over && !j->info.followers &&
		    (!oldest || j->info.ended_ns < oldest->info.ended_ns))
			oldest = j;
	}
	if (n < JOBS_MAX)
		return 0;
	if (!oldest)
		return -EAGAIN;
	unlink_job(oldest);
	return 0;
}

static void check_over(struct job *j)
{
	if (j->info.over || !j->spawn)
		return;
	spawn_job_status(j->spawn, &j->info.status);
	if (j->info.status.state < SPAWN_FAILED)
		return;
	if (!j->info.ended_ns)
		j->info.ended_ns = clock_now();
	if (j->out_fd[0] >= 0 || j->out_fd[1] >= 0)
		return;
	j->info.over = true;
	close_fd(&j->in_fd);
	j->info.stdin_open = false;
	changed(j);
	if (!j->info.followers && j->table->ended)
		j->table->ended(j->table->ended_arg, &j->info);
}

/* --- the reading thread -------------------------------------------------- */

static void read_stream(struct job *j, int s)
{
	struct ring *r = &j->ring[s];
	ssize_t n;

	n = ring_read_fd(r, j->out_fd[s]);
	if (n == -ENOBUFS) {
		/* Full: drop what every follower has seen, or, when nobody
		 * follows, a quarter of it. */
		ring_drop(r, j->info.followers ? j->seen[s] :
						 r->start + r->max / 4);
		n = ring_read_fd(r, j->out_fd[s]);
	}
	if (n == -EAGAIN || n == -ENOBUFS || n == -ENOMEM)
		return;
	/* A terminal whose other end is closed gives EIO: its end of file. */
	if (n <= 0)
		close_fd(&j->out_fd[s]);
	j->info.bytes[s] = r->end;
	j->info.dropped[s] = r->start;
	changed(j);
}

static bool stream_full(const struct job *j, int s)
{
	const struct ring *r = &j->ring[s];

	return j->info.followers && ring_used(r) == r->max &&
	       j->seen[s] <= r->start;
}

struct poll_slot {
	struct job *job;
	int stream; /* 2 = the end of the program */
};

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
			check_over(j);
			*timeout = 0;
		} else {
			*timeout = 100;
		}
	}
	return n;
}

static void *pump(void *arg)
{
	/* Per job two streams and its end. */
	static const size_t room = 1 + 3 * (JOBS_MAX + 1);
	CLEANUP_FREE struct pollfd *fds = calloc(room, sizeof(*fds));
	CLEANUP_FREE struct poll_slot *slots = calloc(room, sizeof(*slots));
	struct jobs *t = arg;
	uint64_t count;
	int timeout;

	pthread_mutex_lock(&t->lock);
	while (!t->stop && fds && slots) {
		size_t n = pump_set(t, fds, slots, &timeout);

		pthread_mutex_unlock(&t->lock);
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
			check_over(j);
			job_unref(j);
		}
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

struct jobs *jobs_new(struct spawn_client *spawner)
{
	struct jobs *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->wake_fd < 0) {
		free(t);
		return NULL;
	}
	pthread_mutex_init(&t->lock, NULL);
	t->spawner = spawner;
	return t;
}

void jobs_on_end(struct jobs *t, void (*fn)(void *arg, const struct job_info *info),
		 void *arg)
{
	t->ended = fn;
	t->ended_arg = arg;
}

void jobs_free(struct jobs *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->stop = true;
	wake(t->wake_fd);
	pthread_mutex_unlock(&t->lock);
	if (t->running)
		pthread_join(t->thread, NULL);
	while (t->list)
		unlink_job(t->list);
	close(t->wake_fd);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* The lock is held. */
static int pump_start(struct jobs *t)
{
	pthread_attr_t attr;
	int r;

	if (t->running)
		return 0;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, PUMP_STACK);
	r = pthread_create(&t->thread, &attr, pump, t);
	pthread_attr_destroy(&attr);
	t->running = r == 0;
	return -r;
}

/* --- starting ------------------------------------------------------------ */

static int open_terminal(const struct job_request *rq, int *master, int *slave)
{
	struct winsize size = {
		.ws_row = (unsigned short)(rq->rows ? rq->rows : 24),
		.ws_col = (unsigned short)(rq->cols ? rq->cols : 80),
	};
	CLEANUP_CLOSE int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	char name[64];

	if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 ||
	    ptsname_r(fd, name, sizeof(name)) != 0)
		return -errno;
	*slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0)
		return -errno;
	ioctl(*slave, TIOCSWINSZ, &size);
	fd_set_nonblock(fd, true);
	*master = take_fd(fd);
	return 0;
}

/* A pipe whose end of ours, which is ends[ours], does not block. */
static int open_pipe(int ends[2], int ours)
{
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	return fd_set_nonblock(ends[ours], true);
}

/* theirs: descriptors 0-2 of the program, closed by the caller. */
static int open_streams(struct job *j, const struct job_request *rq, int theirs[3])
{
	int ends[2];
	int r;

	if (rq->tty) {
		r = open_terminal(rq, &j->out_fd[0], &theirs[0]);
		if (r < 0)
			return r;
		theirs[1] = fcntl(theirs[0], F_DUPFD_CLOEXEC, 0);
		theirs[2] = fcntl(theirs[0], F_DUPFD_CLOEXEC, 0);
		j->in_fd = fcntl(j->out_fd[0], F_DUPFD_CLOEXEC, 0);
		return theirs[1] < 0 || theirs[2] < 0 || j->in_fd < 0 ? -EMFILE : 0;
	}
	if (rq->stdin_open) {
		r = open_pipe(ends, 1);
		if (r < 0)
			return r;
		theirs[0] = ends[0];
		j->in_fd = ends[1];
	}
	for (int s = 0; s < 2; s++) {
		r = open_pipe(ends, 0);
		if (r < 0)
			return r;
		j->out_fd[s] = ends[0];
		theirs[s + 1] = ends[1];
	}
	return 0;
}

static struct job *job_new(struct jobs *t, const struct job_request *rq)
{
	size_t max = rq->output_max ? rq->output_max : JOB_OUTPUT_DEFAULT;
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->table = t;
	j->refs = 1;
	j->in_fd = j->out_fd[0] = j->out_fd[1] = -1;
	j->ring[0] = RING_INIT(max);
	j->ring[1] = RING_INIT(max);
	j->info.tty = rq->tty;
	j->info.stdin_open = rq->stdin_open || rq->tty;
	j->info.started_ns = clock_now();
	snprintf(j->info.label, sizeof(j->info.label), "%s", rq->label);
	return j;
}

/* Enters the started job into the table, which takes a reference. */
static int job_enter(struct jobs *t, struct job *j)
{
	struct job **end = &t->list;
	int r = pump_start(t);

	if (r == 0)
		r = make_place(t);
	if (r < 0)
		return r;
	while (*end)
		end = &(*end)->next;
	*end = j;
	j->refs++;
	j->info.id = ++t->last_id;
	check_over(j);
	wake(t->wake_fd);
	return 0;
}

int job_start(struct jobs *t, const struct job_request *rq, int cancel_fd,
	      struct job **ret)
{
	int theirs[3] = { -1, -1, -1 };
	struct spawn_request spawn = rq->spawn;
	struct job *j = job_new(t, rq);
	int r;

	if (!j)
		return -ENOMEM;
	r = open_streams(j, rq, theirs);
	if (r == 0) {
		memcpy(spawn.fds, theirs, sizeof(theirs));
		spawn.flags |= rq->tty ? SPAWN_TTY : 0;
		r = spawn_start(t->spawner, &spawn, cancel_fd, SPAWN_WAIT_NS,
				&j->spawn);
	}
	for (int i = 0; i < 3; i++)
		close_fd(&theirs[i]);
	pthread_mutex_lock(&t->lock);
	if (r == 0) {
		r = job_enter(t, j);
		if (r < 0)
			spawn_job_kill(j->spawn, SIGKILL);
	}
	if (r < 0)
		job_unref(j);
	pthread_mutex_unlock(&t->lock);
	if (r == 0)
		*ret = j;
	return r;
}

/* --- references ----------------------------------------------------------- */

struct job *job_find(struct jobs *t, uint32_t id)
{
	struct job *found = NULL;

	pthread_mutex_lock(&t->lock);
	for (struct job *j = t->list; j && !found; j = j->next)
		if (j->info.id == id)
			found = j;
	if (found)
		found->refs++;
	pthread_mutex_unlock(&t->lock);
	return found;
}

struct job *job_next(struct jobs *t, uint32_t id)
{
	struct job *found = NULL;

	pthread_mutex_lock(&t->lock);
	for (struct job *j = t->list; j && !found; j = j->next)
		if (j->info.id > id)
			found = j;
	if (found)
		found->refs++;
	pthread_mutex_unlock(&t->lock);
	return found;
}

void job_put(struct job *j)
{
	struct jobs *t;

	if (!j)
		return;
	t = j->table;
	pthread_mutex_lock(&t->lock);
	job_unref(j);
	pthread_mutex_unlock(&t->lock);
}

uint32_t job_id(const struct job *j)
{
	return j->info.id;
}

void job_info(struct job *j, struct job_info *ret)
{
	pthread_mutex_lock(&j->table->lock);
	check_over(j);
	*ret = j->info;
	pthread_mutex_unlock(&j->table->lock);
}

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
	wake(j->table->wake_fd);
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
			wake(j->table->wake_fd);
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
	while (check_over(j), !ready(j, at)) {
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

/* --- input and control ----------------------------------------------------- */

/* Takes the right to write; -EBUSY while another holds it. */
static int take_input(struct job *j, int *fd)
{
	int r = 0;

	pthread_mutex_lock(&j->table->lock);
	if (j->in_fd < 0)
		r = -EPIPE;
	else if (j->writing)
		r = -EBUSY;
	else
		j->writing = true;
	/* A duplicate, so that the job's end can close its own at any time. */
	if (r == 0) {
		*fd = fcntl(j->in_fd, F_DUPFD_CLOEXEC, 0);
		if (*fd < 0) {
			r = -errno;
			j->writing = false;
		}
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

int job_close_stdin(struct job *j)
{
	int r = 0;

	pthread_mutex_lock(&j->table->lock);
	if (j->in_fd >= 0 && j->info.tty) {
		/* ^D: the terminal stays, as its size and signals need it. */
		if (write(j->in_fd, "\004", 1) < 0)
			r = -errno;
	} else {
		close_fd(&j->in_fd);
		j->info.stdin_open = false;
	}
	pthread_mutex_unlock(&j->table->lock);
	return r;
}

int job_resize(struct job *j, unsigned rows, unsigned cols)
{
	struct winsize size = { .ws_row = (unsigned short)rows,
				.ws_col = (unsigned short)cols };
	int r = 0;

	if (rows == 0 || cols == 0 || rows > 10000 || cols > 10000)
		return -EINVAL;
	pthread_mutex_lock(&j->table->lock);
	if (!j->info.tty || j->in_fd < 0)
		r = -ENOTTY;
	else if (ioctl(j->in_fd, TIOCSWINSZ, &size) < 0)
		r = -errno;
	pthread_mutex_unlock(&j->table->lock);
	return r;
}

int job_kill(struct job *j, int signo)
{
	int r;

	pthread_mutex_lock(&j->table->lock);
	check_over(j);
	r = j->info.ended_ns ? -ESRCH : spawn_job_kill(j->spawn, signo);
	pthread_mutex_unlock(&j->table->lock);
	return r;
}

int job_forget(struct job *j)
{
	int r = 0;

	pthread_mutex_lock(&j->table->lock);
	if (!j->info.ended_ns)
		r = -EBUSY;
	else if (!j->forgotten)
		unlink_job(j);
	pthread_mutex_unlock(&j->table->lock);
	return r;
}
