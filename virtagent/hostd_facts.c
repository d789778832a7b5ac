/*
 * hostd_facts.c - a guest as host.guests and host.guest show it
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>

#include "virtagent/hostd_agent.h"
#include "virtagent/hostd_guest.h"
#include "virtagent/hostd_proxy.h"
#include "virtagent/hostd_server.h"

/* A member of the virtproxy's status; 0 where there is none. */
static int64_t status_count(const struct guest *g, const char *name)
{
	int64_t n = 0;

	va_get_int(va_member(g->link.status, name), &n);
	return n;
}

static struct va_value *status_number(const struct guest *g, const char *name)
{
	return va_int(status_count(g, name));
}

static struct va_value *status_text(const struct guest *g, const char *name)
{
	const char *text = "";

	va_get_string(va_member(g->link.status, name), &text);
	return va_string(text);
}

static int add_basics(const struct guest *g, struct va_value *v)
{
	int err;

	err = va_set(v, "name", va_string(g->spec.name));
	if (err == 0)
		err = va_set(v, "id", va_string(g->spec.id));
	if (err == 0 && g->spec.uuid)
		err = va_set(v, "uuid", va_string(g->spec.uuid));
	if (err == 0)
		err = va_set(v, "state", va_string(guest_state(g)));
	if (err == 0)
		err = va_set(v, "channel", va_string(g->spec.channel));
	if (err == 0)
		err = va_set(v, "kind", status_text(g, "channel-kind"));
	if (err == 0)
		err = va_set(v, "since", va_double(g->since));
	if (err == 0)
		err = va_set(v, "last_heard", va_double(g->link.heard_wall));
	if (err == 0)
		err = va_set(v, "version", va_string(agent_version(g->agent)));
	return err;
}

static int add_traffic(const struct guest *g, struct va_value *v)
{
	pid_t pid = proxy_pid(g->proxy);
	int err;

	/* The virtproxy counts: it outlives this daemon. */
	err = va_set(v, "calls", va_int(status_count(g, "streams-opened") +
					status_count(g, "streams-accepted")));
	if (err == 0)
		err = va_set(v, "bytes_in", status_number(g, "bytes-in"));
	if (err == 0)
		err = va_set(v, "bytes_out", status_number(g, "bytes-out"));
	if (err == 0)
		err = va_set(v, "streams", status_number(g, "streams"));
	if (err == 0)
		err = va_set(v, "pid", va_int(pid > 0 ? pid : 0));
	if (err == 0)
		err = va_set(v, "restarts",
			     va_int(proxy_restarts(g->proxy)));
	return err;
}

/* What this va-hostd counted. */
static struct va_value *counted(const struct guest *g)
{
	struct place_counts calls, streams;
	struct va_value *v = va_struct();
	int err = 0;

	calls = hostd_server_counts(g->h->server, g->spec.name, PLACE_CALL);
	streams = hostd_server_counts(g->h->server, g->spec.name, PLACE_STREAM);
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "sessions", g->counts.sessions },
		{ "agents_up", g->counts.agents_up },
		{ "silences", g->counts.silences },
		{ "losses", g->counts.losses },
		{ "proxy_crashed", g->counts.ends[PROXY_CRASHED] },
		{ "proxy_hung", g->counts.ends[PROXY_HUNG] },
		{ "proxy_spun", g->counts.ends[PROXY_SPUN] },
		{ "calls_of_guest", calls.taken },
		{ "calls_of_guest_now", calls.now },
		{ "calls_of_guest_refused", calls.refused },
		{ "forwards_of_guest", streams.taken },
		{ "forwards_of_guest_now", streams.now },
		{ "forwards_of_guest_refused", streams.refused },
	};
	for (size_t i = 0; err == 0 && i < sizeof(rows) / sizeof(rows[0]); i++)
		err = va_set(v, rows[i].name, va_int((int64_t)rows[i].value));
	if (err == 0)
		return v;
	va_value_free(v);
	return NULL;
}

static struct va_value *configured(const struct guest *g)
{
	struct va_value *v = va_struct();

	if (va_set(v, "file", va_string(g->spec.file)) == 0 &&
	    va_set(v, "line", va_int(g->spec.line)) == 0)
		return v;
	va_value_free(v);
	return NULL;
}

static int add_details(const struct guest *g, struct va_value *v)
{
	int err;

	err = va_set(v, "agent", va_string(agent_id(g->agent)));
	if (err == 0)
		err = va_set(v, "boot", va_string(agent_boot_id(g->agent)));
	if (err == 0)
		err = va_set(v, "vm_uuid", va_string(guest_vm(g)));
	if (err == 0)
		err = va_set(v, "why", va_string(g->link.why));
	if (err == 0)
		err = va_set(v, "directory", va_string(g->dir));
	if (err == 0)
		err = va_set(v, "qmp", va_string(g->spec.qmp ? g->spec.qmp : ""));
	if (err == 0)
		err = va_set(v, "configured", configured(g));
	if (err == 0)
		err = va_set(v, "counts", counted(g));
	if (err == 0)
		err = va_set(v, "status", g->link.status ?
						  va_value_copy(g->link.status) :
						  va_struct());
	return err;
}

struct va_value *guest_facts(const struct guest *g, bool details)
{
	struct va_value *v = va_struct();
	int err;

	if (!v)
		return NULL;
	err = add_basics(g, v);
	if (err == 0)
		err = add_traffic(g, v);
	if (err == 0 && details)
		err = add_details(g, v);
	if (err == 0)
		return v;
	va_value_free(v);
	return NULL;
}
