/*
 * agent_spawn_wire.h - the spawner's messages as bytes (agent_spawn.h)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_SPAWN_WIRE_H
#define VA_AGENT_SPAWN_WIRE_H

#include <stdint.h>

#include "common/buf.h"
#include "virtagent/agent_spawn.h"

/* -E2BIG when it does not fit into one message, -EINVAL for an empty argv or
 * too many strings or groups. */
int spawn_put_start(struct buf *b, uint32_t job, const struct spawn_request *rq);

/* A START as the spawner keeps it: the request's pointers lead into memory that
 * belongs to it; its fds are not set. */
struct spawn_start {
	uint32_t job;
	unsigned fd_mask;
	struct spawn_request rq;
	char **strings; /* argv, NULL, env, NULL */
	gid_t *groups;
	char *cwd;
};

int spawn_get_start(struct buf *b, struct spawn_start **ret);
void spawn_start_free(struct spawn_start *s);
DEFINE_CLEANUP(struct spawn_start, spawn_start_free);

/* What the spawner reports. */
struct spawn_report {
	uint32_t job;
	uint32_t pid;	/* STARTED */
	uint32_t error; /* FAILED: positive errno */
	char step[24];
	uint32_t code, signal; /* EXITED */
	uint8_t timed_out;
};

/* type: IPC_STARTED, IPC_FAILED or IPC_EXITED. */
int spawn_put_report(struct buf *b, uint8_t type, const struct spawn_report *r);
int spawn_get_report(struct buf *b, uint8_t type, struct spawn_report *r);

#endif
