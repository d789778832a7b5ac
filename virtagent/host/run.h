/*
 * run.h - one program of this host's commands, while it runs
 *
 * It belongs to a call's thread, which feeds it, reads its output and polls end_fd;
 * run_leave() at the end of the call.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_RUN_H
#define VA_HOST_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "virtagent/host/commands.h"

#define RUN_ARGS_MAX 256u
#define RUN_OUTPUT_MAX (1u << 20) /* kept of each stream, as guest.exec.run */
#define RUN_ENV_SIZE 8
/* A program's children that hold its pipes do not hold up the call: so long after
 * its end the output counts as ended. */
#define RUN_DRAIN_NS (NSEC_PER_SEC / 2)

struct run {
	struct run *next; /* in the list of those whose end is still to come */
	struct host_commands *owner;
	bool listed, over;
	bool abandoned; /* the call has ended */
	pid_t pid;
	int status;  /* as waitpid(2) gives it */
	int end_fd;  /* eventfd: over */
	int error;   /* of starting it */
	int in, out[2];	  /* our ends */
	int theirs[3];
	char *argv[RUN_ARGS_MAX + 2];
	char *env[RUN_ENV_SIZE + 1];
	bool session; /* its stdin is fed from outside; else input, or empty */
	const uint8_t *input;
	size_t input_len;
	uint64_t deadline_ns, began_ns;
	bool timed_out, killed;
	struct buf kept[2];
	uint64_t dropped[2];
};

static inline void run_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* NULL on ENOMEM or without descriptors. */
struct run *run_new(struct host_commands *c);
/* The call is done with it; kills nothing. */
void run_leave(struct run *r);
DEFINE_CLEANUP(struct run, run_leave);

/*
 * Starts argv with env; in, out are then our ends, which do not block.  0 also when
 * the program could not be started (r->error says why); -ETIMEDOUT: the loop does
 * not answer.
 */
int run_start(struct run *r);
/* To its process group, unless it has ended. */
void run_signal(struct run *r, int signo);
/* Its time is over: TERM, and KILL when that did not help; moves the deadline. */
void run_time_over(struct run *r);
/* The status as shells tell it, of a program that has ended or never ran. */
int run_exit_code(const struct run *r, int *ret_signal);

struct va_call;
/*
 * A command from the call's parameters (NAME [ARGS [OPTIONS]]), checked and with its
 * environment, not yet started.  0, or the failed call's negative errno.
 */
int run_from_params(struct va_call *call, struct run *r);

#endif
