/*
 * agent_spawner.c - the process that starts programs
 *
 * One thread, one poll() loop, no waiting anywhere else: even the execve() of a
 * program on a dead file system happens in the child, whose error pipe
 * (close-on-exec) reports either the failed step or, by its end, success.
 *
 * A job is WAITING (delayed), STARTING (forked, exec not yet seen), RUNNING or
 * OVER (its last report could not be sent yet).  Reports that the server's full
 * queue refused are kept as bits and sent when it takes them again.
 *
 * The leader of a job's process group is reaped only after the group has got
 * its last signal, so that the group's number cannot have been reused.
 *
 * Limits: SPAWN_JOBS_MAX jobs; a program that leaves its process group (setsid)
 * is not reached by signals.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "common/memory.h"
#include "virtagent/agent_ipc.h"
#include "virtagent/agent_spawn_child.h"
#include "virtagent/agent_spawn_wire.h"

enum job_state { JOB_FREE, JOB_WAITING, JOB_STARTING, JOB_RUNNING, JOB_OVER };

#define REPORT_STARTED 1u
#define REPORT_END 2u

struct job {
	enum job_state state;
	struct spawn_start *start;
	struct spawn_report report;
	uint8_t end_type; /* IPC_FAILED or IPC_EXITED, once OVER */
	unsigned owed;	  /* REPORT_* not sent yet */
	bool orphan;	  /* the server that asked is gone: report nothing */
	bool termed;
	pid_t pid;
	int error_fd;
	uint64_t start_at, kill_at;
};

struct spawner {
	int ctl_fd, server_fd, signal_fd;
	bool worked; /* since memory was given back */
	struct job jobs[SPAWN_JOBS_MAX];
};

static void job_done(struct job *j)
{
	if (j->error_fd >= 0)
		close(j->error_fd);
	if (j->start)
		for (unsigned i = 0; i < 3; i++)
			if (j->start->rq.fds[i] >= 0)
				close(j->start->rq.fds[i]);
	spawn_start_free(j->start);
	*j = (struct job){ .error_fd = -1 };
}

/* Sends what is owed, in order; frees a job that owes nothing more. */
static void job_report(struct spawner *s, struct job *j)
{
	int r = 0;

	if (j->orphan)
		j->owed = 0;
	while (j->owed && r == 0) {
		CLEANUP_BUF struct buf b = BUF_INIT(64);
		bool start = j->owed & REPORT_STARTED;
		unsigned bit = start ? REPORT_STARTED : REPORT_END;
		uint8_t type = start ? (uint8_t)IPC_STARTED : j->end_type;

		r = spawn_put_report(&b, type, &j->report);
		if (r == 0)
			r = s->server_fd < 0 ? -EPIPE :
					       ipc_send(s->server_fd, type, &b,
							NULL, 0);
		if (r != -EAGAIN && r != -ENOMEM)
			j->owed &= ~bit;
		if (r == -EPIPE)
			r = 0;
	}
	if (j->state == JOB_OVER && !j->owed)
		job_done(j);
}

static void job_over(struct spawner *s, struct job *j, uint8_t type)
{
	j->state = JOB_OVER;
	j->end_type = type;
	j->owed |= REPORT_END;
	job_report(s, j);
}

static void job_failed(struct spawner *s, struct job *j, int error,
		       const char *step)
{
	j->report.error = (uint32_t)error;
	snprintf(j->report.step, sizeof(j->report.step), "%s", step);
	job_over(s, j, IPC_FAILED);
}

/* The group exists from the child's setsid() on; before, there is only it. */
static void job_signal(const struct job *j, int signo)
{
	if (kill(-j->pid, signo) < 0 && errno == ESRCH)
		kill(j->pid, signo);
}

