/*
 * hostd_proxy.c - one guest's virtproxy process: start, adopt, watch, restart
 *
 * A virtproxy outlives this daemon, so the process is known by its control
 * socket and not by being a child.  On each (re)start of the machine below the
 * socket is tried first: who answers there is adopted; when nobody does, a
 * process is started and the socket tried until it answers.  The end of the
 * control connection is the process's death, whoever its parent is; SIGCHLD only
 * adds the reason and speeds it up while the process has no socket yet.
 *
 *	IDLE -> STARTING -> UP -> [DYING] -> WAITING (back-off) -> STARTING ...
 *	any  -> STOPPING -> IDLE
 *
 * The back-off doubles from 0.1 s to 30 s and starts over when a process has
 * been up for ten seconds.  A process that does not open its socket, or leaves a
 * question without an answer (stopped, spinning), within HUNG_NS is killed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "virtagent/hostd_proxy.h"

#define BACKOFF_MIN_NS (100 * NSEC_PER_MSEC)
#define BACKOFF_MAX_NS (30 * NSEC_PER_SEC)
#define BACKOFF_FORGET_NS (10 * NSEC_PER_SEC) /* what dies at once does not live so long */
#define TRY_MIN_NS (5 * NSEC_PER_MSEC) /* between tries of the socket */
#define TRY_MAX_NS (250 * NSEC_PER_MSEC)
#define HUNG_NS (15 * NSEC_PER_SEC)
#define STOP_NS (3 * NSEC_PER_SEC)

#define REASON_NS (NSEC_PER_SEC / 2) /* SIGCHLD comes behind the socket's end */

enum state { IDLE, STARTING, UP, DYING, WAITING, STOPPING };

struct proxy {
	struct loop *loop;
	struct children *children;
	struct proxy_ops ops;
	void *arg;
	char *label, *program, *ctl_path;
	char **argv;
	enum state state;
	pid_t child; /* started here and not reaped yet, or -1 */
	struct ctl *ctl;
	struct loop_timer *timer; /* meaning: the state's */
	struct loop_timer *hung;  /* armed while a question waits */
	unsigned unanswered;
	uint64_t backoff_ns, try_ns, start_ns, up_ns;
	unsigned restarts;
	bool launched;	  /* in this STARTING a process was started */
	bool replace;	  /* whoever runs is ended, not adopted */
	char reason[128]; /* of the last death, from waitpid */
};

static uint64_t scaled(uint64_t ns)
{
	return (uint64_t)((double)ns * clock_scale());
}

static void free_argv(char **argv)
{
	for (size_t i = 0; argv && argv[i]; i++)
		free(argv[i]);
	free(argv);
}

static char **copy_argv(const char *const *argv)
{
	size_t n = 0;
	char **copy;

	while (argv[n])
		n++;
	copy = calloc(n + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = strdup(argv[i]);
		if (!copy[i]) {
			free_argv(copy);
			return NULL;
		}
	}
	return copy;
}

/* --- going down --------------------------------------------------------- */

static void drop_ctl(struct proxy *p)
{
	/* Answers still owed are given as NULL and may arm the timer. */
	ctl_free(take_ptr(p->ctl));
	loop_timer_stop(p->hung);
	p->unanswered = 0;
}

static void wait_and_restart(struct proxy *p, const char *why)
{
	uint64_t now = clock_now();

	if (p->up_ns && now - p->up_ns > scaled(BACKOFF_FORGET_NS))
		p->backoff_ns = 0;
	p->backoff_ns = p->backoff_ns ? p->backoff_ns * 2 : BACKOFF_MIN_NS;
	if (p->backoff_ns > BACKOFF_MAX_NS)
		p->backoff_ns = BACKOFF_MAX_NS;
	p->up_ns = 0;
	p->state = WAITING;
	p->restarts++;
	log_warning("guest %s: virtproxy is gone (%s), starting it again in "
		    "%.1f s", p->label, why,
		    (double)p->backoff_ns / (double)NSEC_PER_SEC);
	loop_timer_in(p->timer, p->backoff_ns);
}

/* The process is gone, or as good as. */
static void went_down(struct proxy *p, const char *why)
{
	bool stopping = p->state == STOPPING;

	drop_ctl(p);
	loop_timer_stop(p->timer);
	if (stopping) {
		p->state = IDLE;
		p->ops.stopped(p->arg);
		return;
	}
	wait_and_restart(p, why);
	p->ops.down(p->arg, why);
}

