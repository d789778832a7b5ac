/*
 * agent_server_exec.c - the server process is another program
 *
 * Of the agent's three processes only the server needs HTTP and XML.  The
 * libraries behind them (some forty, most of them libcurl's) cost each process
 * 1.4 MB of relocated data before it has done anything, so the endpoint and
 * the spawner are not linked with them, and the server is va-agent-server, which
 * takes the same arguments.  It is looked for beside this program (a build tree),
 * then where make install puts it.  The static agent has all in one.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_server.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/sock.h"
#include "common/str.h"

#define SERVER_PROGRAM "va-agent-server"

static char *beside_us(void)
{
	char self[512];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[n < 0 ? 0 : n] = 0;
	slash = strrchr(self, '/');
	return slash ? str_printf("%.*s/" SERVER_PROGRAM, (int)(slash - self), self) : NULL;
}

int agent_server_main(const struct agent_options *o, int ipc_fd)
{
	CLEANUP_FREE char *beside = beside_us();
	const char *program = beside && access(beside, X_OK) == 0 ?
				      beside : PKGLIBEXECDIR "/" SERVER_PROGRAM;
	int fd = ipc_fd >= 0 ? ipc_fd : o->server_fd;
	int r = fd_set_cloexec(fd, false);

	if (r == 0) {
		execv(program, o->argv);
		r = -errno;
	}
	log_error("%s: %s", program, strerror(-r));
	return 126;
}
