/*
 * agent_server.h - the server process: HTTP, XML-RPC, methods
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_SERVER_H
#define VA_AGENT_SERVER_H

#include "virtagent/agent_role.h"

/*
 * Serves until the endpoint's end of ipc_fd is closed; with ipc_fd -1, on the
 * listening socket o->server_fd until its parent dies or SIGTERM.  The exit
 * status of the process.
 */
int agent_server_main(const struct agent_options *o, int ipc_fd);

/*
 * Where the server is a program of its own (agent_server_exec.c): a descriptor that
 * holds it, for o->server_program; its absence is logged.  -1: it is this program.
 * 0 or a negative errno.
 */
int agent_server_program(int *ret);

#endif
