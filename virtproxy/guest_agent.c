/*
 * guest_agent.c - see guest_agent.h
 *
 * The agent is a process of its own and not linked in, so that virtproxy knows
 * nothing of HTTP or methods.  It inherits a listening socket; connections that
 * come while it is being started again wait in the socket's backlog.
 *
 * It is started by a process in between, forked before the channel is opened:
 * virtproxy itself may start nothing any more when it reads the peer's bytes.
 * Each ends with its parent.
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
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/seal.h"
#include "common/sock.h"
#include "common/str.h"

#define AGENT_PROGRAM "va-agent"
#define AGENT_SERVICE "virtagent"
#define RESTART_MIN NSEC_PER_SEC
#define RESTART_MAX (30 * NSEC_PER_SEC)

struct guest_agent {
	char *program;
	char *dir;
	char *path;
	unsigned id;
	int fd;
	pid_t starter; /* 0 = not running */
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

static void run_once(const struct guest_agent *a)
{
	pid_t parent = getpid(), pid = fork();
	int status = 0;

	if (pid == 0)
		run_agent(a, parent);
	if (pid < 0) {
		log_warning("%s cannot be started: %s", a->program, strerror(errno));
		return;
	}
	log_info("%s started, pid %d", a->program, (int)pid);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		log_warning("%s was killed by signal %d", a->program, WTERMSIG(status));
	else
		log_warning("%s ended with status %d", a->program, WEXITSTATUS(status));
}

/* The starter: until virtproxy ends, which ends it and by it the agent. */
static void run_starter(const struct guest_agent *a, pid_t parent)
{
	uint64_t delay = RESTART_MIN;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	for (;;) {
		uint64_t started = clock_now();
		struct timespec pause;

		run_once(a);
		if (clock_now() - started > RESTART_MAX)
			delay = RESTART_MIN;
		pause.tv_sec = (time_t)(delay / NSEC_PER_SEC);
		pause.tv_nsec = (long)(delay % NSEC_PER_SEC);
		nanosleep(&pause, NULL);
		delay = delay * 2 > RESTART_MAX ? RESTART_MAX : delay * 2;
	}
}

void guest_agent_reap(struct guest_agent *a)
{
	if (!a->starter || waitpid(a->starter, NULL, WNOHANG) != a->starter)
		return;
	a->starter = 0;
	log_error("the process that starts %s is gone; start virtproxy again",
		  a->program);
}

static int setup(struct guest_agent *a, char *err, size_t err_size)
{
	pid_t parent = getpid();
	int r;

	a->program = find_agent();
	if (!a->program) {
		snprintf(err, err_size, "-g: there is no " AGENT_PROGRAM " beside this "
			 "program, in PATH or in " SBINDIR);
		return -ENOENT;
	}
	a->dir = str_printf("%s/vp-%d-%u", dir_runtime(), (int)parent, a->id);
	a->path = a->dir ? str_printf("%s/agent.sock", a->dir) : NULL;
	if (!a->path)
		return -ENOMEM;
	r = dir_make_private(a->dir);
	if (r == 0)
		r = a->fd = sock_unix_listen(a->path, (gid_t)-1);
	if (r < 0) {
		snprintf(err, err_size, "-g: %s: %s", a->path, strerror(-r));
		return r;
	}
	a->starter = fork();
	if (a->starter == 0)
		run_starter(a, parent);
	if (a->starter < 0) {
		r = -errno;
		a->starter = 0;
		snprintf(err, err_size, "-g: fork: %s", strerror(-r));
	}
	return r < 0 ? r : 0;
}

struct guest_agent *guest_agent_new(unsigned id, char *err, size_t err_size)
{
	struct guest_agent *a = calloc(1, sizeof(*a));

	snprintf(err, err_size, "-g: out of memory");
	if (!a)
		return NULL;
	a->fd = -1;
	a->id = id;
	if (setup(a, err, err_size) < 0) {
		guest_agent_free(a);
		return NULL;
	}
	return a;
}

int guest_agent_serve(struct guest_agent *a, struct vp_endpoint *ep, char *err,
		      size_t err_size)
{
	struct vp_spec spec = { .name = AGENT_SERVICE, .port = "-", .id = a->id };

	snprintf(spec.addr, sizeof(spec.addr), "%s", a->path);
	return vp_endpoint_add_iforward(ep, &spec, err, err_size);
}

int guest_agent_seal(const struct guest_agent *a)
{
	int r = sock_unix_seal(a->path);

	if (r == 0)
		r = seal_add_path(SEAL_REMOVE, a->path);
	return r == 0 ? seal_add_path(SEAL_REMOVE, a->dir) : r;
}

void guest_agent_free(struct guest_agent *a)
{
	if (!a)
		return;
	if (a->fd >= 0) {
		close(a->fd);
		unlink(seal_path(a->path));
	}
	if (a->dir)
		rmdir(seal_path(a->dir));
	/* The starter and the agent end with us: PR_SET_PDEATHSIG. */
	free(a->program);
	free(a->dir);
	free(a->path);
	free(a);
}
