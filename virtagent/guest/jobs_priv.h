/*
 * jobs_priv.h - what the files of the jobs share
 *
 * jobs.c holds the table and each job's life, jobs_start.c starts programs,
 * jobs_pump.c reads their output on a thread of its own, jobs_io.c is for those who
 * read, wait and write.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_JOBS_PRIV_H
#define VA_GUEST_JOBS_PRIV_H

#include <pthread.h>
#include <unistd.h>

#include "virtagent/guest/jobs.h"
#include "virtagent/guest/ring.h"

struct waiter {
	struct waiter *next;
	int fd;
};

struct job {
	struct jobs *table;
	struct job *next;
	unsigned refs; /* one is the table's */
	struct job_info info;
	struct spawn_job *spawn;
	int in_fd;	 /* program's stdin, or the terminal; -1 = closed */
	int out_fd[2];	 /* -1 = ended; a terminal has [0] only */
	bool writing;	 /* somebody is in job_write() */
	uint64_t eof_at, eof_gap; /* a terminal's end of input: said again then; 0 = none */
	bool forgotten;
	struct ring ring[2];
	uint64_t seen[2]; /* of the slowest follower */
	struct waiter *waiters;
};

struct poll_slot {
	struct job *job;
	int stream; /* 2 = the end of the program */
};

struct jobs {
	struct spawn_client *spawner;
	void (*ended)(void *arg, const struct job_info *info);
	void *ended_arg;
	pthread_mutex_t lock;
	pthread_t thread;
	bool running, stop;
	int wake_fd;
	uint32_t last_id;
	uint64_t max, output_max; /* jobs, and bytes that they keep */
	unsigned starting;	  /* jobs that have room made, and what they may keep */
	uint64_t starting_bytes;
	struct job *list; /* in the order of numbers */
	/* The reading thread's. */
	bool no_memory; /* a stream waits for some */
	struct pollfd *fds;
	struct poll_slot *slots;
};

static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void jobs_wake(int fd);

/* --- the lock is held --- */

/* Wakes all who wait for the job. */
void job_changed(struct job *j);
void job_unref(struct job *j);
/* Takes it out of the table. */
void job_unlink(struct job *j);
/* Bytes that it holds or may come to hold. */
uint64_t job_kept(const struct job *j);
/* Makes room for a job that keeps so many bytes, by forgetting what ended longest
 * ago.  0, -EUSERS or -ENOBUFS. */
int jobs_make_place(struct jobs *t, uint64_t bytes);
/* Notices the program's end, and that of its output. */
void job_check_over(struct job *j);
/* Says end of input on a terminal again where it is time to; ms until the next, or -1. */
int job_say_eof(struct job *j, uint64_t now);
/* Starts the reading thread, once. */
int jobs_pump_start(struct jobs *t);
/* Without the lock: ends it, and waits until it has. */
void jobs_pump_stop(struct jobs *t);

#endif
