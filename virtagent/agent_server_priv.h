/*
 * agent_server_priv.h - what the files of the server process share
 *
 * agent_server.c holds the main thread, agent_judge.c policy and limits,
 * agent_alone.c what only a server without an endpoint does.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_SERVER_PRIV_H
#define VA_AGENT_SERVER_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtagent/agent_events.h"
#include "virtagent/agent_ipc.h"
#include "virtagent/agent_role.h"
#include "virtagent/codec.h"
#include "virtagent/guest/guest.h"
#include "virtagent/http_server.h"
#include "virtagent/policy.h"

/* Alone: no accept() for so long after one failed for want of descriptors. */
#define ACCEPT_PAUSE_MS 100

struct agent_server {
	const struct agent_options *options;
	struct guest_context ctx;
	struct codec_registry *registry;
	struct agent_events *events;
	struct http_server *http;
	struct outcomes *outcomes;
	pthread_rwlock_t lock; /* policy: read by methods, replaced on reload */
	struct policy *policy;
	struct guest_limits limits; /* under the lock, too */
	int ipc_fd;    /* -1 = alone, on options->server_fd */
	int signal_fd;
	uint64_t trimmed_at; /* when memory was last given back */
	int spawner_ctl; /* alone: our own spawner's */
	uint64_t spawner_at; /* alone: when it was last started */
	uint64_t accept_at;  /* alone: no accept() before */
};

/* --- agent_judge.c --- */

/* Fills in what methods ask the policy and the limits by. */
void agent_judge_init(struct agent_server *s);
/* For codec: before each call; and for introspection. */
int agent_judge_guard(struct va_call *call);
bool agent_judge_row(const struct va_call *call, const struct va_method *m);
/* Reads agent.conf; on failure, with the reason in err, everything stays. */
int agent_judge_read(struct agent_server *s, char *err, size_t err_size);
/* The same on a signal, with a log line. */
void agent_judge_reload(struct agent_server *s);
/* Hands the limits to those who keep to them. */
void agent_judge_limits(struct agent_server *s);

/* --- agent_alone.c --- */

void agent_alone_accept(struct agent_server *s);
/* Starts a spawner of our own in place of the last. */
int agent_alone_spawner(struct agent_server *s);

/* --- agent_server.c --- */

/* Serves a stream; fd is taken over. */
void agent_server_adopt(struct agent_server *s, int fd, const struct ipc_stream *st);

#endif
