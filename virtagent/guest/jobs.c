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

int jobs_make_place(struct jobs *t)
{
	uint64_t now = clock_now();
	struct job *oldest = NULL;
	unsigned n = 0;

	for (struct job *j = t->list, *next; j; j = next) {
		next = j->next;
		if (j->info.over && !j->info.followers &&
		    now - j->info.ended_ns > JOB_KEEP_NS) {
			job_unlink(j);
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
	job_unlink(oldest);
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
	jobs_wake(t->wake_fd);
	pthread_mutex_unlock(&t->lock);
	if (t->running)
		pthread_join(t->thread, NULL);
	while (t->list)
		job_unlink(t->list);
	close(t->wake_fd);
	pthread_mutex_destroy(&t->lock);
	free(t);
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
