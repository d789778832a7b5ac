/*
 * jobs.c - the table of jobs and the life of each; see jobs.h
 *
 * The table's mutex covers everything but the pipes' other ends; it is never
 * held over a wait.  Whoever waits for a job hangs an eventfd on the job's list
 * and polls it with his cancel descriptor; any change of the job writes to all
 * of them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/guest/jobs_priv.h"
#include "virtagent/limits.h"

void jobs_wake(int fd)
{
	uint64_t one = 1;

	/* A full counter is a wake-up already. */
	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return;
}

void job_changed(struct job *j)
{
	for (struct waiter *w = j->waiters; w; w = w->next)
		jobs_wake(w->fd);
}

/* --- life of a job; the lock is held ------------------------------------ */

void job_unref(struct job *j)
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

void job_unlink(struct job *j)
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

uint64_t job_kept(const struct job *j)
{
	if (j->info.over)
		return j->ring[0].alloc + j->ring[1].alloc;
	return j->ring[0].max + (j->info.tty ? 0 : j->ring[1].max);
}

/* Counts the jobs and what they keep, without those whose time is over; the one
 * that ended longest ago, NULL = none. */
static struct job *count_jobs(struct jobs *t, uint64_t *n, uint64_t *bytes)
{
	uint64_t now = clock_now();
	struct job *oldest = NULL;

	*n = t->starting;
	*bytes = t->starting_bytes;
	for (struct job *j = t->list, *next; j; j = next) {
		bool idle = j->info.over && !j->info.followers;

		next = j->next;
		if (idle && now - j->info.ended_ns > JOB_KEEP_NS) {
			job_unlink(j);
			continue;
		}
		++*n;
		*bytes += job_kept(j);
		if (idle && (!oldest || j->info.ended_ns < oldest->info.ended_ns))
			oldest = j;
	}
	return oldest;
}

int jobs_make_place(struct jobs *t, uint64_t more)
{
	struct job *oldest;
	uint64_t n, bytes;

	while ((oldest = count_jobs(t, &n, &bytes)),
	       n >= t->max || more > t->output_max || bytes > t->output_max - more) {
		if (!oldest || more > t->output_max)
			return n >= t->max ? -EUSERS : -ENOBUFS;
		job_unlink(oldest);
	}
	return 0;
}

void job_check_over(struct job *j)
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
	job_changed(j);
	if (!j->info.followers && j->table->ended)
		j->table->ended(j->table->ended_arg, &j->info);
}

/* --- the table ------------------------------------------------------------ */

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
	t->max = VA_JOBS_MAX;
	t->output_max = VA_OUTPUT_MAX;
	return t;
}

void jobs_on_end(struct jobs *t, void (*fn)(void *arg, const struct job_info *info),
		 void *arg)
{
	t->ended = fn;
	t->ended_arg = arg;
}

void jobs_set_limits(struct jobs *t, uint64_t max, uint64_t output)
{
	pthread_mutex_lock(&t->lock);
	t->max = max;
	t->output_max = output;
	pthread_mutex_unlock(&t->lock);
}

void jobs_free(struct jobs *t)
{
	if (!t)
		return;
	jobs_pump_stop(t);
	while (t->list)
		job_unlink(t->list);
	close(t->wake_fd);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* --- references ----------------------------------------------------------- */

/* The first job whose number is in [low, high], with a reference. */
static struct job *find(struct jobs *t, uint64_t low, uint64_t high)
{
	struct job *j;

	pthread_mutex_lock(&t->lock);
	for (j = t->list; j && j->info.id < low; j = j->next)
		;
	if (j && j->info.id > high)
		j = NULL;
	if (j)
		j->refs++;
	pthread_mutex_unlock(&t->lock);
	return j;
}

struct job *job_find(struct jobs *t, uint32_t id)
{
	return find(t, id, id);
}

struct job *job_next(struct jobs *t, uint32_t id)
{
	return find(t, (uint64_t)id + 1, UINT32_MAX);
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
	job_check_over(j);
	*ret = j->info;
	pthread_mutex_unlock(&j->table->lock);
}

/* --- control -------------------------------------------------------------- */

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
	job_check_over(j);
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
		job_unlink(j);
	pthread_mutex_unlock(&j->table->lock);
	return r;
}
