/*
 * agent_end.h - how a process of the agent came to its end, as others saw it
 *
 * The endpoint sees how the server and the spawner end.  How an endpoint ends is
 * seen by the next one: a mark in the runtime directory stands while it runs, and
 * goes when it ends in order; a supervisor may leave beside it what it saw
 * (RUNTIME/ended, see va-agent.service).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_END_H
#define VA_AGENT_END_H

#include <stdbool.h>

#include "common/buf.h"
#include "virtagent/value.h"

struct agent_end {
	char process[12]; /* "endpoint", "server", "spawner"; "" = nothing known */
	bool hung;	  /* it did not answer and was replaced */
	bool seen;	  /* one of: */
	int signal;	  /* that killed it, or 0 */
	int status;	  /* its exit status */
};

/* As waitpid(2) told it. */
void agent_end_status(struct agent_end *end, int status);

/* A message's body. */
int agent_end_put(struct buf *b, const struct agent_end *end);
int agent_end_get(struct buf *b, struct agent_end *ret);

/* {process, reason: "crashed" or "hung", signal or status where that was seen};
 * NULL on ENOMEM. */
struct va_value *agent_end_value(const struct agent_end *end);

/* An endpoint starts: sets its mark, and says how the one before ended when that
 * one did not take its own away. */
void agent_end_begin(struct agent_end *before);
/* It ends in order. */
void agent_end_clean(void);

#endif
