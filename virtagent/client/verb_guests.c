/*
 * verb_guests.c - guests, guest, info: what the host knows of its guests
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "virtagent/client/ctl.h"
#include "virtagent/client/member.h"
#include "virtagent/client/members.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"
#include "virtagent/client/table.h"

#define INFO_CTL_NS NSEC_PER_SEC

static const struct option_row common_rows[] = { CLIENT_ROWS };

/* A guest as a struct, also when only its socket told of it. */
static struct va_value *entry_value(const struct guest_entry *g)
{
	struct va_value *v;

	if (g->info)
		return va_value_copy(g->info);
	v = va_struct();
	if (va_set(v, "name", va_string(g->name)) ||
	    va_set(v, "id", va_string(g->id)) ||
	    va_set(v, "connected", va_bool(g->connected))) {
		va_value_free(v);
		return NULL;
	}
	return v;
}

static int guests_json(const struct client *cl, const struct guest_list *l)
{
	CLEANUP_VALUE struct va_value *all = va_array();

	for (size_t i = 0; i < l->count; i++)
		if (va_append(all, entry_value(&l->guest[i])))
			return VAC_ERROR;
	return out_json(cl, all) ? VAC_ERROR : VAC_OK;
}

static int guests_table(const struct guest_list *l)
{
	CLEANUP_TABLE struct table *t =
		table_new("NAME,STATE,KIND,AGENT,CHANNEL");
	static const char *const members[] = { "kind", "version", "channel" };

	for (size_t i = 0; t && i < l->count; i++) {
		const struct guest_entry *g = &l->guest[i];
		const char *state = member_text(g->info, "state");

		table_cell(t, g->name);
		table_cell(t, *state ? state : g->connected ? "connected" :
							       "not connected");
		for (size_t m = 0; m < NROWS(members); m++) {
			const char *text = member_text(g->info, members[m]);

			table_cell(t, *text ? text : "-");
		}
	}
	return !t || table_print(t, stdout, true) ? VAC_ERROR : VAC_OK;
}

static int run_guests(struct client *cl, int argc, char **argv)
{
	struct guest_list l;
	int code, error = guest_list_get(cl, &l);

	if (error && !target_on_host(cl)) {
		out_error(NULL, "guests", "neither va-hostd nor a virtproxy runs in %s; where "
			  "this machine is a guest, its host lists the guests", target_runtime());
		return VAC_NOT_CONNECTED;
	}
	if (error) {
		out_error(NULL, "guests", "nothing runs in %s: %s",
			  target_runtime(), strerror(-error));
		return VAC_NOT_CONNECTED;
	}
	if (!l.from_hostd)
		out_error(NULL, "guests",
			  "va-hostd does not answer; this is what runs");
	code = cl->json ? guests_json(cl, &l) : guests_table(&l);
	guest_list_done(&l);
	return code;
}

const struct verb verb_guests = {
	.name = "guests",
	.help = "list the guests of this host",
	.about = "Lists the guests, one a line, with their state and channel.  "
		 "While va-hostd is away,\nthe guests whose virtproxy runs are "
		 "listed.",
	.rows = common_rows,
	.nrows = NROWS(common_rows),
	.run = run_guests,
};

static int run_guest(struct client *cl, int argc, char **argv)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_RPC struct rpc *r = NULL;
	int code = rpc_connect(cl, SIDE_HOST, NULL, &r);

	if (!code)
		code = rpc_call(r, "host.guest", RPC_IDEMPOTENT,
				rpc_params(argv[0], NULL), &v);
	if (code)
		return code;
	if (cl->json)
		return out_json(cl, v) ? VAC_ERROR : VAC_OK;
	members_print(cl, v, 0);
	return VAC_OK;
}

const struct verb verb_guest = {
	.name = "guest",
	.usage = "NAME",
	.help = "show what va-hostd knows of a guest",
	.rows = common_rows,
	.nrows = NROWS(common_rows),
	.min_args = 1,
	.max_args = 1,
	.run = run_guest,
};

/* Drops what is long and has a verb of its own. */
static struct va_value *about_agent(const struct va_value *cap)
{
	struct va_value *v = va_struct();

	for (size_t i = 0; i < va_count(cap); i++) {
		const char *name = "";
		const struct va_value *m = va_member_at(cap, i, &name);

		if (strcmp(name, "methods") != 0 &&
		    va_set(v, name, va_value_copy(m)))
			break;
	}
	return v;
}

/* The guest's own words, when it is there. */
static void add_from_guest(struct rpc *r, struct va_value *all)
{
	struct va_value *os = NULL;
	const struct va_value *cap = rpc_capabilities(r);

	if (!cap)
		return;
	va_set(all, "agent", about_agent(cap));
	if (!rpc_try(r, "guest.osinfo", RPC_IDEMPOTENT, va_array(), &os))
		va_set(all, "os", os);
}

static int run_info(struct client *cl, int argc, char **argv)
{
	CLEANUP_VALUE struct va_value *all = va_struct();
	CLEANUP_RPC struct rpc *r = NULL;
	struct ctl_session s = { 0 };
	const struct target *t;
	int code = rpc_connect(cl, SIDE_GUEST, argc ? argv[0] : NULL, &r);

	if (code)
		return code;
	rpc_set_deadline(r, client_deadline(cl, CLIENT_CALL_NS));
	t = rpc_target(r);
	va_set(all, "name", va_string(t->name));
	va_set(all, "socket", va_string(t->rpc));
	if (*t->ctl && !ctl_session(t->ctl, clock_now() + INFO_CTL_NS, &s))
		va_set(all, "proxy", s.status);
	code = rpc_check(r);
	va_set(all, "connected", va_bool(code == VAC_OK));
	if (code)
		va_set(all, "why", va_string(rpc_error(r)));
	else
		add_from_guest(r, all);
	if (cl->json)
		return out_json(cl, all) ? VAC_ERROR : VAC_OK;
	members_print(cl, all, 0);
	return VAC_OK;
}

const struct verb verb_info = {
	.name = "info",
	.usage = "[GUEST]",
	.help = "show a guest's channel, counters, agent and system",
	.about = "Shows what the guest's virtproxy counts and, when the guest is "
		 "connected, what its\nagent says of itself and of its system.  "
		 "A guest that is not connected is shown too,\nwith the reason.",
	.rows = common_rows,
	.nrows = NROWS(common_rows),
	.max_args = 1,
	.run = run_info,
};
