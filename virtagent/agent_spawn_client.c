/*
 * agent_spawn_client.c - see agent_spawn.h and agent_spawn_client.h
 *
 * One mutex guards the list of jobs and the pair.  Handlers hold it only for
 * bookkeeping and non-blocking sends; the main thread, which also answers the
 * endpoint's heartbeat, may therefore take it.  A job has two owners: the
 * handler's reference and, until it is over, the list.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_spawn_client.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "common/clock.h"
#include "virtagent/agent_ipc.h"
#include "virtagent/agent_spawn_wire.h"

struct spawn_job {
	struct spawn_client *client;
	struct spawn_job *next;
	uint32_t id;
	int fd; /* eventfd: readable when over */
	bool listed, held;
	struct spawn_status status;
};

struct spawn_client {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a job's state, or the pair */
	int fd;
	uint32_t last_id;
	struct spawn_job *jobs;
	unsigned starting; /* calls of spawn_start() now */
	void (*on_busy)(void *arg);
	void *busy_arg;
};

struct spawn_client *spawn_client_new(void)
{
	struct spawn_client *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;

	if (!c)
		return NULL;
	c->fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attr);
	pthread_condattr_destroy(&attr);
	return c;
}

void spawn_client_free(struct spawn_client *c)
{
	if (!c)
		return;
	spawn_client_attach(c, -1);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void job_release(struct spawn_job *job)
{
	if (job->listed || job->held)
		return;
	close(job->fd);
	free(job);
}

/* Takes a job that is over off the list and wakes whoever waits. */
static void job_unlist(struct spawn_client *c, struct spawn_job **at)
{
	static const uint64_t one = 1;
	struct spawn_job *job = *at;

	*at = job->next;
	job->listed = false;
	(void)!write(job->fd, &one, sizeof(one));
	job_release(job);
}

void spawn_client_attach(struct spawn_client *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	while (c->jobs) {
		c->jobs->status.state = SPAWN_LOST;
		job_unlist(c, &c->jobs);
	}
	if (c->fd >= 0)
		close(c->fd);
	c->fd = fd;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

int spawn_client_fd(struct spawn_client *c)
{
	int fd;

	pthread_mutex_lock(&c->lock);
	fd = c->fd;
	pthread_mutex_unlock(&c->lock);
	return fd;
}

bool spawn_client_busy(struct spawn_client *c)
{
	bool busy;

	pthread_mutex_lock(&c->lock);
	busy = c->jobs || c->starting;
	pthread_mutex_unlock(&c->lock);
	return busy;
}

void spawn_client_on_busy(struct spawn_client *c, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&c->lock);
	c->on_busy = fn;
	c->busy_arg = arg;
	pthread_mutex_unlock(&c->lock);
}

bool spawn_available(struct spawn_client *c)
{
	return spawn_client_fd(c) >= 0;
}

static void on_report(struct spawn_client *c, uint8_t type,
		      const struct spawn_report *rp)
{
	struct spawn_job **at = &c->jobs;
	struct spawn_status *st;

	while (*at && (*at)->id != rp->job)
		at = &(*at)->next;
	if (!*at)
		return;
	st = &(*at)->status;
	if (type == IPC_STARTED) {
		st->state = SPAWN_RUNNING;
		st->pid = (pid_t)rp->pid;
	} else if (type == IPC_FAILED) {
		st->state = SPAWN_FAILED;
		st->error = -(int)(rp->error ? rp->error : EIO);
		memcpy(st->step, rp->step, sizeof(st->step));
	} else {
		st->state = SPAWN_EXITED;
		st->code = rp->code;
		st->signal = rp->signal;
		st->timed_out = rp->timed_out;
	}
	if (type != IPC_STARTED)
		job_unlist(c, at);
	pthread_cond_broadcast(&c->changed);
}

void spawn_client_input(struct spawn_client *c)
{
	CLEANUP_IPC_MSG struct ipc_msg m = IPC_MSG_INIT;
	struct spawn_report rp;
	int r;

	pthread_mutex_lock(&c->lock);
	r = c->fd < 0 ? -EAGAIN : ipc_recv(c->fd, &m);
	if (r == 1 && spawn_get_report(&m.body, m.type, &rp) == 0)
		on_report(c, m.type, &rp);
	pthread_mutex_unlock(&c->lock);
	if (r <= 0 && r != -EAGAIN && r != -EBADMSG && r != -ENOMEM)
		spawn_client_attach(c, -1);
}

/* Waits, with the lock held, for a change: at most a tenth of a second, so that
 * the caller looks at its cancel fd too.  false when the time is over. */
static bool wait_change(struct spawn_client *c, uint64_t deadline)
{
	uint64_t now = clock_now(), until = now + NSEC_PER_SEC / 10;
	struct timespec ts;

	if (now >= deadline)
		return false;
	if (until > deadline)
		until = deadline;
	ts.tv_sec = (time_t)(until / NSEC_PER_SEC);
	ts.tv_nsec = (long)(until % NSEC_PER_SEC);
	pthread_cond_timedwait(&c->changed, &c->lock, &ts);
	return true;
}

static bool cancelled(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return fd >= 0 && poll(&p, 1, 0) > 0;
}

/* With the lock held. */
static int send_start(struct spawn_client *c, const struct spawn_request *rq,
		      int cancel_fd, uint64_t deadline, uint32_t *ret_id)
{
	CLEANUP_BUF struct buf b = BUF_INIT(IPC_MAX);
	uint32_t id = ++c->last_id;
	int fds[3], r;
	size_t n = 0;

	r = spawn_put_start(&b, id, rq);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < 3; i++)
		if (rq->fds[i] >= 0)
			fds[n++] = rq->fds[i];
	for (;;) {
		r = c->fd < 0 ? -EAGAIN : ipc_send(c->fd, IPC_START, &b, fds, n);
		if (r == -EPIPE || r == -ECONNRESET)
			r = -EAGAIN; /* it died; a new one comes */
		if (r != -EAGAIN)
			break;
		if (cancelled(cancel_fd))
			return -ECANCELED;
		if (!wait_change(c, deadline))
			return -EAGAIN;
	}
	*ret_id = id;
	return r == -EMSGSIZE ? -E2BIG : r;
}

