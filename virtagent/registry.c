/*
 * registry.c - the table of methods, and the one way into each of them
 *
 * The table is our own: that of xmlrpc-c always holds system.shutdown, and its
 * system.multicall calls behind any check made around it.  Here each row is
 * reached through codec_enter() only, those of system.* included: arguments, the
 * limit of calls at once, the guard, and the audit at the end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "virtagent/codec.h"
#include "virtagent/fault.h"

struct codec_registry {
	const struct va_method **rows; /* by name */
	size_t count;
	int (*guard)(struct va_call *call);
	void (*after)(struct va_call *call, int error, uint64_t ns);
	bool (*allowed)(const struct va_call *call, const struct va_method *m);
	atomic_uint calls_max, client_calls_max;
	const char *conf;  /* the file that sets those, for messages; or NULL */
	atomic_uint calls; /* running now, beside class info and VA_M_UNCOUNTED */
	pthread_mutex_t lock;
	struct client_calls {
		pid_t pid;
		bool remote;
		unsigned count;
	} clients[VA_HTTP_CONNECTIONS_MAX]; /* those with calls running, side by side */
	size_t nclients;
};

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct va_method *const *)a)->name,
		      (*(const struct va_method *const *)b)->name);
}

static bool row_valid(const struct va_method *m)
{
	return m->name && strlen(m->name) <= VA_METHOD_NAME_MAX && m->fn &&
	       m->help && m->signature && va_signature_valid(m->signature);
}

struct codec_registry *
codec_registry_new(const struct va_family *families, size_t nfamilies,
		   int (*guard)(struct va_call *call),
		   void (*after)(struct va_call *call, int error, uint64_t ns))
{
	struct codec_registry *r = calloc(1, sizeof(*r));
	size_t total = va_system_family.count;
	int error = 0;

	for (size_t f = 0; f < nfamilies; f++)
		total += families[f].count;
	if (r)
		r->rows = calloc(total, sizeof(*r->rows));
	if (!r || !r->rows) {
		free(r);
		errno = ENOMEM;
		return NULL;
	}
	r->guard = guard;
	r->after = after;
	r->calls_max = VA_CALLS_MAX;
	r->client_calls_max = VA_CLIENT_CALLS_MAX;
	pthread_mutex_init(&r->lock, NULL);
	for (size_t f = 0; f <= nfamilies; f++) {
		const struct va_family *family =
			f < nfamilies ? &families[f] : &va_system_family;

		for (size_t i = 0; i < family->count; i++) {
			r->rows[r->count++] = &family->methods[i];
			if (!row_valid(&family->methods[i]))
				error = EINVAL;
		}
	}
	if (!error)
		qsort(r->rows, r->count, sizeof(*r->rows), by_name);
	for (size_t i = 1; i < r->count && !error; i++) {
		if (by_name(&r->rows[i - 1], &r->rows[i]) == 0)
			error = EEXIST;
	}
	if (error) {
		codec_registry_free(r);
		errno = error;
		return NULL;
	}
	return r;
}

void codec_registry_free(struct codec_registry *r)
{
	if (!r)
		return;
	pthread_mutex_destroy(&r->lock);
	free(r->rows);
	free(r);
}

void codec_set_limits(struct codec_registry *r, unsigned calls, unsigned client_calls,
		      const char *conf)
{
	r->calls_max = calls;
	r->client_calls_max = client_calls;
	r->conf = conf;
}

void codec_set_allowed(struct codec_registry *r,
		       bool (*fn)(const struct va_call *call,
				  const struct va_method *m))
{
	r->allowed = fn;
}

bool codec_allowed(const struct va_call *call, const struct va_method *m)
{
	const struct codec_registry *r = call->registry;

	return !r->allowed || r->allowed(call, m);
}

size_t codec_count(const struct codec_registry *r)
{
	return r->count;
}

const struct va_method *codec_at(const struct codec_registry *r, size_t i)
{
	return i < r->count ? r->rows[i] : NULL;
}

