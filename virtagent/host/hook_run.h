/*
 * hook_run.h - one event's hooks, one after another
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_HOOK_RUN_H
#define VA_HOST_HOOK_RUN_H

#include "common/log.h"
#include "common/loop.h"
#include "virtagent/host/child.h"
#include "virtagent/host/hooks.h"
#include "virtagent/value.h"

struct hook_run_config {
	struct loop *loop;
	struct children *children;
	const char *dir; /* copied */
	uint64_t timeout_ns; /* of each hook */
	struct log_limit *limit;
};

struct hook_run;

/* Runs them from the loop; done is called once, from there, when the last one has
 * ended.  Takes the event over.  NULL on ENOMEM. */
struct hook_run *hook_run_new(const struct hook_run_config *cfg,
			      struct va_value *event, loop_fn done, void *arg);
/* A hook that runs is killed; done is not called any more. */
void hook_run_free(struct hook_run *r);

#endif
