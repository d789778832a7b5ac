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
#include "virtagent/client/guests_view.h"
#include "virtagent/client/member.h"
#include "virtagent/client/members.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"

#define INFO_CTL_NS NSEC_PER_SEC
#define INFO_HOSTD_NS (2 * NSEC_PER_SEC)

static const struct option_row common_rows[] = { CLIENT_ROWS };

struct guests_opts {
	bool watch;
};

DEFINE_FLAG(set_watch, guests_opts, watch);

static const struct option_row guests_rows[] = {
	{ 'w', "watch", NULL, "go on, and show each change", set_watch },
	CLIENT_ROWS,
};

static int run_guests(struct client *cl, int argc, char **argv)
{
	const struct guests_opts *o = cl->opts;
	struct guest_list l;
	int code;

	if (o->watch)
		return guests_watch(cl);
	code = guests_get(cl, &l);
	if (code)
		return code;
	code = cl->json ? guests_json(cl, &l) : guests_table(&l, stdout, NULL);
	guest_list_done(&l);
	return code ? VAC_ERROR : VAC_OK;
}

const struct verb verb_guests = {
	.name = "guests",
	.help = "list the guests of this host",
	.about = "Lists the guests, one a line: name, state (connected, silent or "
		 "absent, see\nva-hostd(8)), version of the agent, kind of channel, "
		 "since when the state is so,\nhow long ago the guest was heard, "
		 "calls (connections opened over its channel, both\nways) and bytes "
		 "of the channel; those two count since its virtproxy began.  While\n"
		 "va-hostd is away, the guests whose virtproxy runs are listed.\n\n"
		 "With --watch the table on a terminal is kept up to date.  Elsewhere "
		 "there is a line\nfor each guest and one more for each change of "
		 "state, agent or kind: time, name,\nstate (\"gone\" when it left the "
		 "configuration), version, kind, calls, bytes; with\n--json an object "
		 "with its time.  Ctrl-C ends it; with -t, so does that time, with\n"
		 "status 0.",
	.rows = guests_rows,
	.nrows = NROWS(guests_rows),
	.opts_size = sizeof(struct guests_opts),
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

/* The struct without one of its members, which has a place of its own. */
static struct va_value *all_but(const struct va_value *of, const char *member)
{
	struct va_value *v = va_struct();

	for (size_t i = 0; i < va_count(of); i++) {
		const char *name = "";
		const struct va_value *m = va_member_at(of, i, &name);

		if (strcmp(name, member) != 0 &&
		    va_set(v, name, va_value_copy(m)))
			break;
	}
	return v;
}

/* What va-hostd knows and counts, while it runs. */
static void add_from_hostd(const struct client *cl, const char *guest,
			   struct va_value *all)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_RPC struct rpc *r = rpc_open_hostd(cl, INFO_HOSTD_NS);

	if (r && !rpc_try(r, "host.guest", RPC_IDEMPOTENT, rpc_params(guest, NULL), &v))
		va_set(all, "hostd", all_but(v, "status"));
}

/* The guest's own words, when it is there. */
static void add_from_guest(struct rpc *r, struct va_value *all)
{
	struct va_value *os = NULL;
	const struct va_value *cap = rpc_capabilities(r);

	if (!cap)
		return;
	va_set(all, "agent", all_but(cap, "methods"));
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
	if (*t->ctl)
		add_from_hostd(cl, t->name, all);
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
	.about = "Shows what va-hostd knows and counts of the guest, all that its "
		 "virtproxy counts and,\nwhen the guest is connected, what its agent "
		 "says of itself and of its system.  A\nguest that is not connected "
		 "is shown too, with the reason.",
	.rows = common_rows,
	.nrows = NROWS(common_rows),
	.max_args = 1,
	.run = run_info,
};
