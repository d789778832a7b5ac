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
 * been up for ten seconds.  One that hangs (it does not open its socket, or leaves
 * questions without an answer) or spins is killed (hostd_watch.c); with such ends
 * the pauses grow up to 5 minutes and start over when one has done well for 10, or
 * a process that does nothing else would have a core for most of the time.
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
#include "virtagent/hostd_proxy_priv.h"

#define BACKOFF_MIN_NS (100 * NSEC_PER_MSEC)
#define BACKOFF_MAX_NS (30 * NSEC_PER_SEC)
#define BACKOFF_BAD_NS (300 * NSEC_PER_SEC) /* of one that hung or spun */
#define BACKOFF_FORGET_NS (10 * NSEC_PER_SEC) /* what dies at once does not live so long */
#define BACKOFF_BAD_FORGET_NS (600 * NSEC_PER_SEC) /* what hangs or spins may */
#define TRY_MIN_NS (5 * NSEC_PER_MSEC) /* between tries of the socket */
#define TRY_MAX_NS (250 * NSEC_PER_MSEC)
#define OPEN_NS (15 * NSEC_PER_SEC) /* until its socket answers */
#define STOP_NS (3 * NSEC_PER_SEC)

#define REASON_NS (NSEC_PER_SEC / 2) /* SIGCHLD comes behind the socket's end */

uint64_t proxy_scaled(uint64_t ns)
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
	loop_timer_stop(p->ticks);
	watch_reset(&p->watch);
	p->ending = false;
}

static void wait_and_restart(struct proxy *p, const char *why)
{
	bool crashed = p->end == PROXY_CRASHED;
	uint64_t well = crashed ? clock_now() : p->well_ns;
	uint64_t most = crashed ? BACKOFF_MAX_NS : BACKOFF_BAD_NS;
	uint64_t forget = crashed ? BACKOFF_FORGET_NS : BACKOFF_BAD_FORGET_NS;

	if (p->up_ns && well - p->up_ns > proxy_scaled(forget))
		p->backoff_ns = 0;
	p->backoff_ns = p->backoff_ns ? p->backoff_ns * 2 : BACKOFF_MIN_NS;
	if (p->backoff_ns > most)
		p->backoff_ns = most;
	p->up_ns = 0;
	p->state = WAITING;
	p->restarts++;
	log_warning("guest %s: virtproxy is gone (%s), starting it again in "
		    "%.1f s", p->label, why,
		    (double)p->backoff_ns / (double)NSEC_PER_SEC);
	loop_timer_in(p->timer, p->backoff_ns);
}

void proxy_went_down(struct proxy *p, const char *why)
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
	p->ops.down(p->arg, p->end, why);
	p->end = PROXY_CRASHED;
}

void proxy_kill(struct proxy *p, const char *why)
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
	if (p->end == PROXY_HUNG)
		snprintf(p->reason, sizeof(p->reason), "it did not open its control socket");
	else
		child_status_text(status, p->reason, sizeof(p->reason));
	/* With a control connection its end comes next, behind what the
	 * process still said. */
	if (p->ctl)
		return;
	if (p->state == STARTING || p->state == STOPPING || p->state == DYING)
		proxy_went_down(p, p->reason);
}

static void on_gone(void *arg, const char *why)
{
	struct proxy *p = arg;

	/* A process that broke the rules of its socket may still live. */
	if (strcmp(why, "the control connection ended") != 0)
		proxy_kill(p, why);
	if (p->child <= 0 || p->state == STOPPING) {
		proxy_went_down(p, p->reason[0] ? p->reason : why);
		return;
	}
	/* A child of ours: what it died of is worth a moment. */
	drop_ctl(p);
	p->state = DYING;
	loop_timer_in(p->timer, REASON_NS);
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
		p->ending = true;
		log_info("guest %s: replacing virtproxy %d", p->label,
			 (int)ctl_pid(p->ctl));
		loop_timer_in(p->ticks, proxy_scaled(STOP_NS));
		return 0;
	}
	p->up_ns = p->well_ns = clock_now();
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
		proxy_went_down(p, why);
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
		proxy_went_down(p, "its control socket belongs to another user");
		return;
	}
	if (!p->launched) {
		launch(p);
		return;
	}
	if (clock_now() - p->start_ns > proxy_scaled(OPEN_NS)) {
		p->end = PROXY_HUNG;
		proxy_kill(p, "it does not open its control socket");
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
		proxy_kill(p, "it does not stop");
		proxy_went_down(p, "killed");
		break;
	case DYING:
		proxy_went_down(p, "its control connection ended");
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

/* --- making, stopping --------------------------------------------------- */

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
	p->limits = cfg->limits;
	p->timer = loop_timer_new(p->loop, on_timer, p);
	p->ticks = loop_timer_new(p->loop, proxy_on_tick, p);
	if (!p->label || !p->program || !p->ctl_path || !p->argv || !p->timer ||
	    !p->ticks) {
		proxy_free(p);
		errno = ENOMEM;
		return NULL;
	}
	return p;
}

void proxy_stop(struct proxy *p)
{
	enum proxy_state was = p->state;

	p->state = STOPPING;
	if (was == IDLE || was == WAITING) {
		proxy_went_down(p, "stopped");
		return;
	}
	if (p->ctl)
		ctl_command(p->ctl, "shutdown", NULL, NULL);
	else if (p->child > 0)
		kill(p->child, SIGTERM);
	loop_timer_in(p->timer, proxy_scaled(STOP_NS));
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
	loop_timer_free(p->ticks);
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
