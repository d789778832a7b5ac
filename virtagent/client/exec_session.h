/*
 * exec_session.h - this terminal, joined to a program in the guest
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_EXEC_SESSION_H
#define VA_CLIENT_EXEC_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "virtagent/client/client.h"

/* What the program gets of this client. */
enum exec_input {
	EXEC_STDIN_OURS, /* our stdin, and Ctrl-C */
	EXEC_STDIN_NONE, /* its input is empty; Ctrl-C */
	EXEC_WATCH,	 /* nothing: Ctrl-C leaves it running */
};

struct exec_session {
	const struct client *cl;
	const char *who;   /* the guest, for messages */
	int fd;		   /* the socket after the Upgrade */
	struct buf *extra; /* bytes that came behind the 101 */
	bool tty;	   /* put our terminal into raw mode */
	enum exec_input input;
	uint64_t deadline_ns;
	/* out */
	uint32_t job, pid;
};

/* va-client's own failures while running a program. */
#define EXEC_OWN_FAILURE 125

/*
 * Pumps until the program ends.  Returns the exit status to pass on: the
 * program's own (128 + signal), 126 or 127 when it could not be started, 124 when
 * the deadline passed or its time limit ended it, 125 for a failure of ours.
 */
int exec_session_run(struct exec_session *s);

struct rpc;

/* Appends "&key=value", percent-encoded; 0 or -E2BIG. */
int exec_add_query(struct buf *b, const char *key, const char *value);
/* Upgrades to target and joins the program to this terminal; verb is for
 * messages.  The exit status to pass on. */
int exec_join(struct client *cl, struct rpc *r, const char *verb, const char *target,
	      bool tty, enum exec_input input);
/* May the first operand be the guest?  It is when a guest has that name; with
 * -G or VA_GUEST all operands are the program's. */
bool exec_first_is_guest(const struct client *cl, int argc, char **argv);

/* attach [GUEST] JOB (verb_jobs.c): an exit code.  watch: nothing goes to the job. */
int exec_attach_job(struct client *cl, int argc, char **argv, bool watch);

#endif
