/*
 * agent_child.c - see agent_child.h
 *
 * The heartbeat: a PING every CHILD_PING_NS while somebody may wait for the child
 * (agent_child_pace()); one that does not answer is given up CHILD_HANG_NS after
 * it could last be heard.  So a hang is over, a new process included, well within
 * the 2 s that callers may be kept waiting.  While nobody does, a PING every
 * CHILD_IDLE_NS is enough, and does not keep the machine awake.  Two things
 * must not be taken for a hang: that this process itself was stopped (a late
 * timer starts the time anew, after what is queued has been read), and that the
 * machine has no time for the child (its main thread is runnable: it gets
 * CHILD_STARVED_NS).
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "common/log.h"

#define CHILD_PING_NS (500 * NSEC_PER_MSEC)
#define CHILD_IDLE_NS (4 * NSEC_PER_SEC)
#define CHILD_HANG_NS (1200 * NSEC_PER_MSEC)
#define CHILD_STARVED_NS (10 * NSEC_PER_SEC)
/* From its start to its first answer: a cold file cache, an emulated CPU. */
#define CHILD_START_NS (10 * NSEC_PER_SEC)
/* A timer this late means that this process did not run either. */
#define CHILD_LATE_NS (300 * NSEC_PER_MSEC)
/* Between the end of the pair and SIGCHLD. */
#define CHILD_END_NS (50 * NSEC_PER_MSEC)
/* Having worked this long, its next loss is no crash loop. */
#define CHILD_HEALTHY_NS NSEC_PER_SEC
#define CHILD_BACKOFF_NS (100 * NSEC_PER_MSEC)
#define CHILD_BACKOFF_MAX_NS (10 * NSEC_PER_SEC)

struct agent_child {
	struct loop *loop;
	const struct agent_options *options;
	const char *role;
	struct agent_child_ops ops;
	void *arg;
	pid_t pid; /* 0 = none now */
	int fd;
	struct loop_fd *src;
	struct loop_timer *timer; /* heartbeat, or the delayed start */
	uint64_t timer_due, last_ping, heard, up_since;
	uint64_t asked; /* the first PING without an answer; 0 = none */
	uint64_t pings;
	bool brisk; /* somebody may wait for it */
	bool busy;  /* as its last PONG said */
	unsigned failures;
	bool answered; /* since it was started */
	bool ended; /* its end of the pair is closed */
	bool reaped;
};

static void child_timer(void *arg);
static void child_input(int fd, unsigned events, void *arg);
static void child_lost(struct agent_child *c, struct agent_end *end,
		       const char *why);

static uint64_t scaled(uint64_t ns)
{
	double scale = clock_scale();

	return scale > 1 ? (uint64_t)((double)ns * scale) : ns;
}

struct agent_child *agent_child_new(struct loop *loop,
				    const struct agent_options *o,
				    const char *role,
				    const struct agent_child_ops *ops, void *arg)
{
	struct agent_child *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	*c = (struct agent_child){ .loop = loop, .options = o, .role = role,
				   .ops = *ops, .arg = arg, .fd = -1 };
	c->timer = loop_timer_new(loop, child_timer, c);
	if (!c->timer) {
		free(c);
		return NULL;
	}
	return c;
}

static void arm(struct agent_child *c, uint64_t at)
{
	c->timer_due = at;
	loop_timer_at(c->timer, at);
}

static void detach(struct agent_child *c)
{
	loop_fd_free(c->src);
	c->src = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->pid = 0;
}

/* How long it has been silent although asked: from when it was last heard, but
 * from no more than a brisk heartbeat's time before the question. */
static uint64_t silence(const struct agent_child *c, uint64_t now)
{
	uint64_t since = c->heard;

	if (!c->asked)
		return 0;
	if (c->asked > since + CHILD_PING_NS)
		since = c->asked - CHILD_PING_NS;
	return now > since ? now - since : 0;
}

static uint64_t patience(const struct agent_child *c)
{
	return scaled(c->answered ? CHILD_HANG_NS : CHILD_START_NS);
}

/* Sends a PING if it is time, and sets the timer for what comes next. */
static void ping(struct agent_child *c, uint64_t now)
{
	uint64_t gap = c->brisk || c->asked ? CHILD_PING_NS : CHILD_IDLE_NS;
	uint64_t next = c->last_ping + gap, hang;

	if (now >= next) {
		(void)ipc_send_u64(c->fd, IPC_PING, ++c->pings);
		c->last_ping = now;
		if (!c->asked)
			c->asked = now;
		next = now + CHILD_PING_NS;
	}
	if (c->asked) {
		hang = now + patience(c) - silence(c, now);
		next = next < hang ? next : hang;
	}
	arm(c, next);
}

void agent_child_pace(struct agent_child *c, bool brisk)
{
	bool was = c->brisk;

	c->brisk = brisk;
	if (brisk && !was && c->fd >= 0 && !c->ended)
		ping(c, clock_now());
}

bool agent_child_busy(const struct agent_child *c)
{
	return c->fd >= 0 && c->busy;
}

int agent_child_run(struct agent_child *c)
{
	uint64_t now = clock_now();
	int pair[2];
	int r = ipc_pair(pair);

	if (r < 0)
		return r;
	c->src = loop_fd_new(c->loop, pair[0], LOOP_READ, child_input, c);
	r = c->src ? agent_role_start(c->options, c->role, pair[1]) : -ENOMEM;
	close(pair[1]);
	c->fd = pair[0];
	if (r < 0) {
		detach(c);
		return r;
	}
	c->pid = r;
	c->answered = c->ended = c->reaped = c->busy = false;
	c->heard = c->up_since = now;
	c->last_ping = c->asked = 0;
	ping(c, now);
	c->ops.started(c->arg);
	return 0;
}