const struct va_method *codec_find(const struct codec_registry *r,
				   const char *name)
{
	size_t low = 0, high = r->count;

	while (low < high) {
		size_t mid = (low + high) / 2;
		int c = strcmp(name, r->rows[mid]->name);

		if (c == 0)
			return r->rows[mid];
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

/* A host counts its guests' calls itself. */
static bool counts_here(const struct va_caller *caller)
{
	return !caller || !caller->guest;
}

/* The caller's place, or NULL; the lock is held. */
static struct client_calls *find_client(struct codec_registry *r,
					const struct va_caller *caller)
{
	pid_t pid = caller ? caller->cred.pid : -1;
	bool remote = caller && caller->remote;

	for (size_t i = 0; i < r->nclients; i++) {
		if (r->clients[i].pid == pid && r->clients[i].remote == remote)
			return &r->clients[i];
	}
	return NULL;
}

static bool client_begins(struct codec_registry *r, const struct va_caller *caller)
{
	struct client_calls *c;
	bool ok;

	if (!counts_here(caller))
		return true;
	pthread_mutex_lock(&r->lock);
	c = find_client(r, caller);
	/* (There are no more places than connections; one beyond goes uncounted.) */
	if (!c && r->nclients < VA_HTTP_CONNECTIONS_MAX) {
		c = &r->clients[r->nclients++];
		*c = (struct client_calls){ .pid = caller ? caller->cred.pid : -1,
					    .remote = caller && caller->remote };
	}
	ok = !c || c->count < r->client_calls_max;
	if (c && ok)
		c->count++;
	pthread_mutex_unlock(&r->lock);
	return ok;
}

static void client_ends(struct codec_registry *r, const struct va_caller *caller)
{
	struct client_calls *c;

	if (!counts_here(caller))
		return;
	pthread_mutex_lock(&r->lock);
	c = find_client(r, caller);
	if (c && --c->count == 0)
		*c = r->clients[--r->nclients];
	pthread_mutex_unlock(&r->lock);
}

/* " (KEY in FILE)", where the limit is configured. */
static const char *conf_of(const struct codec_registry *r, const char *key, char *ret,
			   size_t size)
{
	if (r->conf)
		snprintf(ret, size, " (%s in %s)", key, r->conf);
	return ret;
}

/* The limits of calls at once: 0 or -EBUSY. */
static int count_call(struct codec_registry *r, struct va_call *call,
		      struct codec_entry *entry)
{
	unsigned max = r->calls_max;
	char where[64] = "";

	entry->counted = true;
	if (atomic_fetch_add(&r->calls, 1) >= max)
		return va_fault(call, VA_FAULT_BUSY, EBUSY,
				"%s: %u calls are running, the limit%s", call->method->name,
				max, conf_of(r, "calls", where, sizeof(where)));
	max = r->client_calls_max;
	entry->client = client_begins(r, call->caller);
	if (entry->client)
		return 0;
	return va_fault(call, VA_FAULT_BUSY, EBUSY,
			"%s: this client has %u calls running, the limit of one%s",
			call->method->name, max,
			conf_of(r, "client-calls", where, sizeof(where)));
}

int codec_enter(struct codec_registry *r, const char *method,
		struct va_call *call, struct codec_entry *entry)
{
	char shown[VA_METHOD_NAME_MAX + 1];
	int error;

	*entry = (struct codec_entry){ .start = clock_now() };
	memset(&call->fault, 0, sizeof(call->fault));
	call->registry = r;
	call->method = codec_find(r, method);
	if (!call->method)
		return va_fault(call, VA_FAULT_NO_METHOD, ENOSYS,
				"there is no method \"%s\" here",
				log_escape(shown, sizeof(shown), method,
					   strlen(method)));
	error = va_check_args(call);
	if (error == 0 && call->method->cls != VA_CLASS_INFO &&
	    !(call->method->flags & VA_M_UNCOUNTED))
		error = count_call(r, call, entry);
	if (error == 0 && r->guard)
		error = r->guard(call);
	if (error < 0)
		codec_leave(call, error, entry);
	return error < 0 ? error : 0;
}

void codec_leave(struct va_call *call, int error, const struct codec_entry *entry)
{
	struct codec_registry *r = call->registry;

	if (entry->counted)
		atomic_fetch_sub(&r->calls, 1);
	if (entry->client)
		client_ends(r, call->caller);
	if (error < 0)
		va_fault_complete(&call->fault, -error);
	if (r->after)
		r->after(call, error < 0 ? error : 0, clock_now() - entry->start);
}

int codec_invoke(struct codec_registry *r, const char *method,
		 struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *result = NULL;
	struct codec_entry entry;
	int error = codec_enter(r, method, call, &entry);

	if (error < 0)
		return error;
	error = call->method->fn(call, &result);
	if (error >= 0 && !result && !(result = va_nil()))
		error = -ENOMEM;
	codec_leave(call, error, &entry);
	if (error < 0)
		return error;
	*ret = take_ptr(result);
	return 0;
}