static void job_start(struct spawner *s, struct job *j, uint64_t now)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		job_failed(s, j, errno, "pipe");
		return;
	}
	pid = fork();
	if (pid < 0) {
		int error = errno;

		close(fds[0]);
		close(fds[1]);
		job_failed(s, j, error, "fork");
		return;
	}
	if (pid == 0)
		spawn_child(&j->start->rq, fds[1]);
	close(fds[1]);
	j->pid = pid;
	j->report.pid = (uint32_t)pid;
	j->error_fd = fds[0];
	j->state = JOB_STARTING;
	j->kill_at = j->start->rq.timeout_ns &&
				     j->start->rq.timeout_ns < CLOCK_NEVER - now ?
			     now + j->start->rq.timeout_ns :
			     CLOCK_NEVER;
	for (unsigned i = 0; i < 3; i++)
		if (j->start->rq.fds[i] >= 0) {
			close(j->start->rq.fds[i]);
			j->start->rq.fds[i] = -1;
		}
}

/* The error pipe ended (the program runs) or says what failed. */
static void job_started(struct spawner *s, struct job *j)
{
	struct spawn_child_error e;
	ssize_t n = read(j->error_fd, &e, sizeof(e));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	close(j->error_fd);
	j->error_fd = -1;
	if (n == sizeof(e)) {
		waitpid(j->pid, NULL, 0); /* it is in _exit() */
		j->pid = 0;
		e.step[sizeof(e.step) - 1] = 0;
		job_failed(s, j, e.error, e.step);
		return;
	}
	j->state = JOB_RUNNING;
	j->owed |= REPORT_STARTED;
	job_report(s, j);
}

static void job_reap(struct spawner *s, struct job *j)
{
	siginfo_t si = { 0 };
	int status = 0;

	if (waitid(P_PID, (id_t)j->pid, &si, WEXITED | WNOHANG | WNOWAIT) < 0 ||
	    si.si_pid == 0)
		return;
	if (j->state == JOB_STARTING)
		job_started(s, j);
	if (j->state != JOB_RUNNING)
		return;
	if ((j->start->rq.flags & SPAWN_KILL_REST) || j->termed)
		kill(-j->pid, SIGKILL);
	waitpid(j->pid, &status, 0);
	j->pid = 0;
	j->report.code = WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 0;
	j->report.signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
	job_over(s, j, IPC_EXITED);
}

static void job_expire(struct job *j, uint64_t now)
{
	if (!j->termed) {
		j->termed = true;
		j->report.timed_out = 1;
		j->kill_at = now + SPAWN_GRACE_NS;
		job_signal(j, SIGTERM);
		/* A stopped program must get to see it. */
		job_signal(j, SIGCONT);
	} else {
		j->kill_at = CLOCK_NEVER;
		job_signal(j, SIGKILL);
	}
}

static struct job *job_find(struct spawner *s, uint32_t id)
{
	for (size_t i = 0; i < SPAWN_JOBS_MAX; i++)
		if (s->jobs[i].state != JOB_FREE && !s->jobs[i].orphan &&
		    s->jobs[i].report.job == id)
			return &s->jobs[i];
	return NULL;
}

/* The server is gone or replaced: its jobs end, unless meant to stay. */
static void server_gone(struct spawner *s)
{
	for (size_t i = 0; i < SPAWN_JOBS_MAX; i++) {
		struct job *j = &s->jobs[i];

		if (j->state == JOB_FREE)
			continue;
		j->orphan = true;
		j->owed = 0;
		if (j->state == JOB_OVER)
			job_done(j);
		else if (j->start->rq.flags & SPAWN_KEEP)
			continue;
		else if (j->state == JOB_WAITING)
			job_done(j);
		else
			job_signal(j, SIGKILL);
	}
	if (s->server_fd >= 0)
		close(s->server_fd);
	s->server_fd = -1;
}

/* Spreads the descriptors that came over 0-2 as the mask says. */
static int take_fds(struct ipc_msg *m, struct spawn_start *start)
{
	size_t at = 0;

	for (unsigned i = 0; i < 3; i++) {
		if (!(start->fd_mask & 1u << i))
			continue;
		if (at >= m->nfds)
			return -EBADMSG;
		start->rq.fds[i] = take_fd(m->fds[at]);
		at++;
	}
	return at == m->nfds ? 0 : -EBADMSG;
}

