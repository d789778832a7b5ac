/*
 * agent_role.h - three processes
 *
 * The endpoint starts its own binary again with --role=spawner, and with --role=server
 * that or va-agent-server (agent_server.h), and one end of a pair (agent_ipc.h) as
 * --fd.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_ROLE_H
#define VA_AGENT_ROLE_H

#include <stdbool.h>
#include <sys/types.h>

struct agent_options {
	char *program;	/* argv[0], absolute where it is a path */
	char **argv;	/* as this process was given */
	char *channel;	/* NULL = look for the port */
	char *config;	/* absolute */
	bool config_given; /* by option: it must be there */
	char *log;	/* NULL = stderr, in the background syslog */
	char *pid_file;
	char *commands;	/* directories, ":" between them */
	char *agent_socket, *host_socket, *ctl_socket;
	gid_t gid;	/* of the sockets; (gid_t)-1 = only the owner */
	bool daemon;
	int verbose;	/* -1 = as the config says */
	int server_fd;	/* only a server, on this listening socket; -1 = all */
	char *role;
	int fd;		/* of the role */
	int server_program; /* agent_server_program() */
};

/*
 * Forks and starts a role; fd becomes the child's (closed here by the caller).
 * The child's pid or a negative errno.
 */
pid_t agent_role_start(const struct agent_options *o, const char *role, int fd);

#endif
