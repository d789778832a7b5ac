/*
 * jobs.h - programs that run in the guest on somebody's behalf
 *
 * A job is a program with its pipes (or terminal) and its kept output.  One
 * thread reads the output of all jobs into rings.  While somebody follows a job
 * nothing that he has not seen is dropped: the program is made to wait instead;
 * while nobody does, the newest bytes are kept.  A job and its output stay until
 * they are forgotten, or until others need the place: JOB_KEEP_NS after its end, and
 * of those that have ended the oldest at once when there is none left.
 *
 * All calls are thread-safe; those that wait poll the cancel descriptor they
 * are given.  A job pointer is a reference, to be given back with job_put().
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_JOBS_H
#define VA_GUEST_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "virtagent/agent_spawn.h"

#define JOB_KEEP_NS UINT64_C(600000000000) /* 10 minutes, as kept results */

struct jobs;
struct job;

enum job_stream { JOB_STDOUT, JOB_STDERR };

struct job_request {
	struct spawn_request spawn; /* fds are filled in */
	const char *label;	    /* shown in lists: the program's name */
	bool stdin_open;	    /* else /dev/null */
	bool tty;		    /* one terminal for 0-2 */
	unsigned rows, cols;	    /* of the terminal; 0 = 24 x 80 */
	size_t output_max;	    /* kept bytes a stream; 0 = VA_JOB_OUTPUT */
};

struct job_info {
	uint32_t id;
	char label[64];
	struct spawn_status status;
	bool over; /* ended, and all its output is kept */
	bool tty, stdin_open;
	uint64_t started_ns, ended_ns; /* clock_now(); 0 = not yet */
	uint64_t bytes[2], dropped[2]; /* written by it; no longer kept */
	unsigned followers;
};

/* Starts the reading thread lazily.  NULL with errno. */
struct jobs *jobs_new(struct spawn_client *spawner);
/* fn is told of each job that is over and that nobody followed to its end; it must
 * not wait.  Before the first job. */
void jobs_on_end(struct jobs *t, void (*fn)(void *arg, const struct job_info *info),
		 void *arg);
/* How many jobs there may be, running or kept, and how many bytes all of them may
 * keep; until then the defaults of limits.h.  Any thread; those that are there stay. */
void jobs_set_limits(struct jobs *t, uint64_t max, uint64_t output);
/* Kills nothing; ends the thread. */
void jobs_free(struct jobs *t);

/* 0 with *ret, also for a program that could not be started (its status says
 * so); -EUSERS when as many run as may, -ENOBUFS when what it may keep does not fit
 * beside the others', and then nothing was started; as spawn_start(). */
int job_start(struct jobs *t, const struct job_request *rq, int cancel_fd,
	      struct job **ret);
/* By number: NULL when there is none. */
struct job *job_find(struct jobs *t, uint32_t id);
void job_put(struct job *j);
uint32_t job_id(const struct job *j);
void job_info(struct job *j, struct job_info *ret);
/* The n-th job in the order of numbers, above id; NULL at the end. */
struct job *job_next(struct jobs *t, uint32_t id);

/* Begins / ends following (see above); begin gives where to read from: the
 * oldest kept bytes. */
void job_follow(struct job *j, uint64_t at[2]);
void job_unfollow(struct job *j, const uint64_t at[2]);
/* A follower has taken everything before these offsets. */
void job_seen(struct job *j, const uint64_t old[2], const uint64_t at[2]);

/*
 * Up to max bytes of a stream from *offset, which moves up over dropped bytes.
 * The count; 0 at the end of the stream; -EAGAIN: none now.
 */
ssize_t job_read(struct job *j, enum job_stream stream, uint64_t *offset,
		 void *to, size_t max);
/*
 * Waits until a stream has bytes behind at[] or the job is over and nothing is
 * left, the cancel descriptor is readable (-ECANCELED), extra_fd is (1), or the
 * time passed (-ETIMEDOUT).  extra_fd -1 = none.
 */
int job_wait(struct job *j, const uint64_t at[2], int cancel_fd, int extra_fd,
	     uint64_t deadline_ns);
/* Waits until the job is over. */
int job_wait_over(struct job *j, int cancel_fd, uint64_t deadline_ns);

/* All n bytes, or a negative errno: -EPIPE (the program closed its input, or
 * it was never open), -ECANCELED. */
int job_write(struct job *j, const void *data, size_t n, int cancel_fd);
/* On a terminal: sends EOF (^D), again until the job ends or job_write() is called.
 * Nothing happens when it is closed already. */
void job_close_stdin(struct job *j);
int job_resize(struct job *j, unsigned rows, unsigned cols);
int job_kill(struct job *j, int signo);
/* -EBUSY while it runs. */
int job_forget(struct job *j);

#endif
