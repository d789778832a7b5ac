/*
 * guest_agent.c - see guest_agent.h
 *
 * The agent is a child process and not linked in, so that virtproxy knows
 * nothing of HTTP or methods.  It inherits a listening socket; connections that
 * come while it is being started again wait in the socket's backlog.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/guest_agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/sock.h"
#include "common/str.h"

#define AGENT_PROGRAM "va-agent"
#define AGENT_SERVICE "virtagent"
#define RESTART_MIN NSEC_PER_SEC
#define RESTART_MAX (30 * NSEC_PER_SEC)

struct guest_agent {
	struct loop_timer *restart;
	uint64_t delay;
	uint64_t started;
	char *program;
	char *dir;
	char *path;
	int fd;
	pid_t pid; /* 0 = not running */
};

static char *if_executable(char *path)
{
	if (path && access(path, X_OK) == 0)
		return path;
	free(path);
	return NULL;
}

/* Beside this program, then in PATH, then where make install puts it. */
static char *find_agent(void)
{
	char self[512];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *path = getenv("PATH");
	char *found = NULL;

	if (n > 0) {
		self[n] = 0;
		*(strrchr(self, '/') + 1) = 0;
		found = if_executable(str_printf("%s" AGENT_PROGRAM, self));
	}
	while (!found && path && *path) {
		size_t len = strcspn(path, ":");

		if (len)
			found = if_executable(str_printf("%.*s/" AGENT_PROGRAM,
							 (int)len, path));
		path += len + (path[len] == ':');
	}
	return found ? found : if_executable(strdup(SBINDIR "/" AGENT_PROGRAM));
}

/* In the child; never returns. */
static void run_agent(const struct guest_agent *a, pid_t parent)
{
	char number[12];

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1); /* it died before the line above */
	signal(SIGPIPE, SIG_DFL);
	fd_set_cloexec(a->fd, false);
	snprintf(number, sizeof(number), "%d", a->fd);
	execl(a->program, AGENT_PROGRAM, "--server-fd", number, (char *)NULL);
	fprintf(stderr, "virtproxy: %s: %s\n", a->program, strerror(errno));
	_exit(127);
}

static void start(void *arg)
{
	struct guest_agent *a = arg;
	pid_t parent = getpid(), pid = fork();

	if (pid == 0)
		run_agent(a, parent);
	if (pid < 0) {
		log_warning("%s cannot be started: %s", a->program, strerror(errno));
		loop_timer_in(a->restart, a->delay);
		return;
	}
	a->pid = pid;
	a->started = clock_now();
	log_info("%s started, pid %d", a->program, (int)pid);
}

void guest_agent_reap(struct guest_agent *a)
{
	int status;

	if (!a->pid || waitpid(a->pid, &status, WNOHANG) != a->pid)
		return;
	a->pid = 0;
	if (clock_now() - a->started > RESTART_MAX)
		a->delay = RESTART_MIN;
	if (WIFSIGNALED(status))
		log_warning("%s was killed by signal %d", a->program, WTERMSIG(status));
	else
		log_warning("%s ended with status %d", a->program, WEXITSTATUS(status));
	loop_timer_in(a->restart, a->delay);
	a->delay = a->delay * 2 > RESTART_MAX ? RESTART_MAX : a->delay * 2;
}

static int setup(struct guest_agent *a, struct loop *loop, struct vp_endpoint *ep,
		 unsigned id, char *err, size_t err_size)
{
	struct vp_spec spec = { .name = AGENT_SERVICE, .port = "-", .id = id };
	int r;

	a->program = find_agent();
	if (!a->program) {
		snprintf(err, err_size, "-g: there is no " AGENT_PROGRAM " beside this "
			 "program, in PATH or in " SBINDIR);
		return -ENOENT;
	}
	a->dir = str_printf("%s/vp-%d-%u", dir_runtime(), (int)getpid(), id);
	a->path = a->dir ? str_printf("%s/agent.sock", a->dir) : NULL;
	a->restart = loop_timer_new(loop, start, a);
	if (!a->path || !a->restart)
		return -ENOMEM;
	r = dir_make_private(a->dir);
	if (r == 0)
		r = a->fd = sock_unix_listen(a->path, (gid_t)-1);
	if (r < 0) {
		snprintf(err, err_size, "-g: %s: %s", a->path, strerror(-r));
		return r;
	}
	snprintf(spec.addr, sizeof(spec.addr), "%s", a->path);
	return vp_endpoint_add_iforward(ep, &spec, err, err_size);
}

struct guest_agent *guest_agent_new(struct loop *loop, struct vp_endpoint *ep,
				    unsigned id, char *err, size_t err_size)
{
	struct guest_agent *a = calloc(1, sizeof(*a));

	snprintf(err, err_size, "-g: out of memory");
	if (!a)
		return NULL;
	a->fd = -1;
	a->delay = RESTART_MIN;
	if (setup(a, loop, ep, id, err, err_size) < 0) {
		guest_agent_free(a);
		return NULL;
	}
	start(a);
	return a;
}

void guest_agent_free(struct guest_agent *a)
{
	if (!a)
		return;
	if (a->pid) {
		kill(a->pid, SIGTERM);
		/* It ends on its own, or with us: PR_SET_PDEATHSIG. */
		waitpid(a->pid, NULL, WNOHANG);
	}
	if (a->fd >= 0) {
		close(a->fd);
		unlink(a->path);
	}
	if (a->dir)
		rmdir(a->dir);
	loop_timer_free(a->restart);
	free(a->program);
	free(a->dir);
	free(a->path);
	free(a);
}