static void kill_it(struct proxy *p, const char *why)
{
	pid_t pid = proxy_pid(p);

	if (pid <= 1)
		return;
	log_warning("guest %s: killing virtproxy %d: %s", p->label, (int)pid,
		    why);
	kill(pid, SIGKILL);
}

static void on_child(void *arg, pid_t pid, int status)
{
	struct proxy *p = arg;

	p->child = -1;
	child_status_text(status, p->reason, sizeof(p->reason));
	/* With a control connection its end comes next, behind what the
	 * process still said. */
	if (p->ctl)
		return;
	if (p->state == STARTING || p->state == STOPPING || p->state == DYING)
		went_down(p, p->reason);
}

static void on_gone(void *arg, const char *why)
{
	struct proxy *p = arg;

	/* A process that broke the rules of its socket may still live. */
	if (strcmp(why, "the control connection ended") != 0)
		kill_it(p, why);
	if (p->child <= 0 || p->state == STOPPING) {
		went_down(p, p->reason[0] ? p->reason : why);
		return;
	}
	/* A child of ours: what it died of is worth a moment. */
	drop_ctl(p);
	p->state = DYING;
	loop_timer_in(p->timer, REASON_NS);
}

static void on_hung(void *arg)
{
	struct proxy *p = arg;

	kill_it(p, "it does not answer on its control socket");
	went_down(p, "it did not answer");
}

/* --- coming up ---------------------------------------------------------- */

static void on_event(void *arg, char *line)
{
	struct proxy *p = arg;

	p->ops.event(p->arg, line);
}

static const struct ctl_ops ctl_ops = { on_event, on_gone };

/* 0 when the socket answers and the process is now ours. */
static int try_adopt(struct proxy *p)
{
	int err;

	p->ctl = ctl_new(p->loop, p->ctl_path, &ctl_ops, p);
	if (!p->ctl)
		return -errno;
	err = ctl_command(p->ctl, p->replace ? "shutdown" : "adopt", NULL,
			  NULL);
	if (err < 0) {
		drop_ctl(p);
		return err;
	}
	loop_timer_stop(p->timer);
	p->state = UP;
	if (p->replace) {
		/* Its end starts the new one. */
		p->replace = false;
		log_info("guest %s: replacing virtproxy %d", p->label,
			 (int)ctl_pid(p->ctl));
		loop_timer_in(p->hung, scaled(STOP_NS));
		return 0;
	}
	p->up_ns = clock_now();
	p->reason[0] = '\0';
	p->ops.up(p->arg, !p->launched);
	return 0;
}

static void launch(struct proxy *p)
{
	const struct child_spec spec = {
		.path = p->program,
		.argv = (const char *const *)p->argv,
		.fd_in = -1,
		.fd_out = -1,
		.fd_err = -1,
	};
	pid_t pid;

	if (p->child > 0) /* killed, and not dead yet */
		child_forget(p->children, take_fd(p->child));
	pid = child_start(p->children, &spec, on_child, p);
	if (pid < 0) {
		char why[256];

		snprintf(why, sizeof(why), "%s: %s", p->program,
			 strerror((int)-pid));
		went_down(p, why);
		return;
	}
	p->child = pid;
	p->launched = true;
	p->try_ns = TRY_MIN_NS;
	p->start_ns = clock_now();
	loop_timer_in(p->timer, p->try_ns);
	log_debug("guest %s: virtproxy %d started", p->label, (int)pid);
}

/* STARTING: the socket is tried; when nobody ever answered, start a process. */
static void try_once(struct proxy *p)
{
	int err = try_adopt(p);

	if (err == 0)
		return;
	if (err == -EPERM) {
		went_down(p, "its control socket belongs to another user");
		return;
	}
	if (!p->launched) {
		launch(p);
		return;
	}
	if (clock_now() - p->start_ns > scaled(HUNG_NS)) {
		kill_it(p, "it does not open its control socket");
		return; /* on_child() goes on */
	}
	p->try_ns = p->try_ns * 2 < TRY_MAX_NS ? p->try_ns * 2 : TRY_MAX_NS;
	loop_timer_in(p->timer, p->try_ns);
}

