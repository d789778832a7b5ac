/*
 * commands.h - the host's commands, run for guests and for the host's own clients
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_COMMANDS_H
#define VA_HOST_COMMANDS_H

#include "common/loop.h"
#include "virtagent/host/child.h"

struct host_commands;

/* dirs: as common/commands.h takes them; copied.  NULL on ENOMEM. */
struct host_commands *host_commands_new(struct loop *loop,
					struct children *children,
					const char *dirs);
/* From now on; any thread.  0 or -ENOMEM. */
int host_commands_set(struct host_commands *c, const char *dirs);
/* A copy of the directories, to be freed; NULL on ENOMEM. */
char *host_commands_dirs(struct host_commands *c);
/* When no call runs any more and the loop has ended. */
void host_commands_free(struct host_commands *c);

#endif
