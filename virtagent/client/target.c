/*
 * target.c - see target.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/daemon.h"
#include "common/str.h"
#include "virtagent/client/ctl.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"

/* virtproxy answers from its loop; a second means that it is stopped. */
#define CTL_WAIT_NS (NSEC_PER_SEC * 8 / 10)
#define NAMES_MAX 512 /* bytes of guests' names in an error */

#define SYSTEM_RUNTIME "/run/virtagent"

static bool exists(const char *dir, const char *name)
{
	char path[TARGET_PATH_MAX];
	struct stat st;

	return snprintf(path, sizeof(path), "%s/%s", dir, name) <
		       (int)sizeof(path) &&
	       stat(path, &st) == 0;
}

static bool has_sockets(const char *dir)
{
	return exists(dir, "hostd.sock") || exists(dir, "guests") ||
	       exists(dir, "host.sock") || exists(dir, "agent.sock");
}

const char *target_runtime(void)
{
	const char *dir = dir_runtime();

	/* An ordinary user on a machine whose sockets a group may use. */
	if (!getenv("VA_RUNTIME_DIR") && !has_sockets(dir) &&
	    has_sockets(SYSTEM_RUNTIME))
		return SYSTEM_RUNTIME;
	return dir;
}

bool target_on_host(const struct client *cl)
{
	const char *dir = target_runtime();

	if (cl->up)
		return false;
	return exists(dir, "hostd.sock") ||
	       (exists(dir, "guests") && !exists(dir, "host.sock") &&
		!exists(dir, "agent.sock"));
}

/* Of the originals' names only hello is the host's alone. */
enum target_side target_side_of(const char *method)
{
	static const char *const hello[] = { "hello", "va.hello", "va_hello" };

	for (size_t i = 0; i < NROWS(hello); i++)
		if (strcmp(method, hello[i]) == 0)
			return SIDE_HOST;
	return str_starts(method, "host.") ? SIDE_HOST : SIDE_GUEST;
}

/* dir/name into ret; -ENAMETOOLONG. */
static int join(char ret[TARGET_PATH_MAX], const char *dir, const char *name)
{
	int n = snprintf(ret, TARGET_PATH_MAX, "%s/%s", dir, name);

	return n < TARGET_PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int too_long(const char *what)
{
	out_error(what, NULL, "the socket's path is too long");
	return VAC_ERROR;
}

/* A socket given by its path; its directory may hold the other sockets. */
static int resolve_path(const char *path, struct target *t)
{
	const char *slash = strrchr(path, '/');
	char dir[TARGET_PATH_MAX];

	if (strlen(path) >= sizeof(t->rpc))
		return too_long(path);
	snprintf(t->name, sizeof(t->name), "%s", path);
	snprintf(t->rpc, sizeof(t->rpc), "%s", path);
	if (!slash || strcmp(slash, "/rpc.sock") != 0)
		return VAC_OK;
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	if (exists(dir, "ctl.sock") && join(t->ctl, dir, "ctl.sock"))
		return too_long(path);
	if (exists(dir, "events.sock") && join(t->events, dir, "events.sock"))
		return too_long(path);
	return VAC_OK;
}

static int resolve_id(const char *name, const char *id, struct target *t)
{
	CLEANUP_FREE char *dir = str_printf("%s/guests/%s", target_runtime(),
					    id);

	snprintf(t->name, sizeof(t->name), "%s", name);
	if (!dir || join(t->rpc, dir, "rpc.sock") ||
	    join(t->ctl, dir, "ctl.sock") ||
	    join(t->events, dir, "events.sock"))
		return too_long(name);
	return VAC_OK;
}

/* The names of guests as "a, b, c"; only the connected ones on demand. */
static void list_names(const struct guest_list *l, bool connected,
		       char ret[NAMES_MAX])
{
	size_t used = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < l->count; i++) {
		int n;

		if (connected && !l->guest[i].connected)
			continue;
		n = snprintf(ret + used, NAMES_MAX - used, "%s%s",
			     used ? ", " : "", l->guest[i].name);
		if (n < 0 || used + (size_t)n >= NAMES_MAX) {
			snprintf(ret + NAMES_MAX - 4, 4, "...");
			return;
		}
		used += (size_t)n;
	}
}

static int resolve_name(const struct client *cl, const char *name,
			struct target *t)
{
	char id[STR_ID_MAX], known[NAMES_MAX];
	CLEANUP_FREE char *dir = NULL;
	struct guest_list l;
	int error;

