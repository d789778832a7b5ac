/*
 * tree_queue.h - files that wait to be copied, and the threads that copy them
 *
 * One thread walks the tree and adds files; each worker has a connection of its
 * own.  The queue is bounded, so a huge tree needs little memory.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_TREE_QUEUE_H
#define VA_CLIENT_TREE_QUEUE_H

#include "virtagent/client/tree.h"

struct tree_queue;

struct tree_job {
	char *remote; /* the guest's path */
	char *rel;    /* below the local root */
	int64_t mode; /* put */
};

/* work runs on the workers; it says what went wrong and returns an exit code. */
typedef int (*tree_work_fn)(void *arg, struct rpc *rpc,
			    const struct tree_job *job);

/* NULL on failure (said). */
struct tree_queue *tree_queue_new(const struct tree_options *o,
				  const struct target *target,
				  tree_work_fn work, void *arg);
/* Waits for room.  Takes the strings over (NULL gives -ENOMEM).  Negative when
 * the workers have given up. */
int tree_queue_add(struct tree_queue *q, char *remote, char *rel, int64_t mode);
/* Waits for the workers and frees; the first exit code that was not 0. */
int tree_queue_finish(struct tree_queue *q);

#endif
