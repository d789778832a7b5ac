/*
 * jobs_start.c - starting a job: its pipes or terminal, the program, its place
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/sock.h"
#include "virtagent/guest/jobs_priv.h"
#include "virtagent/limits.h"

#define SPAWN_WAIT_NS (5 * NSEC_PER_SEC)

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
	struct job *j = calloc(1, sizeof(*j));
	size_t max;

	if (!j)
		return NULL;
	j->table = t;
	j->refs = 1;
	j->in_fd = j->out_fd[0] = j->out_fd[1] = -1;
	/* What nobody asked for is no reason to refuse. */
	pthread_mutex_lock(&t->lock);
	max = VA_JOB_OUTPUT < t->output_max / 2 ? VA_JOB_OUTPUT :
						   (size_t)t->output_max / 2;
	pthread_mutex_unlock(&t->lock);
	if (rq->output_max)
		max = rq->output_max;
	j->ring[0] = RING_INIT(max);
	j->ring[1] = RING_INIT(max);
	j->info.tty = rq->tty;
	j->info.stdin_open = rq->stdin_open || rq->tty;
	j->info.started_ns = clock_now();
	snprintf(j->info.label, sizeof(j->info.label), "%s", rq->label);
	return j;
}

/* Takes a place before anything is started; it is given back by job_enter(). */
static int take_place(struct jobs *t, uint64_t bytes)
{
	int r;

	pthread_mutex_lock(&t->lock);
	r = jobs_make_place(t, bytes);
	if (r == 0) {
		t->starting++;
		t->starting_bytes += bytes;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* Enters the started job into the table, which takes a reference; the lock is held. */
static int job_enter(struct jobs *t, struct job *j)
{
	struct job **end = &t->list;
	int r = jobs_pump_start(t);

	if (r < 0)
		return r;
	while (*end)
		end = &(*end)->next;
	*end = j;
	j->refs++;
	j->info.id = ++t->last_id;
	job_check_over(j);
	jobs_wake(t->wake_fd);
	return 0;
}

static int run(struct jobs *t, struct job *j, const struct job_request *rq,
	       int cancel_fd)
{
	int theirs[3] = { -1, -1, -1 };
	struct spawn_request spawn = rq->spawn;
	int r = open_streams(j, rq, theirs);

	if (r == 0) {
		memcpy(spawn.fds, theirs, sizeof(theirs));
		spawn.flags |= rq->tty ? SPAWN_TTY : 0;
		r = spawn_start(t->spawner, &spawn, cancel_fd, SPAWN_WAIT_NS,
				&j->spawn);
	}
	for (int i = 0; i < 3; i++)
		close_fd(&theirs[i]);
	return r;
}

int job_start(struct jobs *t, const struct job_request *rq, int cancel_fd,
	      struct job **ret)
{
	struct job *j = job_new(t, rq);
	uint64_t bytes = j ? job_kept(j) : 0;
	bool placed = false;
	int r = j ? take_place(t, bytes) : -ENOMEM;

	if (!j)
		return r;
	placed = r == 0;
	if (placed)
		r = run(t, j, rq, cancel_fd);
	pthread_mutex_lock(&t->lock);
	if (placed) {
		t->starting--;
		t->starting_bytes -= bytes;
	}
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
