/*
 * host.h - what the host's methods may use
 *
 * The methods know guests, events and time by this context only; they include
 * neither HTTP nor codec nor transport.  The operations are callable from any
 * thread and return within a bounded time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_HOST_H
#define VA_HOST_HOST_H

#include <stddef.h>

#include "common/uuid.h"
#include "virtagent/host/events.h"
#include "virtagent/host/keys.h"
#include "virtagent/method.h"
#include "virtagent/value.h"

struct host_ops {
	/*
	 * An array of facts (structs) of all guests, or of the one named ONLY;
	 * with details: everything that is known.  -ENOENT: no such guest,
	 * -ETIMEDOUT: the daemon is busy.
	 */
	int (*guests)(void *arg, const char *only, bool details,
		      struct va_value **ret);
	/* 0, or -ENOENT: no such guest, -ETIMEDOUT. */
	int (*known)(void *arg, const char *guest);
	/* An array of facts of the QMP sockets that were found; -ETIMEDOUT. */
	int (*monitors)(void *arg, struct va_value **ret);
	/* A guest's agent of that id is at work; does not wait. */
	void (*agent_seen)(void *arg, const char *guest, const char *agent);
	/* Sends a guest its keys again; does not wait. */
	void (*refresh_keys)(void *arg, const char *guest);
};

struct host_commands;

struct host_context {
	/* New with each start: outcomes are kept in memory. */
	char agent_id[UUID_SIZE];
	const struct host_ops *ops;
	void *arg;
	struct events *events;
	struct host_commands *commands;
	struct keys *keys;
	const struct va_family *families; /* all that this server has */
	size_t nfamilies;
	char hostname[256];
	double started; /* wall clock */
	/* May this caller run that row, by its policy? */
	bool (*allowed)(const struct va_call *call, const struct va_method *m);
	/* May the caller connect there (connect.h)?  0, or -EPERM with its fault. */
	int (*check_connect)(struct va_call *call, const char *asked,
			     const char *real);
};

static inline struct host_context *host_context(const struct va_call *call)
{
	return call->context;
}

/* The families, one per file. */
extern const struct va_family host_basic_family;
extern const struct va_family host_guests_family;
extern const struct va_family host_events_family;
extern const struct va_family host_commands_family;
extern const struct va_family host_keys_family;
extern const struct va_family host_net_family;
extern const struct va_family host_original_family;

/* Shared with the original's names. */
int host_ping(struct va_call *call, struct va_value **ret);
int host_hello(struct va_call *call, struct va_value **ret);
struct connect_to;
/* Connects to a target that the caller's policy allows; as connect_target(). */
int host_connect(struct va_call *call, const char *target, struct connect_to *to,
		 int *ret_fd);
/* An array of the names of all methods. */
struct va_value *host_method_names(const struct host_context *h);

#endif