	str_path_id(name, id);
	dir = str_printf("guests/%s", id);
	if (!dir)
		return VAC_ERROR;
	if (exists(target_runtime(), dir))
		return resolve_id(name, id, t);
	/* Not a name: a UUID, perhaps. */
	error = guest_list_get(cl, &l);
	if (error) {
		out_error(name, NULL, "no such guest: nothing runs in %s",
			  target_runtime());
		return VAC_ERROR;
	}
	for (size_t i = 0; i < l.count; i++) {
		const struct guest_entry *g = &l.guest[i];

		if (strcmp(g->name, name) == 0 ||
		    strcmp(member_text(g->info, "uuid"), name) == 0) {
			int code = resolve_id(g->name, g->id, t);

			guest_list_done(&l);
			return code;
		}
	}
	list_names(&l, false, known);
	guest_list_done(&l);
	out_error(name, NULL, *known ? "no such guest; known are: %s" :
				       "no such guest; none is known%s", known);
	return VAC_ERROR;
}

/* Without a name: the one that is connected, or the only one there is. */
static int resolve_only(const struct client *cl, struct target *t)
{
	struct guest_list l;
	const struct guest_entry *only = NULL;
	size_t connected = 0;
	char names[NAMES_MAX];
	int code, error = guest_list_get(cl, &l);

	if (error) {
		out_error(NULL, NULL, "no guests: nothing runs in %s (%s)",
			  target_runtime(), strerror(-error));
		return VAC_NOT_CONNECTED;
	}
	for (size_t i = 0; i < l.count; i++) {
		if (l.guest[i].connected && connected++ == 0)
			only = &l.guest[i];
	}
	if (!connected && l.count == 1)
		only = &l.guest[0];
	list_names(&l, connected > 0, names);
	if (connected > 1) {
		out_error(NULL, NULL,
			  "several guests are connected; choose one with -G: %s",
			  names);
		code = VAC_USAGE;
	} else if (!only) {
		out_error(NULL, NULL, *names ? "no guest is connected, of: %s" :
					       "no guests are known%s", names);
		code = VAC_NOT_CONNECTED;
	} else {
		code = resolve_id(only->name, only->id, t);
	}
	guest_list_done(&l);
	return code;
}

static int resolve_local(const struct client *cl, struct target *t,
			 const char *name, const char *sock)
{
	const char *dir = target_runtime();

	snprintf(t->name, sizeof(t->name), "%s", name);
	if (join(t->rpc, dir, sock))
		return too_long(dir);
	if (!exists(dir, sock)) {
		out_error(name, NULL, "not connected: there is no %s/%s", dir,
			  sock);
		return VAC_NOT_CONNECTED;
	}
	out_verbose(cl, "%s is %s", name, t->rpc);
	return VAC_OK;
}

int target_resolve(const struct client *cl, enum target_side side,
		   const char *guest, struct target *ret)
{
	bool host = target_on_host(cl);
	int code;

	if (!guest)
		guest = cl->guest;
	*ret = (struct target){ .side = side };
	if (guest && str_starts(guest, "unix:"))
		return resolve_path(guest + 5, ret);
	if (side == SIDE_HOST)
		return resolve_local(cl, ret, "host",
				     host ? "hostd.sock" : "host.sock");
	if (!host && !(guest && exists(target_runtime(), "guests"))) {
		if (guest && !cl->up) {
			out_error(guest, NULL,
				  "no such guest: no va-hostd runs here");
			return VAC_ERROR;
		}
		return resolve_local(cl, ret, "agent", "agent.sock");
	}
	code = guest ? resolve_name(cl, guest, ret) : resolve_only(cl, ret);
	if (!code)
		out_verbose(cl, "guest %s is %s", ret->name, ret->rpc);
	return code;
}

int target_check(const struct target *t, char *why, size_t size,
		 uint64_t *refused)
{
	struct ctl_session s = { 0 };
	int error;

	if (!*t->ctl)
		return VAC_OK;
	error = ctl_session(t->ctl, clock_now() + CTL_WAIT_NS, &s);
	/* Busy with as many questions as it takes: the call itself will tell. */
	if (error == -ECONNRESET || error == -EPIPE || error == -EAGAIN)
		return VAC_OK;
	if (error) {
		snprintf(why, size, "not connected: its virtproxy %s",
			 error == -ENOENT || error == -ECONNREFUSED ?
				 "is not running" :
			 error == -ETIMEDOUT ? "does not answer" :
					       strerror(-error));
		return error == -EACCES ? VAC_ERROR : VAC_NOT_CONNECTED;
	}
	va_value_free(s.status);
	if (refused)
		*refused = s.refused;
	if (s.up)
		return VAC_OK;
	snprintf(why, size, "not connected: %s", s.why);
	return VAC_NOT_CONNECTED;
}
