/*
 * tree_queue.c - see tree_queue.h
 *
 * A worker that meets "not connected", a timeout or an interrupt stops all:
 * the other files would fail alike.  Other failures concern one file; the
 * rest goes on, and the first failure decides the exit status.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/tree_queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "virtagent/client/interrupt.h"
#include "virtagent/client/output.h"

#define QUEUE_MAX 64

struct tree_queue {
	const struct client *cl;
	struct target target;
	tree_work_fn work;
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct tree_job job[QUEUE_MAX];
	unsigned first, count;
	bool closed, stop;
	int code;
	pthread_t thread[TREE_JOBS_MAX];
	unsigned threads;
};

static void job_done(struct tree_job *j)
{
	free(j->remote);
	free(j->rel);
	*j = (struct tree_job){ 0 };
}

/* False when there are no more. */
static bool take(struct tree_queue *q, struct tree_job *ret)
{
	bool got;

	pthread_mutex_lock(&q->lock);
	while (!q->count && !q->closed && !q->stop)
		pthread_cond_wait(&q->changed, &q->lock);
	got = q->count && !q->stop;
	if (got) {
		*ret = q->job[q->first];
		q->first = (q->first + 1) % QUEUE_MAX;
		q->count--;
		pthread_cond_broadcast(&q->changed);
	}
	pthread_mutex_unlock(&q->lock);
	return got;
}

static void note(struct tree_queue *q, int code)
{
	pthread_mutex_lock(&q->lock);
	if (!q->code)
		q->code = code;
	if (code == VAC_NOT_CONNECTED || code == VAC_TIMEOUT ||
	    interrupt_seen())
		q->stop = true;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
}

static void *worker(void *arg)
{
	struct tree_queue *q = arg;
	CLEANUP_RPC struct rpc *r = rpc_open(q->cl, &q->target);
	struct tree_job job;

	if (!r)
		note(q, VAC_ERROR);
	while (r && take(q, &job)) {
		int code = q->work(q->arg, r, &job);

		job_done(&job);
		if (code || interrupt_seen())
			note(q, code ? code : interrupt_status());
	}
	return NULL;
}

struct tree_queue *tree_queue_new(const struct tree_options *o,
				  const struct target *target,
				  tree_work_fn work, void *arg)
{
	struct tree_queue *q = calloc(1, sizeof(*q));

	if (!q) {
		out_error(target->name, NULL, "out of memory");
		return NULL;
	}
	q->cl = o->cl;
	q->target = *target;
	q->work = work;
	q->arg = arg;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->changed, NULL);
	while (q->threads < o->jobs && q->threads < TREE_JOBS_MAX &&
	       !pthread_create(&q->thread[q->threads], NULL, worker, q))
		q->threads++;
	if (q->threads)
		return q;
	out_error(target->name, NULL, "cannot start a thread");
	tree_queue_finish(q);
	return NULL;
}

int tree_queue_add(struct tree_queue *q, char *remote, char *rel, int64_t mode)
{
	struct tree_job job = { remote, rel, mode };
	int error = remote && rel ? 0 : -ENOMEM;

	pthread_mutex_lock(&q->lock);
	while (!error && q->count == QUEUE_MAX && !q->stop)
		pthread_cond_wait(&q->changed, &q->lock);
	if (q->stop)
		error = -ECANCELED;
	if (!error) {
		q->job[(q->first + q->count++) % QUEUE_MAX] = job;
		pthread_cond_broadcast(&q->changed);
	}
	pthread_mutex_unlock(&q->lock);
	if (error)
		job_done(&job);
	return error;
}

int tree_queue_finish(struct tree_queue *q)
{
	struct tree_job job;
	int code;

	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
	for (unsigned i = 0; i < q->threads; i++)
		pthread_join(q->thread[i], NULL);
	q->stop = false;
	while (take(q, &job))
		job_done(&job);
	code = q->code;
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->changed);
	free(q);
	return code;
}
