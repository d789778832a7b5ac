/*
 * agent_spawn_child.c - see agent_spawn_child.h
 *
 * The parent is single-threaded, so the child may use the whole library.  The
 * order matters: descriptors first (into a range above 2, so that no dup2()
 * overwrites one still needed), then the session and terminal, identity last
 * but for the working directory, which the new identity must be able to enter.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_spawn_child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/cleanup.h"

#define DEFAULT_PATH                                                           \
	"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static void fail(int error_fd, const char *step)
	__attribute__((noreturn));

static void fail(int error_fd, const char *step)
{
	struct spawn_child_error e = { .error = errno };

	snprintf(e.step, sizeof(e.step), "%s", step);
	(void)!write(error_fd, &e, sizeof(e));
	_exit(127);
}

/* Without close_range(2) (Linux 5.9) and without /proc: up to the limit. */
static void close_by_number(int from, int keep)
{
	long max = sysconf(_SC_OPEN_MAX);

	for (int fd = from; fd < (max > 0 && max < 65536 ? max : 65536); fd++)
		if (fd != keep)
			close(fd);
}

static int close_by_range(int from, int keep)
{
#ifdef SYS_close_range
	if (keep > from &&
	    syscall(SYS_close_range, (unsigned)from, (unsigned)keep - 1, 0) < 0)
		return -errno;
	if (keep >= from)
		from = keep + 1;
	return syscall(SYS_close_range, (unsigned)from, ~0u, 0) < 0 ? -errno : 0;
#else
	return -ENOSYS;
#endif
}

void spawn_close_from(int from, int keep)
{
	struct dirent *e;
	DIR *d;

	if (close_by_range(from, keep) == 0)
		return;
	d = opendir("/proc/self/fd");
	if (!d) {
		close_by_number(from, keep);
		return;
	}
	while ((e = readdir(d))) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] != '.' && fd >= from && fd != keep &&
		    fd != dirfd(d))
			close(fd);
	}
	closedir(d);
}

/* Puts the request's descriptors on 0-2; the error pipe moves out of the way.
 * Returns its new number. */
static int place_fds(const struct spawn_request *rq, int error_fd)
{
	int null, high[3], error_high = fcntl(error_fd, F_DUPFD_CLOEXEC, 3);

	if (error_high < 0)
		fail(error_fd, "descriptors");
	null = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
	for (int i = 0; i < 3; i++) {
		int from = rq->fds[i] >= 0 ? rq->fds[i] : null;

		high[i] = fcntl(from, F_DUPFD_CLOEXEC, 3);
		if (high[i] < 0)
			fail(error_high, from == null ? "/dev/null" :
							"descriptors");
	}
	for (int i = 0; i < 3; i++)
		if (dup2(high[i], i) < 0)
			fail(error_high, "descriptors");
	spawn_close_from(3, error_high);
	return error_high;
}

static void reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i <= SIGRTMAX; i++)
		if (i != SIGKILL && i != SIGSTOP)
			signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The agent may be shielded from the out-of-memory killer: not its programs. */
static void reset_oom_score(void)
{
	CLEANUP_CLOSE int fd = open("/proc/self/oom_score_adj",
				    O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, "0", 1);
}

static void set_identity(const struct spawn_request *rq, int error_fd)
{
	if (setgroups(rq->ngroups, rq->groups) < 0)
		fail(error_fd, "setgroups");
	if (setgid(rq->gid) < 0)
		fail(error_fd, "setgid");
	if (setuid(rq->uid) < 0)
		fail(error_fd, "setuid");
}

/* As execvp(3), but a file that is no program is an error, never a script for
 * a shell that nobody named. */
static void run_program(char *const *argv)
{
	const char *path = getenv("PATH"), *end;
	char file[4096];
	int seen = ENOENT;

	if (strchr(argv[0], '/')) {
		execve(argv[0], argv, environ);
		return;
	}
	for (path = path ? path : DEFAULT_PATH; *path; path = *end ? end + 1 : end) {
		end = strchrnul(path, ':');
		if (end == path ||
		    snprintf(file, sizeof(file), "%.*s/%s", (int)(end - path),
			     path, argv[0]) >= (int)sizeof(file))
			continue;
		execve(file, argv, environ);
		if (errno != ENOENT && errno != ENOTDIR)
			seen = errno;
	}
	errno = seen;
}

void spawn_child(const struct spawn_request *rq, int error_fd)
{
	static char *const path_only[] = { (char *)(uintptr_t) "PATH=" DEFAULT_PATH,
					   NULL };

	reset_signals();
	error_fd = place_fds(rq, error_fd);
	umask(022);
	if (setsid() < 0)
		fail(error_fd, "setsid");
	if ((rq->flags & SPAWN_TTY) && ioctl(0, TIOCSCTTY, 0) < 0)
		fail(error_fd, "controlling terminal");
	reset_oom_score();
	if (rq->flags & SPAWN_IDS)
		set_identity(rq, error_fd);
	if (chdir(rq->cwd) < 0)
		fail(error_fd, "chdir");
	environ = rq->env && rq->env[0] ? (char **)(uintptr_t)rq->env :
					  (char **)(uintptr_t)path_only;
	run_program((char *const *)(uintptr_t)rq->argv);
	fail(error_fd, "exec");
}
