/*
 * agent_stop.c - see agent_stop.h
 *
 * The signals are read from a descriptor because that says who sent them: process
 * 1 does so, on a system without systemd, when the machine goes down.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_stop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/str.h"

/* A package's upgrade exchanges the file under the running program. */
static bool upgraded(void)
{
	static const char mark[] = " (deleted)";
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path));

	return n > (ssize_t)sizeof(mark) &&
	       memcmp(path + n - (sizeof(mark) - 1), mark, sizeof(mark) - 1) == 0;
}

bool agent_stopping(const struct agent_stop *s)
{
	return s->step != STOP_NOT;
}

static void on_goodbye(void *arg)
{
	struct agent_stop *s = arg;

	s->ops->ends(s->arg);
	s->ending[0] = agent_child_stop(s->server);
	s->ending[1] = agent_child_stop(s->spawner);
	s->step = STOP_END;
	loop_timer_in(s->timer, AGENT_STOP_END_NS);
}

static void say_goodbye(struct agent_stop *s)
{
	if (s->step != STOP_FAREWELL)
		return;
	s->step = STOP_GOODBYE;
	loop_timer_stop(s->timer);
	vp_endpoint_shutdown(s->ep, s->reason, on_goodbye, s);
}

static int ask_server(struct agent_stop *s, pid_t from)
{
	CLEANUP_BUF struct buf b = BUF_INIT(128);
	int r = buf_put_u32(&b, (uint32_t)from);

	if (r == 0)
		r = buf_puts(&b, s->reason);
	return r < 0 ? r : agent_child_send(s->server, IPC_STOPPING, &b, NULL, 0);
}

static void on_timer(void *arg)
{
	struct agent_stop *s = arg;

	if (s->step == STOP_FAREWELL) {
		log_warning("the server does not say what the host was told");
		say_goodbye(s);
		return;
	}
	/* Who is left hangs. */
	for (size_t i = 0; i < 2; i++)
		if (s->ending[i] > 0)
			kill(s->ending[i], SIGKILL);
	loop_stop(s->loop);
}

static void on_signal(int fd, unsigned events, void *arg)
{
	struct agent_stop *s = arg;
	struct signalfd_siginfo si;
	const char *why;
	pid_t from;

	if (read(fd, &si, sizeof(si)) != sizeof(si) || s->step != STOP_NOT)
		return;
	/* Kernels before 3.7 give no sender where it is in another namespace. */
	from = si.ssi_code <= 0 ? (pid_t)si.ssi_pid : 0;
	why = upgraded() ? "upgraded: its program was replaced, " : "stopped: ";
	snprintf(s->reason, sizeof(s->reason), "%ssignal %u of process %d", why,
		 si.ssi_signo, (int)from);
	s->step = STOP_FAREWELL;
	log_info("ending on signal %u of process %d", si.ssi_signo, (int)from);
	daemon_notify("STOPPING=1");
	s->ops->begins(s->arg, (int)si.ssi_signo);
	loop_timer_in(s->timer, AGENT_STOP_FAREWELL_NS);
	/* Without a host there is nobody to tell. */
	if (!vp_endpoint_session_up(s->ep) || ask_server(s, from) < 0)
		say_goodbye(s);
}

void agent_stop_said(struct agent_stop *s, const char *reason)
{
	if (s->step != STOP_FAREWELL)
		return;
	snprintf(s->reason, sizeof(s->reason), "%s", reason);
	say_goodbye(s);
}

void agent_stop_server_gone(struct agent_stop *s)
{
	say_goodbye(s);
}

void agent_stop_reaped(struct agent_stop *s, pid_t pid)
{
	for (size_t i = 0; i < 2; i++)
		if (s->ending[i] == pid)
			s->ending[i] = 0;
	if (s->step == STOP_END && !s->ending[0] && !s->ending[1])
		loop_timer_in(s->timer, 0);
}

int agent_stop_init(struct agent_stop *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return -errno;
	s->src = loop_fd_new(s->loop, s->signal_fd, LOOP_READ, on_signal, s);
	s->timer = loop_timer_new(s->loop, on_timer, s);
	return s->src && s->timer ? 0 : -ENOMEM;
}

void agent_stop_done(struct agent_stop *s)
{
	loop_fd_free(s->src);
	if (s->timer)
		loop_timer_free(s->timer);
	if (s->signal_fd >= 0)
		close(s->signal_fd);
	s->signal_fd = -1;
}