static void on_timer(void *arg)
{
	struct proxy *p = arg;

	switch (p->state) {
	case WAITING:
		proxy_begin(p);
		break;
	case STARTING:
		try_once(p);
		break;
	case STOPPING:
		kill_it(p, "it does not stop");
		went_down(p, "killed");
		break;
	case DYING:
		went_down(p, "its control connection ended");
		break;
	case IDLE:
	case UP:
		break;
	}
}

void proxy_replace(struct proxy *p)
{
	p->replace = true;
}

void proxy_begin(struct proxy *p)
{
	p->state = STARTING;
	p->launched = false;
	try_once(p);
}

/* --- the rest ----------------------------------------------------------- */

struct proxy *proxy_new(const struct proxy_config *cfg,
			const struct proxy_ops *ops, void *arg)
{
	struct proxy *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->loop = cfg->loop;
	p->children = cfg->children;
	p->ops = *ops;
	p->arg = arg;
	p->child = -1;
	p->label = strdup(cfg->label);
	p->program = strdup(cfg->program);
	p->ctl_path = strdup(cfg->ctl_path);
	p->argv = copy_argv(cfg->argv);
	p->timer = loop_timer_new(p->loop, on_timer, p);
	p->hung = loop_timer_new(p->loop, on_hung, p);
	if (!p->label || !p->program || !p->ctl_path || !p->argv || !p->timer ||
	    !p->hung) {
		proxy_free(p);
		errno = ENOMEM;
		return NULL;
	}
	return p;
}

void proxy_stop(struct proxy *p)
{
	enum state was = p->state;

	p->state = STOPPING;
	if (was == IDLE || was == WAITING) {
		went_down(p, "stopped");
		return;
	}
	if (p->ctl)
		ctl_command(p->ctl, "shutdown", NULL, NULL);
	else if (p->child > 0)
		kill(p->child, SIGTERM);
	loop_timer_in(p->timer, scaled(STOP_NS));
}

void proxy_free(struct proxy *p)
{
	if (!p)
		return;
	if (p->child > 0) {
		/* It serves nobody yet, and nobody would find it. */
		if (p->state == STARTING)
			kill(p->child, SIGTERM);
		child_forget(p->children, p->child);
	}
	drop_ctl(p);
	loop_timer_free(p->timer);
	loop_timer_free(p->hung);
	free_argv(p->argv);
	free(p->label);
	free(p->program);
	free(p->ctl_path);
	free(p);
}

pid_t proxy_pid(const struct proxy *p)
{
	return p->ctl ? ctl_pid(p->ctl) : p->child;
}

unsigned proxy_restarts(const struct proxy *p)
{
	return p->restarts;
}

bool proxy_is_up(const struct proxy *p)
{
	return p->state == UP;
}

struct question {
	struct proxy *p;
	loop_fn fn;
	void *arg;
};

static void answered(struct proxy *p)
{
	if (p->unanswered && --p->unanswered == 0)
		loop_timer_stop(p->hung);
	else if (p->unanswered)
		loop_timer_in(p->hung, scaled(HUNG_NS));
}

static void on_alive(void *arg, const char *text)
{
	CLEANUP_FREE struct question *q = arg;

	answered(q->p);
}

static void on_status(void *arg, const char *text)
{
	CLEANUP_FREE struct question *q = arg;
	struct proxy *p = q->p;

	answered(p);
	if (text)
		p->ops.status(p->arg, text);
	if (q->fn)
		q->fn(q->arg);
}

static int ask(struct proxy *p, const char *command, ctl_answer_fn then,
	       loop_fn fn, void *arg)
{
	struct question *q;
	int err;

	if (p->state != UP || !p->ctl)
		return -ENOTCONN;
	q = malloc(sizeof(*q));
	if (!q)
		return -ENOMEM;
	*q = (struct question){ p, fn, arg };
	err = ctl_command(p->ctl, command, then, q);
	if (err < 0) {
		free(q);
		return err;
	}
	if (p->unanswered++ == 0)
		loop_timer_in(p->hung, scaled(HUNG_NS));
	return 0;
}

int proxy_poll(struct proxy *p, loop_fn fn, void *arg)
{
	return ask(p, "status json", on_status, fn, arg);
}

int proxy_check(struct proxy *p)
{
	return ask(p, "ping", on_alive, NULL, NULL);
}
