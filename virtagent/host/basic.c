/*
 * basic.c - host.ping, host.hello, host.capabilities, host.time
 *
 * What a guest may always ask its host, and what tells it nothing about the
 * host's other guests.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "virtagent/host/host.h"
#include "virtagent/limits.h"

int host_ping(struct va_call *call, struct va_value **ret)
{
	*ret = va_string("pong");
	return *ret ? 0 : -ENOMEM;
}

int host_hello(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	struct va_value *v = va_struct();
	int err;

	err = va_set(v, "version", va_string(PACKAGE_VERSION));
	if (err == 0)
		err = va_set(v, "side", va_string("host"));
	if (err == 0)
		err = va_set(v, "host", va_string(h->hostname));
	if (err == 0 && call->caller->guest)
		err = va_set(v, "guest", va_string(call->caller->guest));
	if (err < 0) {
		va_value_free(v);
		return err;
	}
	*ret = v;
	return 0;
}

struct va_value *host_method_names(const struct host_context *h)
{
	struct va_value *names = va_array();

	for (size_t f = 0; names && f < h->nfamilies; f++) {
		for (size_t i = 0; i < h->families[f].count; i++) {
			const char *name = h->families[f].methods[i].name;

			if (va_append(names, va_string(name)) < 0) {
				va_value_free(names);
				return NULL;
			}
		}
	}
	return names;
}

/* All rows, each with whether this caller may run it. */
static struct va_value *method_rows(const struct va_call *call)
{
	const struct host_context *h = host_context(call);
	struct va_value *rows = va_array();

	for (size_t f = 0; rows && f < h->nfamilies; f++) {
		for (size_t i = 0; i < h->families[f].count; i++) {
			const struct va_method *m = &h->families[f].methods[i];

			if (va_append(rows, va_method_value(m, h->allowed(call, m))) < 0) {
				va_value_free(rows);
				return NULL;
			}
		}
	}
	return rows;
}

static struct va_value *limits(const struct host_context *h)
{
	unsigned per_sec = events_per_sec(h->events);
	struct va_value *v = va_struct();
	int err;

	err = va_set(v, "event_data", va_int(EVENT_DATA_MAX));
	if (err == 0)
		err = va_set(v, "events_per_second", va_int(per_sec));
	if (err == 0)
		err = va_set(v, "events_burst", va_int(per_sec * VA_GUEST_EVENTS_BURST));
	if (err == 0)
		err = va_set(v, "events_read", va_int(EVENTS_READ_MAX));
	if (err == 0)
		return v;
	va_value_free(v);
	return NULL;
}

static int host_capabilities(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	struct va_value *v = va_struct();
	int err;

	err = va_set(v, "version", va_string(PACKAGE_VERSION));
	if (err == 0)
		err = va_set(v, "side", va_string("host"));
	if (err == 0)
		err = va_set(v, "agent_id", va_string(h->agent_id));
	if (err == 0)
		err = va_set(v, "methods", method_rows(call));
	if (err == 0)
		err = va_set(v, "limits", limits(h));
	if (err == 0 && !call->caller->guest)
		err = va_set(v, "started", va_double(h->started));
	if (err < 0) {
		va_value_free(v);
		return err;
	}
	*ret = v;
	return 0;
}

static int host_time(struct va_call *call, struct va_value **ret)
{
	struct va_value *v = va_struct();
	struct timespec now;
	int err;

	clock_gettime(CLOCK_REALTIME, &now);
	err = va_set(v, "seconds", va_int(now.tv_sec));
	if (err == 0)
		err = va_set(v, "nanoseconds", va_int(now.tv_nsec));
	if (err < 0) {
		va_value_free(v);
		return err;
	}
	*ret = v;
	return 0;
}

static const struct va_method methods[] = {
	{
		.name = "host.ping",
		.signature = "s:",
		.args = "",
		.cls = VA_CLASS_INFO,
		.fn = host_ping,
		.help = "is the host's server there?",
		.doc = "Returns the string \"pong\".",
		.flags = VA_M_IDEMPOTENT | VA_M_QUIET,
	},
	{
		.name = "host.hello",
		.signature = "S:",
		.args = "",
		.cls = VA_CLASS_INFO,
		.fn = host_hello,
		.help = "who is there: version, host's name, this guest's name",
		.doc = "Returns a struct: version, side (\"host\"), host (its "
		       "name), and for a caller in a guest guest (the name the "
		       "host knows it by).",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.capabilities",
		.signature = "S:",
		.args = "",
		.cls = VA_CLASS_INFO,
		.fn = host_capabilities,
		.help = "version, methods and limits of the host's server",
		.doc = "Returns a struct: version, side, agent_id (a UUID, new "
		       "with each start of va-hostd; the first part of a "
		       "Virtagent-Call), methods (an array of structs as "
		       "system.methodInfo returns, with allowed: whether the "
		       "host's policy lets you call it), limits (a struct of "
		       "numbers).",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.time",
		.signature = "S:",
		.args = "",
		.cls = VA_CLASS_INFO,
		.fn = host_time,
		.help = "the host's time of day",
		.doc = "Returns a struct: seconds since 1970 and nanoseconds.",
		.flags = VA_M_IDEMPOTENT,
	},
};

const struct va_family host_basic_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