bool agent_child_up(const struct agent_child *c)
{
	return c->fd >= 0;
}

unsigned agent_child_failures(const struct agent_child *c)
{
	return c->failures;
}

int agent_child_send(struct agent_child *c, enum ipc_type type,
		     const struct buf *body, const int *fds, size_t nfds)
{
	return c->fd < 0 ? -ENOTCONN : ipc_send(c->fd, type, body, fds, nfds);
}

static void take(struct agent_child *c, struct ipc_msg *m)
{
	uint64_t number;
	uint8_t busy;

	c->heard = clock_now();
	c->answered = true;
	c->asked = 0;
	if (m->type == IPC_PONG && buf_get_u64(&m->body, &number) == 0)
		c->busy = buf_get_u8(&m->body, &busy) == 0 && busy;
	else if (m->type == IPC_BUSY)
		c->busy = true;
	c->ops.message(c->arg, m);
}

/* Takes all that is queued; false when there is no more to come. */
static bool drain(struct agent_child *c)
{
	int r = 1;

	while (c->fd >= 0 && (r == 1 || r == -EBADMSG)) {
		CLEANUP_IPC_MSG struct ipc_msg m = IPC_MSG_INIT;

		r = ipc_recv(c->fd, &m);
		if (r == 1)
			take(c, &m);
	}
	return r == -EAGAIN || r == -ENOMEM;
}

static void child_ended(struct agent_child *c, int status)
{
	struct agent_end end = { .hung = false };
	char why[48];

	agent_end_status(&end, status);
	if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "was killed by signal %d",
			 WTERMSIG(status));
	else
		snprintf(why, sizeof(why), "ended with status %d",
			 WEXITSTATUS(status));
	child_lost(c, &end, why);
}

/* The pair has ended: the child has died, as a rule, and how is known a moment
 * later. */
static void child_eof(struct agent_child *c)
{
	loop_fd_free(c->src);
	c->src = NULL;
	c->ended = true;
	arm(c, clock_now() + CHILD_END_NS);
}

static void child_input(int fd, unsigned events, void *arg)
{
	struct agent_child *c = arg;

	if (!drain(c))
		child_eof(c);
	else if (c->fd >= 0)
		ping(c, clock_now()); /* later, now that it has answered */
}

/* Is its main thread waiting for a processor, not for anything else? */
static bool starved(pid_t pid)
{
	char path[40], text[256];
	const char *end;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = 0;
	end = strrchr(text, ')');
	return end && strncmp(end, ") R", 3) == 0;
}

static void heartbeat(struct agent_child *c)
{
	uint64_t now = clock_now(), silent;

	if (c->ended) {
		child_lost(c, &(struct agent_end){ .hung = false },
			   "closed its connection");
		return;
	}
	if (!drain(c)) {
		child_eof(c);
		return;
	}
	if (now > c->timer_due + scaled(CHILD_LATE_NS))
		c->heard = now;
	silent = silence(c, now);
	if (silent >= patience(c)) {
		if (silent >= scaled(CHILD_STARVED_NS) || !starved(c->pid)) {
			child_lost(c, &(struct agent_end){ .hung = true },
				   "does not answer");
			return;
		}
		(void)ipc_send_u64(c->fd, IPC_PING, ++c->pings);
		c->last_ping = now;
		arm(c, now + CHILD_PING_NS / 5);
		return;
	}
	ping(c, now);
}

static void child_timer(void *arg)
{
	struct agent_child *c = arg;
	int r;

	if (c->fd >= 0) {
		heartbeat(c);
		return;
	}
	r = agent_child_run(c);
	if (r < 0) {
		log_error("the %s process cannot be started: %s", c->role,
			  strerror(-r));
		arm(c, clock_now() + CHILD_BACKOFF_MAX_NS);
	}
}

static uint64_t restart_delay(struct agent_child *c, uint64_t now)
{
	uint64_t delay = CHILD_BACKOFF_NS;

	if (c->answered && now - c->up_since >= CHILD_HEALTHY_NS)
		c->failures = 0;
	if (c->failures++ == 0)
		return 0;
	for (unsigned i = 2; i < c->failures && delay < CHILD_BACKOFF_MAX_NS; i++)
		delay *= 2;
	return delay < CHILD_BACKOFF_MAX_NS ? delay : CHILD_BACKOFF_MAX_NS;
}

static void child_lost(struct agent_child *c, struct agent_end *end,
		       const char *why)
{
	uint64_t now = clock_now(), delay = restart_delay(c, now);
	pid_t pid = c->pid;

	/* A reaped child's number is free for others: not to be signalled. */
	if (!c->reaped)
		kill(pid, SIGKILL);
	detach(c);
	log_warning("the %s process (%d) %s: it is replaced%s", c->role, (int)pid,
		    why, delay ? ", after a pause" : "");
	snprintf(end->process, sizeof(end->process), "%s", c->role);
	c->ops.gone(c->arg, end);
	if (delay == 0)
		child_timer(c);
	else
		arm(c, now + delay);
}

bool agent_child_reaped(struct agent_child *c, pid_t pid, int status)
{
	if (pid != c->pid || pid <= 0)
		return false;
	c->reaped = true;
	(void)drain(c); /* its last messages */
	child_ended(c, status);
	return true;
}

pid_t agent_child_stop(struct agent_child *c)
{
	pid_t pid = c->pid;

	loop_timer_stop(c->timer);
	detach(c);
	return pid;
}

void agent_child_free(struct agent_child *c)
{
	if (!c)
		return;
	detach(c);
	loop_timer_free(c->timer);
	free(c);
}
