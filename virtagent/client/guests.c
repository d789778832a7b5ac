/*
 * guests.c - which guests does this host have? (target.h)
 *
 * va-hostd knows names, UUIDs and states.  It may be away (it can be killed and
 * restarted at any time) while the virtproxies live on: then the directories
 * below guests/ are read and each control socket is asked.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/ctl.h"
#include "virtagent/client/member.h"
#include "virtagent/client/rpc.h"
#include "virtagent/client/target.h"

#define GUESTS_WAIT_NS (2 * NSEC_PER_SEC)
#define GUESTS_MAX 4096
#define SILENT_MS 5000 /* as va-hostd has it */

void guest_list_done(struct guest_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		va_value_free(l->guest[i].info);
	free(l->guest);
	*l = (struct guest_list){ 0 };
}

static struct guest_entry *add(struct guest_list *l)
{
	struct guest_entry *more;

	if (l->count >= GUESTS_MAX)
		return NULL;
	more = realloc(l->guest, (l->count + 1) * sizeof(*more));
	if (!more)
		return NULL;
	l->guest = more;
	more += l->count++;
	*more = (struct guest_entry){ 0 };
	return more;
}

/* "connected" as a bool, or a state that says so. */
static bool says_connected(const struct va_value *info)
{
	return member_bool(info, "connected", false) ||
	       strcmp(member_text(info, "state"), "connected") == 0;
}

struct rpc *rpc_open_hostd(const struct client *cl, uint64_t wait_ns)
{
	struct target t = { .side = SIDE_HOST, .name = "host" };
	struct rpc *r;

	snprintf(t.rpc, sizeof(t.rpc), "%s/hostd.sock", target_runtime());
	r = rpc_open(cl, &t);
	if (r)
		rpc_set_deadline(r, clock_now() + wait_ns);
	return r;
}

static int from_hostd(const struct client *cl, struct guest_list *l)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_RPC struct rpc *rpc = rpc_open_hostd(cl, GUESTS_WAIT_NS);

	if (!rpc)
		return -ENOMEM;
	if (rpc_try(rpc, "host.guests", RPC_IDEMPOTENT, va_array(), &v))
		return -EIO;
	if (va_typeof(v) != VA_ARRAY)
		return -EBADMSG;
	for (size_t i = 0; i < va_count(v); i++) {
		const struct va_value *info = va_item(v, i);
		const char *name = member_text(info, "name"), *id;
		struct guest_entry *g;

		if (va_typeof(info) != VA_STRUCT || !*name)
			continue;
		g = add(l);
		if (!g)
			return -ENOMEM;
		id = member_text(info, "id");
		snprintf(g->name, sizeof(g->name), "%s", name);
		if (*id && !strchr(id, '/') && *id != '.')
			snprintf(g->id, sizeof(g->id), "%s", id);
		else
			str_path_id(name, g->id);
		g->connected = says_connected(info);
		snprintf(g->state, sizeof(g->state), "%s",
			 *member_text(info, "state") ? member_text(info, "state") :
			 g->connected ? "connected" : "absent");
		g->info = va_value_copy(info);
	}
	l->from_hostd = true;
	return 0;
}

/* va-hostd leaves each guest's name in its directory. */
static void read_name(const char *dir, const char *id, char *ret, size_t size)
{
	CLEANUP_FREE char *path = str_printf("%s/%s/name", dir, id);
	CLEANUP_FCLOSE FILE *f = path ? fopen(path, "re") : NULL;

	if (!f || !fgets(ret, (int)size, f))
		snprintf(ret, size, "%s", id);
	ret[strcspn(ret, "\n")] = '\0';
}

/* As va-hostd would say, from what the control socket does. */
static const char *state_of(int error, const struct ctl_session *s)
{
	if (error)
		return error == -ETIMEDOUT ? "silent" : "absent";
	if (!s->up || strcmp(member_text(s->status, "channel"), "up") != 0)
		return "absent";
	return member_int(s->status, "heard-ms-ago", 0) >= SILENT_MS ? "silent" :
									"connected";
}

static int from_sockets(struct guest_list *l)
{
	CLEANUP_CLOSEDIR DIR *d = NULL;
	CLEANUP_FREE char *dir = str_printf("%s/guests", target_runtime());
	const struct dirent *e;

	d = dir ? opendir(dir) : NULL;
	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		CLEANUP_FREE char *ctl = NULL;
		struct ctl_session s = { 0 };
		struct guest_entry *g;
		int error;

		if (e->d_name[0] == '.' || strlen(e->d_name) >= STR_ID_MAX)
			continue;
		g = add(l);
		ctl = str_printf("%s/%s/ctl.sock", dir, e->d_name);
		if (!g || !ctl)
			return -ENOMEM;
		snprintf(g->id, sizeof(g->id), "%.48s", e->d_name);
		read_name(dir, g->id, g->name, sizeof(g->name));
		error = ctl_session(ctl, clock_now() + NSEC_PER_SEC / 4, &s);
		snprintf(g->state, sizeof(g->state), "%s", state_of(error, &s));
		g->connected = !error && s.up;
		va_value_free(s.status);
	}
	return 0;
}

int guest_list_get(const struct client *cl, struct guest_list *ret)
{
	int error;

	*ret = (struct guest_list){ 0 };
	if (from_hostd(cl, ret) == 0)
		return 0;
	guest_list_done(ret);
	error = from_sockets(ret);
	if (error)
		guest_list_done(ret);
	return error;
}
