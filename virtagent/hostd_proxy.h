/*
 * hostd_proxy.h - one guest's virtproxy process: start, adopt, watch, restart
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_PROXY_H
#define VA_HOSTD_PROXY_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/loop.h"
#include "virtagent/host/child.h"
#include "virtagent/hostd_ctl.h"
#include "virtagent/hostd_watch.h"

struct proxy;

/* What it ended of. */
enum proxy_end { PROXY_CRASHED, PROXY_HUNG, PROXY_SPUN };

struct proxy_ops {
	/* The process answers on its control socket; adopted: it was running
	 * before this daemon asked for it. */
	void (*up)(void *arg, bool adopted);
	/* It is gone (and will be started again, unless it was stopped). */
	void (*down)(void *arg, enum proxy_end end, const char *why);
	/* It leaves a question unanswered (see proxy_waited()), or answers again. */
	void (*waits)(void *arg);
	/* A line of the control socket's events. */
	void (*event)(void *arg, char *line);
	/* A status arrived, as JSON: in answer to proxy_poll(). */
	void (*status)(void *arg, const char *json);
	/* After proxy_stop(): it is gone for good; free it here or later. */
	void (*stopped)(void *arg);
};

struct proxy_config {
	struct loop *loop;
	struct children *children;
	const char *label;	 /* the guest's name, for the log */
	const char *program;	 /* virtproxy's path */
	const char *const *argv; /* copied */
	const char *ctl_path;	 /* copied */
	const struct watch_limits *limits; /* read whenever needed */
};

/* NULL with errno.  Nothing happens before proxy_begin(). */
struct proxy *proxy_new(const struct proxy_config *cfg,
			const struct proxy_ops *ops, void *arg);
/* Adopts the process that serves the control socket, or starts one. */
void proxy_begin(struct proxy *p);
/* Before proxy_begin(): a process that runs is ended first, not adopted. */
void proxy_replace(struct proxy *p);
/* Ends a running process in an orderly way, by force after some seconds. */
void proxy_stop(struct proxy *p);
/* Lets go: a process that serves runs on; one that is only starting is ended. */
void proxy_free(struct proxy *p);

/* -1 when none runs. */
pid_t proxy_pid(const struct proxy *p);
/* How often it was started again. */
unsigned proxy_restarts(const struct proxy *p);
bool proxy_is_up(const struct proxy *p);
/* How long it has left a question unanswered: nanoseconds, 0 = it answers. */
uint64_t proxy_waited(const struct proxy *p);
/*
 * Asks for the status; fn (may be NULL) is called after ops->status, or without
 * it when none came.  A process that leaves a question without an answer for
 * long is killed.  -ENOTCONN when none runs; fn is then not called.
 */
int proxy_poll(struct proxy *p, loop_fn fn, void *arg);
/* To be called every watch_look_every(): asks whether it answers and, when it was
 * busy, for its status, which the owner puts into proxy_worked(). */
int proxy_check(struct proxy *p);
/* As watch_work(); one that spins is killed here, and ops->down called. */
void proxy_worked(struct proxy *p, uint64_t work);

#endif