static struct spawn_job *job_new(struct spawn_client *c)
{
	struct spawn_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->client = c;
	job->held = true;
	job->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (job->fd < 0) {
		free(job);
		return NULL;
	}
	return job;
}

static int send_kill(struct spawn_client *c, uint32_t id, int signo)
{
	CLEANUP_BUF struct buf b = BUF_INIT(8);
	int r = buf_put_u32(&b, id);

	if (r == 0)
		r = buf_put_u32(&b, (uint32_t)signo);
	if (r == 0)
		r = c->fd < 0 ? -ESRCH : ipc_send(c->fd, IPC_KILL, &b, NULL, 0);
	return r;
}

/* Waits, with the lock held, until it is known whether the program runs. */
static int wait_started(struct spawn_client *c, struct spawn_job *job,
			int cancel_fd, uint64_t deadline)
{
	while (job->status.state == SPAWN_STARTING) {
		if (cancelled(cancel_fd)) {
			(void)send_kill(c, job->id, SIGKILL);
			return -ECANCELED;
		}
		if (!wait_change(c, deadline)) {
			(void)send_kill(c, job->id, SIGKILL);
			return -ETIMEDOUT;
		}
	}
	if (job->status.state == SPAWN_FAILED && job->status.error == -EAGAIN &&
	    strcmp(job->status.step, "limit") == 0)
		return -EAGAIN;
	return 0;
}

int spawn_start(struct spawn_client *c, const struct spawn_request *rq,
		int cancel_fd, uint64_t wait_ns, struct spawn_job **ret)
{
	struct spawn_job *job = job_new(c);
	uint64_t deadline = clock_now() + wait_ns;
	int r;

	if (!job)
		return -ENOMEM;
	pthread_mutex_lock(&c->lock);
	if (!c->jobs && !c->starting && c->on_busy)
		c->on_busy(c->busy_arg);
	c->starting++;
	r = send_start(c, rq, cancel_fd, deadline, &job->id);
	if (r == 0) {
		job->next = c->jobs;
		job->listed = true;
		c->jobs = job;
		if (!rq->delay_ns)
			r = wait_started(c, job, cancel_fd, deadline);
	}
	c->starting--;
	pthread_mutex_unlock(&c->lock);
	if (r < 0) {
		spawn_job_free(job);
		return r;
	}
	*ret = job;
	return 0;
}

int spawn_job_fd(const struct spawn_job *job)
{
	return job->fd;
}

void spawn_job_status(struct spawn_job *job, struct spawn_status *ret)
{
	pthread_mutex_lock(&job->client->lock);
	*ret = job->status;
	pthread_mutex_unlock(&job->client->lock);
}

int spawn_job_kill(struct spawn_job *job, int signo)
{
	struct spawn_client *c = job->client;
	int r;

	pthread_mutex_lock(&c->lock);
	r = job->listed ? send_kill(c, job->id, signo) : -ESRCH;
	pthread_mutex_unlock(&c->lock);
	return r;
}

void spawn_job_free(struct spawn_job *job)
{
	struct spawn_client *c;

	if (!job)
		return;
	c = job->client;
	pthread_mutex_lock(&c->lock);
	job->held = false;
	job_release(job);
	pthread_mutex_unlock(&c->lock);
}
