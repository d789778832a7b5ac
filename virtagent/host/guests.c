/*
 * guests.c - host.guests and host.guest
 *
 * A guest that calls learns itself and nothing else: who calls is decided by the
 * socket the call came by, and another guest's name gets the same answer as a
 * name that no guest has.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "virtagent/host/host.h"

static int host_guests(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	int err = h->ops->guests(h->arg, call->caller->guest, false, ret);

	if (err == -ETIMEDOUT)
		return va_fail(call, ETIMEDOUT, "host.guests: the daemon is busy");
	return err;
}

static int host_guest(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	CLEANUP_VALUE struct va_value *list = NULL;
	const char *own = call->caller->guest;
	const char *name;
	int err;

	err = va_arg_string(call, 0, own, &name);
	if (err < 0)
		return err;
	if (!name)
		return va_fail(call, EINVAL, "host.guest: which guest?");
	if (own && strcmp(own, name) != 0)
		err = -ENOENT;
	else
		err = h->ops->guests(h->arg, name, true, &list);
	if (err == -ENOENT)
		return va_fail(call, ENOENT, "host.guest: no guest \"%s\"",
			       name);
	if (err == -ETIMEDOUT)
		return va_fail(call, ETIMEDOUT, "host.guest: the daemon is busy");
	if (err < 0)
		return err;
	*ret = va_value_copy(va_item(list, 0));
	return *ret ? 0 : -ENOMEM;
}

static int host_monitors(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	int err = h->ops->monitors(h->arg, ret);

	if (err == -ETIMEDOUT)
		return va_fail(call, ETIMEDOUT, "host.monitors: the daemon is busy");
	return err;
}

static const struct va_method methods[] = {
	{
		.name = "host.guests",
		.signature = "A:",
		.args = "",
		.cls = VA_CLASS_READ,
		.fn = host_guests,
		.help = "all guests of this host and how they are",
		.doc = "Returns an array of structs: name, id (its directory's "
		       "name), uuid (when configured), state (connected, silent "
		       "or absent), channel (configured), kind (virtio, serial "
		       "or \"\" while unknown), since (seconds since 1970 of the "
		       "last change of state), last_heard (the same, 0 = never), "
		       "version (the agent's, \"\" while unknown), calls "
		       "(connections opened over the channel, both ways), "
		       "bytes_in and bytes_out of the channel, streams (open "
		       "now), pid (its virtproxy's, 0 = none), restarts.  Calls "
		       "and bytes count since its virtproxy began.  A guest that "
		       "asks gets itself only.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.guest",
		.signature = "S:|s",
		.args = "[GUEST]",
		.cls = VA_CLASS_READ,
		.fn = host_guest,
		.help = "everything known of one guest, counters included",
		.doc = "Returns the struct of host.guests with more members: "
		       "agent and boot (ids), why (the last change), directory, "
		       "configured (file and line), counts (what va-hostd counted "
		       "since it began: sessions, agents_up, silences, losses, "
		       "ends of its virtproxy, calls and forwards of the guest), "
		       "status (all counters of its virtproxy), qmp (path of the "
		       "monitor that its virtproxy has, or \"\").  A guest may leave "
		       "the name out, and can ask "
		       "for itself only.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.monitors",
		.signature = "A:",
		.args = "",
		.cls = VA_CLASS_ADMIN,
		.fn = host_monitors,
		.help = "the QMP sockets that were found, and whose they are",
		.doc = "Returns an array of structs: path, state (served: its "
		       "machine is a guest; no-channel: it has no port for an "
		       "agent; refused: it cannot be a guest; asking; no-answer), "
		       "why, name, uuid and channel of the machine (\"\" while "
		       "unknown).  The sockets are those of qmp in [discover], "
		       "without those of guests that were configured or attached.",
		.flags = VA_M_IDEMPOTENT,
	},
};

const struct va_family host_guests_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