static void refuse_start(struct spawner *s, uint32_t id, int error,
			 const char *step)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	struct spawn_report rp = { .job = id, .error = (uint32_t)error };

	snprintf(rp.step, sizeof(rp.step), "%s", step);
	if (spawn_put_report(&b, IPC_FAILED, &rp) == 0)
		(void)ipc_send(s->server_fd, IPC_FAILED, &b, NULL, 0);
}

static void on_start(struct spawner *s, struct ipc_msg *m, uint64_t now)
{
	struct spawn_start *start = NULL;
	struct job *j = NULL;

	if (spawn_get_start(&m->body, &start) < 0)
		return;
	s->worked = true;
	for (size_t i = 0; i < SPAWN_JOBS_MAX && !j; i++)
		if (s->jobs[i].state == JOB_FREE)
			j = &s->jobs[i];
	if (!j) {
		refuse_start(s, start->job, EAGAIN, "limit");
		spawn_start_free(start);
		return;
	}
	*j = (struct job){ .start = start, .error_fd = -1,
			   .report.job = start->job };
	if (take_fds(m, start) < 0) {
		job_failed(s, j, EBADMSG, "descriptors");
		return;
	}
	j->kill_at = CLOCK_NEVER;
	if (start->rq.delay_ns) {
		j->state = JOB_WAITING;
		j->start_at = now + start->rq.delay_ns;
	} else {
		job_start(s, j, now);
	}
}

static void on_kill(struct spawner *s, struct ipc_msg *m)
{
	uint32_t id, signo;
	struct job *j;

	if (buf_get_u32(&m->body, &id) < 0 ||
	    buf_get_u32(&m->body, &signo) < 0 || signo < 1 || signo > (uint32_t)SIGRTMAX)
		return;
	j = job_find(s, id);
	if (!j)
		return;
	if (j->state == JOB_WAITING)
		job_failed(s, j, ECANCELED, "cancelled");
	else if (j->pid > 0)
		job_signal(j, (int)signo);
}

static void server_input(struct spawner *s, uint64_t now)
{
	CLEANUP_IPC_MSG struct ipc_msg m = IPC_MSG_INIT;
	int r = ipc_recv(s->server_fd, &m);

	if (r == 1 && m.type == IPC_START)
		on_start(s, &m, now);
	else if (r == 1 && m.type == IPC_KILL)
		on_kill(s, &m);
	else if (r <= 0 && r != -EAGAIN && r != -EBADMSG && r != -ENOMEM)
		server_gone(s);
}

/* A heartbeat without a job between: time to give memory back. */
static void trim(struct spawner *s)
{
	bool idle = true;

	for (size_t i = 0; i < SPAWN_JOBS_MAX; i++)
		idle &= s->jobs[i].state == JOB_FREE;
	if (!idle || !s->worked)
		return;
	memory_trim();
	s->worked = false;
}

/* false = the endpoint is gone. */
static bool ctl_input(struct spawner *s)
{
	CLEANUP_IPC_MSG struct ipc_msg m = IPC_MSG_INIT;
	int r = ipc_recv(s->ctl_fd, &m);
	uint64_t number;

	if (r == 1 && m.type == IPC_PING && buf_get_u64(&m.body, &number) == 0) {
		(void)ipc_send_u64(s->ctl_fd, IPC_PONG, number);
		trim(s);
	} else if (r == 1 && m.type == IPC_SERVER && m.nfds == 1) {
		server_gone(s);
		s->server_fd = take_fd(m.fds[0]);
	}
	return r == 1 || r == -EAGAIN || r == -EBADMSG || r == -ENOMEM;
}

