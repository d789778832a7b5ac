/*
 * run.c - see run.h
 *
 * The loop's thread starts and reaps the program, the call's thread does everything
 * else.  Memory that the loop still needs stays until the program was reaped.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/host/run.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/sock.h"

#define LOOP_NS (5 * NSEC_PER_SEC)
#define TERM_NS (2 * NSEC_PER_SEC) /* between TERM and KILL, as in a guest */

struct host_commands {
	struct loop *loop;
	struct children *children;
	pthread_mutex_t lock; /* the directories, and each run's state of life */
	char *dirs;
	struct run *runs;
};

static void run_free(struct run *r);
static void unlist(struct run *r);

struct host_commands *host_commands_new(struct loop *loop,
					struct children *children,
					const char *dirs)
{
	struct host_commands *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->loop = loop;
	c->children = children;
	pthread_mutex_init(&c->lock, NULL);
	c->dirs = strdup(dirs);
	if (c->dirs)
		return c;
	host_commands_free(c);
	return NULL;
}

int host_commands_set(struct host_commands *c, const char *dirs)
{
	char *copy = strdup(dirs), *old;

	if (!copy)
		return -ENOMEM;
	pthread_mutex_lock(&c->lock);
	old = c->dirs;
	c->dirs = copy;
	pthread_mutex_unlock(&c->lock);
	free(old);
	return 0;
}

char *host_commands_dirs(struct host_commands *c)
{
	char *copy;

	pthread_mutex_lock(&c->lock);
	copy = strdup(c->dirs);
	pthread_mutex_unlock(&c->lock);
	return copy;
}

void host_commands_free(struct host_commands *c)
{
	if (!c)
		return;
	while (c->runs) {
		struct run *r = c->runs;

		unlist(r);
		run_free(r);
	}
	pthread_mutex_destroy(&c->lock);
	free(c->dirs);
	free(c);
}

/* --- a run's memory --------------------------------------------------------- */

static void run_free(struct run *r)
{
	for (size_t i = 0; r->argv[i]; i++)
		free(r->argv[i]);
	for (size_t i = 0; r->env[i]; i++)
		free(r->env[i]);
	run_close(&r->end_fd);
	run_close(&r->in);
	for (int i = 0; i < 3; i++)
		run_close(&r->theirs[i]);
	for (int i = 0; i < 2; i++) {
		run_close(&r->out[i]);
		buf_done(&r->kept[i]);
	}
	free(r);
}

static void unlist(struct run *r)
{
	struct run **p = &r->owner->runs;

	while (*p && *p != r)
		p = &(*p)->next;
	if (*p)
		*p = r->next;
	r->listed = false;
}

void run_leave(struct run *r)
{
	struct host_commands *c = r->owner;
	bool keep;

	pthread_mutex_lock(&c->lock);
	keep = r->listed;
	r->abandoned = true;
	pthread_mutex_unlock(&c->lock);
	if (!keep)
		run_free(r);
}
struct run *run_new(struct host_commands *c)
{
	struct run *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->owner = c;
	r->in = r->end_fd = -1;
	for (int i = 0; i < 3; i++)
		r->theirs[i] = -1;
	for (int i = 0; i < 2; i++) {
		r->out[i] = -1;
		/* Twice, so that cutting the front costs one copy a byte. */
		buf_init(&r->kept[i], 2 * RUN_OUTPUT_MAX);
	}
	r->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->end_fd >= 0)
		return r;
	run_free(r);
	return NULL;
}

/* --- starting, on the loop's thread -------------------------------------------- */

static void on_end(void *arg, pid_t pid, int status)
{
	struct run *r = arg;
	struct host_commands *c = r->owner;
	uint64_t one = 1;
	bool last;

	pthread_mutex_lock(&c->lock);
	r->over = true;
	r->status = status;
	unlist(r);
	last = r->abandoned;
	if (!last && write(r->end_fd, &one, sizeof(one)) < 0)
		r->error = -errno;
	pthread_mutex_unlock(&c->lock);
	if (last)
		run_free(r);
}

static void start_child(void *arg)
{
	struct run *r = arg;
	const struct child_spec spec = {
		.path = r->argv[0],
		.argv = (const char *const *)r->argv,
		.envp = (const char *const *)r->env,
		.fd_in = r->theirs[0],
		.fd_out = r->theirs[1],
		.fd_err = r->theirs[2],
	};
	struct host_commands *c = r->owner;

	pthread_mutex_lock(&c->lock);
	r->pid = child_start(c->children, &spec, on_end, r);
	if (r->pid < 0) {
		r->error = (int)r->pid;
	} else {
		r->next = c->runs;
		c->runs = r;
		r->listed = true;
	}
	pthread_mutex_unlock(&c->lock);
}

/* The lock keeps the pid from being reaped as ours and used anew meanwhile, but
 * for the moment between waitpid() and on_end(): pids are not reused at once. */
void run_signal(struct run *r, int signo)
{
	pthread_mutex_lock(&r->owner->lock);
	if (!r->over && r->pid > 1)
		kill(-r->pid, signo);
	pthread_mutex_unlock(&r->owner->lock);
}

/* A pipe; our end, ends[ours], does not block. */
static int open_pipe(int *ours, int *theirs, int our_end)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	*ours = ends[our_end];
	*theirs = ends[!our_end];
	return fd_set_nonblock(*ours, true);
}

int run_start(struct run *r)
{
	int err = 0;

	if (r->input || r->session)
		err = open_pipe(&r->in, &r->theirs[0], 1);
	for (int i = 0; i < 2 && err == 0; i++)
		err = open_pipe(&r->out[i], &r->theirs[i + 1], 0);
	if (err < 0)
		return err;
	r->began_ns = clock_now();
	err = loop_call(r->owner->loop, start_child, r, clock_now() + LOOP_NS);
	for (int i = 0; i < 3; i++)
		run_close(&r->theirs[i]);
	return err;
}

void run_time_over(struct run *r)
{
	run_signal(r, r->timed_out ? SIGKILL : SIGTERM);
	r->killed = r->timed_out;
	r->timed_out = true;
	r->deadline_ns = clock_now() + TERM_NS;
}

int run_exit_code(const struct run *r, int *ret_signal)
{
	int sig = r->error == 0 && WIFSIGNALED(r->status) ? WTERMSIG(r->status) : 0;

	*ret_signal = sig;
	/* As shells say it: not found 127, else not executable 126. */
	if (r->error)
		return r->error == -ENOENT ? 127 : 126;
	return sig ? 128 + sig : WEXITSTATUS(r->status);
}
