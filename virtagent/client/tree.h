/*
 * tree.h - directories, recursively, several files at once
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_TREE_H
#define VA_CLIENT_TREE_H

#include "virtagent/client/transfer.h"

#define TREE_JOBS_MAX 16
#define TREE_JOBS_DEFAULT 4
#define TREE_DEPTH_MAX 128 /* directories within directories */

struct tree_options {
	const struct client *cl;
	struct progress *progress;
	bool resume, preserve;
	unsigned jobs;
	int64_t uid, gid; /* put */
	uint64_t deadline_ns;
};

/* Copies the guest's directory remote into the local directory (made if it is
 * not there).  Exit code; every failure was said. */
int tree_get(const struct tree_options *o, const struct target *target,
	     const char *remote, const char *local);
int tree_put(const struct tree_options *o, const struct target *target,
	     const char *local, const char *remote);

#endif
