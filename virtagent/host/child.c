/*
 * child.c - programs that va-hostd starts
 *
 * waitpid(-1) is called on SIGCHLD only, and nothing else in the process forks,
 * so each pid that comes back is one of ours or one that was forgotten.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "virtagent/host/child.h"

#ifndef POSIX_SPAWN_SETSID
#define POSIX_SPAWN_SETSID 0x80
#endif

struct child {
	struct child *next;
	pid_t pid;
	child_fn fn;
	void *arg;
};

struct children {
	struct loop_signal *sigchld;
	struct child *head;
};

static struct child *take_child(struct children *c, pid_t pid)
{
	for (struct child **p = &c->head; *p; p = &(*p)->next) {
		struct child *found = *p;

		if (found->pid == pid) {
			*p = found->next;
			return found;
		}
	}
	return NULL;
}

static void on_sigchld(int signo, void *arg)
{
	struct children *c = arg;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		CLEANUP_FREE struct child *child = take_child(c, pid);

		if (child)
			child->fn(child->arg, pid, status);
	}
}

struct children *children_new(struct loop *loop)
{
	struct children *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->sigchld = loop_signal_new(loop, SIGCHLD, on_sigchld, c);
	if (!c->sigchld) {
		free(c);
		return NULL;
	}
	return c;
}

void children_free(struct children *c)
{
	if (!c)
		return;
	loop_signal_free(c->sigchld);
	while (c->head) {
		struct child *child = c->head;

		c->head = child->next;
		free(child);
	}
	free(c);
}

/* Every signal as it was before the daemon touched it, own session. */
static int set_attributes(posix_spawnattr_t *attr)
{
	sigset_t none, all;
	int err;

	sigemptyset(&none);
	sigfillset(&all);
	err = posix_spawnattr_setsigmask(attr, &none);
	if (!err)
		err = posix_spawnattr_setsigdefault(attr, &all);
	if (!err)
		err = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK |
							POSIX_SPAWN_SETSIGDEF |
							POSIX_SPAWN_SETSID);
	return err;
}

/* Descriptor want of the child is fd, or /dev/null. */
static int set_fd(posix_spawn_file_actions_t *fa, int fd, int want, int flags)
{
	if (fd < 0)
		return posix_spawn_file_actions_addopen(fa, want, "/dev/null",
							flags, 0);
	return posix_spawn_file_actions_adddup2(fa, fd, want);
}

static int spawn(const struct child_spec *spec, pid_t *pid)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int err;

	err = posix_spawn_file_actions_init(&fa);
	if (err)
		return -err;
	err = posix_spawnattr_init(&attr);
	if (err) {
		posix_spawn_file_actions_destroy(&fa);
		return -err;
	}
	err = set_attributes(&attr);
	if (!err)
		err = set_fd(&fa, spec->fd_in, 0, O_RDONLY);
	if (!err)
		err = set_fd(&fa, spec->fd_out, 1, O_WRONLY);
	if (!err && spec->fd_err >= 0)
		err = posix_spawn_file_actions_adddup2(&fa, spec->fd_err, 2);
	if (!err)
		err = posix_spawn(pid, spec->path, &fa, &attr,
				  (char *const *)spec->argv,
				  spec->envp ? (char *const *)spec->envp :
					       environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return -err;
}

pid_t child_start(struct children *c, const struct child_spec *spec,
		  child_fn fn, void *arg)
{
	CLEANUP_FREE struct child *child = calloc(1, sizeof(*child));
	int err;

	if (!child)
		return -ENOMEM;
	err = spawn(spec, &child->pid);
	if (err)
		return err;
	child->fn = fn;
	child->arg = arg;
	child->next = c->head;
	c->head = child;
	return take_ptr(child)->pid;
}

void child_forget(struct children *c, pid_t pid)
{
	free(take_child(c, pid));
}

const char *child_status_text(int status, char *buf, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(buf, size, "killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		snprintf(buf, size, "exited with %d", WEXITSTATUS(status));
	else
		snprintf(buf, size, "exited normally");
	return buf;
}
