/*
 * agent_spawn_child.h - the forked child of the spawner, up to its execve()
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_SPAWN_CHILD_H
#define VA_AGENT_SPAWN_CHILD_H

#include "virtagent/agent_spawn.h"

/* What the error pipe carries when a step failed; less than PIPE_BUF. */
struct spawn_child_error {
	int error; /* positive errno */
	char step[24];
};

/* Becomes the program; on failure writes a spawn_child_error to error_fd
 * (close-on-exec) and exits. */
void spawn_child(const struct spawn_request *rq, int error_fd)
	__attribute__((noreturn));

/* Closes every descriptor from `from` on, but `keep`. */
void spawn_close_from(int from, int keep);

#endif
