/*
 * agent_role.c - see agent_role.h
 *
 * /proc/self/exe is this very binary, also when the file was replaced meanwhile;
 * without /proc the path it was called by has to do.  The server's program is held
 * by a descriptor from the start for the same reason: what the processes say to each
 * other is of one version.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_role.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/sock.h"
#include "common/str.h"

#define ROLE_ARGS 8

/* In the child; returns only when it cannot be started. */
static void become(const struct agent_options *o, const char *role, char **argv, int fd)
{
	char held[32];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (fd_set_cloexec(fd, false) < 0)
		return;
	if (o->server_program >= 0 && strcmp(role, "server") == 0) {
		snprintf(held, sizeof(held), "/proc/self/fd/%d", o->server_program);
		execv(held, argv);
	}
	execv("/proc/self/exe", argv);
	if (o->program)
		execvp(o->program, argv);
}

pid_t agent_role_start(const struct agent_options *o, const char *role, int fd)
{
	CLEANUP_FREE char *role_arg = str_printf("--role=%s", role);
	CLEANUP_FREE char *fd_arg = str_printf("--fd=%d", fd);
	CLEANUP_FREE char *conf_arg = str_printf("--config=%s", o->config);
	CLEANUP_FREE char *log_arg = str_printf("--log=%s", o->log);
	char *argv[ROLE_ARGS] = { (char *)(uintptr_t) "va-agent", role_arg, fd_arg,
				  log_arg };
	size_t n = 4;
	pid_t pid;

	if (!role_arg || !fd_arg || !conf_arg || !log_arg)
		return -ENOMEM;
	/* A default configuration file need not be there. */
	if (o->config_given)
		argv[n++] = conf_arg;
	if (log_get_level() >= LOG_LVL_DEBUG)
		argv[n++] = (char *)(uintptr_t) "--verbose";
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		become(o, role, argv, fd);
		log_write(LOG_LVL_ERROR, "cannot start this program again: "
					 "neither /proc/self/exe nor its path");
		_exit(126);
	}
	return pid;
}