static void on_signals(struct spawner *s)
{
	struct signalfd_siginfo si;

	while (read(s->signal_fd, &si, sizeof(si)) == sizeof(si))
		;
	for (size_t i = 0; i < SPAWN_JOBS_MAX; i++)
		if (s->jobs[i].pid > 0)
			job_reap(s, &s->jobs[i]);
}

/* Runs what is due; returns when the next thing is. */
static uint64_t run_due(struct spawner *s, uint64_t now)
{
	uint64_t next = CLOCK_NEVER;

	for (size_t i = 0; i < SPAWN_JOBS_MAX; i++) {
		struct job *j = &s->jobs[i];

		if (j->state == JOB_WAITING && now >= j->start_at)
			job_start(s, j, now);
		if (j->pid > 0 && now >= j->kill_at)
			job_expire(j, now);
		if (j->state == JOB_WAITING && j->start_at < next)
			next = j->start_at;
		if (j->pid > 0 && j->kill_at < next)
			next = j->kill_at;
	}
	return next;
}

#define POLL_CTL 0
#define POLL_SIGNAL 1
#define POLL_SERVER 2
#define POLL_JOBS 3

static void poll_setup(struct spawner *s, struct pollfd *p)
{
	short out = 0;

	for (size_t i = 0; i < SPAWN_JOBS_MAX; i++) {
		struct job *j = &s->jobs[i];

		p[POLL_JOBS + i] = (struct pollfd){
			j->state == JOB_STARTING ? j->error_fd : -1, POLLIN, 0
		};
		if (j->owed)
			out = POLLOUT;
	}
	p[POLL_CTL] = (struct pollfd){ s->ctl_fd, POLLIN, 0 };
	p[POLL_SIGNAL] = (struct pollfd){ s->signal_fd, POLLIN, 0 };
	p[POLL_SERVER] = (struct pollfd){ s->server_fd, POLLIN | out, 0 };
}

static int wait_ms(uint64_t until, uint64_t now)
{
	uint64_t ms;

	if (until == CLOCK_NEVER)
		return -1;
	ms = until <= now ? 0 : (until - now) / NSEC_PER_MSEC + 1;
	return ms > 60000 ? 60000 : (int)ms;
}

static void spawner_loop(struct spawner *s)
{
	struct pollfd p[POLL_JOBS + SPAWN_JOBS_MAX];
	bool alive = true;

	while (alive) {
		uint64_t next = run_due(s, clock_now());

		poll_setup(s, p);
		if (poll(p, POLL_JOBS + SPAWN_JOBS_MAX,
			 wait_ms(next, clock_now())) < 0)
			continue;
		if (p[POLL_CTL].revents)
			alive = ctl_input(s);
		for (size_t i = 0; i < SPAWN_JOBS_MAX; i++)
			if (p[POLL_JOBS + i].revents &&
			    s->jobs[i].state == JOB_STARTING)
				job_started(s, &s->jobs[i]);
		if (p[POLL_SIGNAL].revents)
			on_signals(s);
		for (size_t i = 0; i < SPAWN_JOBS_MAX; i++)
			if (s->jobs[i].owed)
				job_report(s, &s->jobs[i]);
		/* The fd may have been exchanged above: ask it again then. */
		if (p[POLL_SERVER].revents && p[POLL_SERVER].fd == s->server_fd)
			server_input(s, clock_now());
	}
}

int agent_spawner_main(int ctl_fd, int server_fd)
{
	struct spawner s = { .ctl_fd = ctl_fd, .server_fd = server_fd,
			     .worked = true };
	sigset_t set;

	for (size_t i = 0; i < SPAWN_JOBS_MAX; i++)
		s.jobs[i].error_fd = -1;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* The endpoint says when to end, by closing its end: a stray ^C, a
	 * group-wide signal or an init's to everybody must not take running
	 * programs along, nor the one that a shutdown is to run. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	s.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s.signal_fd < 0)
		return 1;
	spawner_loop(&s);
	server_gone(&s);
	close(s.signal_fd);
	return 0;
}
