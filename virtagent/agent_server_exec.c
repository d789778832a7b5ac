/*
 * agent_server_exec.c - the server process is another program
 *
 * Of the agent's three processes only the server needs HTTP and XML.  The
 * libraries behind them (some forty, most of them libcurl's) cost each process
 * 1.4 MB of relocated data before it has done anything, so the endpoint and
 * the spawner are not linked with them, and the server is va-agent-server, which
 * takes the same arguments.  It is looked for beside this program (a build tree),
 * then where make install puts it, once, when the agent starts: a server that is
 * replaced later is of the same version, also when a package was upgraded meanwhile.
 * The static agent has all in one.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
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

static char *server_path(void)
{
	CLEANUP_FREE char *beside = beside_us();

	return beside && access(beside, X_OK) == 0 ?
		       take_ptr(beside) : strdup(PKGLIBEXECDIR "/" SERVER_PROGRAM);
}

int agent_server_program(int *ret)
{
	CLEANUP_FREE char *path = server_path();
	int fd = path ? open(path, O_PATH | O_CLOEXEC) : -1;

	if (fd < 0) {
		int r = path ? -errno : -ENOMEM;

		log_error("%s: %s", path ? path : SERVER_PROGRAM, strerror(-r));
		return r;
	}
	*ret = fd;
	return 0;
}

int agent_server_main(const struct agent_options *o, int ipc_fd)
{
	CLEANUP_FREE char *path = server_path();
	int fd = ipc_fd >= 0 ? ipc_fd : o->server_fd;
	int r = path ? fd_set_cloexec(fd, false) : -ENOMEM;

	if (r == 0) {
		execv(path, o->argv);
		r = -errno;
	}
	log_error("%s: %s", path ? path : SERVER_PROGRAM, strerror(-r));
	return 126;
}
