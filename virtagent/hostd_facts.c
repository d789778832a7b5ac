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

/* A member of the virtproxy's status; the default where there is none. */
static struct va_value *status_number(const struct guest *g, const char *name)
{
	int64_t n = 0;

	va_get_int(va_member(g->link.status, name), &n);
	return va_int(n);
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
		err = va_set(v, "configured", configured(g));
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
