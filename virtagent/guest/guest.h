/*
 * guest.h - what the guest's method families share
 *
 * A family is a file with a constant array of rows; families.c lists them.  A
 * handler finds the agent's state in call->context.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_H
#define VA_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/uuid.h"
#include "virtagent/agent_spawn.h"
#include "virtagent/method.h"

struct jobs;
struct keyring;

#define GUEST_ID_SIZE UUID_SIZE

/* What callers may have at once; agent.conf sets them (agent_limits.c). */
struct guest_limits {
	uint64_t calls, client_calls; /* beside class info; of one client */
	uint64_t streams, listeners;  /* forwarded connections */
	uint64_t stream_buffer;	      /* bytes of each one's direction */
	uint64_t jobs;		      /* programs that run or are kept */
	uint64_t output;	      /* bytes kept of all jobs' output */
	uint64_t event_queue;	      /* bytes of events that wait for the host */
};

struct guest_context {
	/* Made anew by each server process: the outcomes of calls are kept in
	 * its memory, so a replaced server is another agent (exit 11). */
	char agent_id[GUEST_ID_SIZE];
	/* The kernel's; "" where it has none. */
	char boot_id[GUEST_ID_SIZE];
	struct spawn_client *spawn;
	const struct va_family *families;
	size_t nfamilies;
	/* May a caller run that row, by this guest's policy? */
	bool (*allowed)(struct guest_context *ctx, const struct va_method *m);
	/* May the call reach what lies there?  0, or -EPERM with its fault. */
	int (*check_path)(struct va_call *call, const char *real_path);
	/* May programs run as that user?  0, or -EPERM with its fault. */
	int (*check_user)(struct va_call *call, const char *user);
	/* May the call connect there (connect.h)?  0, or -EPERM with its fault. */
	int (*check_connect)(struct va_call *call, const char *asked,
			     const char *real);
	/* As they are configured now. */
	struct guest_limits (*limits)(struct guest_context *ctx);
	/* Tells the host something, now or when it is back (agent_events.h); data
	 * is taken over. */
	int (*post_event)(struct guest_context *ctx, const char *name,
			  struct va_value *data);
	/* Waits until the host has all of them; as agent_events_flush(). */
	int (*flush_events)(struct guest_context *ctx, uint64_t deadline_ns);
	/* How the agent's process before this one ended; NULL = in order. */
	const struct va_value *last_end;
	/* The mode that was asked for by our method and begun; NULL = none. */
	const char *power_mode;
	const char *power_file; /* where that is kept (power_plan.h), or NULL */
	struct jobs *jobs; /* programs that callers started (jobs.h) */
	const char *commands; /* directories of commands, ":" between them */
	struct keyring *keys; /* keys.h; NULL = there is no place for them */
	void *server; /* the server's own state, for its hooks */
};

static inline struct guest_context *guest_context(const struct va_call *call)
{
	return call->context;
}

/* Fills in the ids; 0 or a negative errno. */
int guest_context_init(struct guest_context *ctx);

/* All families; the count is in *n. */
const struct va_family *guest_families(size_t *n);

/* The families' rows, by file. */
extern const struct va_family guest_agent_family;
extern const struct va_family guest_getfile_family;
extern const struct va_family guest_dmesg_family;
extern const struct va_family guest_shutdown_family;
extern const struct va_family guest_original_family;
extern const struct va_family guest_files_read_family;
extern const struct va_family guest_files_change_family;
extern const struct va_family guest_put_family;
extern const struct va_family guest_event_family;
extern const struct va_family guest_commands_family;
extern const struct va_family guest_exec_family;
extern const struct va_family guest_keys_family;
extern const struct va_family guest_net_family;
extern const struct va_family guest_facts_family;
extern const struct va_family guest_facts_system_family;

/* --- code that several rows share ---------------------------------------- */

/* Adds a member, remembering the first failure in *r. */
void guest_set(struct va_value *s, const char *name, struct va_value *item,
	       int *r);

/* Hands a result over to *ret, leaving *v empty; -ENOMEM when building it failed
 * (r < 0, or no value). */
int guest_give(struct va_value **v, int r, struct va_value **ret);

struct guest_piece {
	void *data; /* malloc'ed */
	size_t len;
	uint64_t size; /* of the file; for /proc and /sys files what is known */
	bool eof;
	int64_t mtime; /* seconds since 1970 */
};

/* At most max bytes of a plain file from offset; on failure the fault is set.
 * See getfile.c for what is refused. */
int guest_read_file(struct va_call *call, const char *path, uint64_t offset,
		    size_t max, struct guest_piece *ret);

/* The last max bytes of the kernel's messages, without level prefixes, as
 * malloc'ed text; *cut: there were more. */
int guest_read_dmesg(struct va_call *call, size_t max, char **ret, size_t *len,
		     bool *cut);

struct kmsg;
/* kmsg_open(), with the failure as the call's. */
int guest_open_dmesg(struct va_call *call, uint64_t since, struct kmsg **ret);

/* A job nobody waited for is over: an event for the host.  For jobs_on_end(). */
struct job_info;
void guest_job_ended(void *context, const struct job_info *info);

/* Starts a halt, powerdown or reboot that begins after the reply has left. */
int guest_power(struct va_call *call, const char *mode, const char **ret_mode);
/* At start, when events and spawner are there: what an agent before was asked for
 * and is still to come. */
void guest_power_resume(struct guest_context *ctx);
/* Has this guest what it takes to halt, powerdown, reboot, suspend? */
bool guest_power_possible(const char *word);

/* {version, methods} of the original, or the whole of guest.capabilities. */
int guest_original_capabilities(struct va_call *call, struct va_value **ret);

#endif
