/*
 * hostd_proxy_priv.h - what hostd_proxy.c (the process) and hostd_proxy_ask.c (what it
 * is asked, and whether it answers) share
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_PROXY_PRIV_H
#define VA_HOSTD_PROXY_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "virtagent/hostd_proxy.h"

enum proxy_state { IDLE, STARTING, UP, DYING, WAITING, STOPPING };

struct proxy {
	struct loop *loop;
	struct children *children;
	struct proxy_ops ops;
	void *arg;
	char *label, *program, *ctl_path;
	char **argv;
	enum proxy_state state;
	pid_t child; /* started here and not reaped yet, or -1 */
	struct ctl *ctl;
	struct loop_timer *timer; /* meaning: the state's */
	struct loop_timer *ticks; /* armed while a question waits, or an end */
	const struct watch_limits *limits;
	struct watch watch;
	enum proxy_end end; /* of the process that runs, if it ends now */
	uint64_t backoff_ns, try_ns, start_ns;
	uint64_t up_ns, well_ns; /* since when, and when seen to do well */
	unsigned restarts;
	bool launched;	  /* in this STARTING a process was started */
	bool replace;	  /* whoever runs is ended, not adopted */
	bool ending;	  /* it was asked to, for that */
	char reason[128]; /* of the last death, from waitpid */
};

/* Waits that a slow machine stretches. */
uint64_t proxy_scaled(uint64_t ns);
void proxy_kill(struct proxy *p, const char *why);
/* The process is gone, or as good as: starts it again, unless it was stopped. */
void proxy_went_down(struct proxy *p, const char *why);

/* A timer's: a question waits, or an end that it was asked for. */
void proxy_on_tick(void *arg);

#endif
