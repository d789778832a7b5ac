/*
 * agent.c - guest.ping and guest.capabilities: the agent about itself
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>

#include "common/uuid.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/procfs.h"
#include "virtagent/limits.h"

/* Of the methods and their meaning; grows when a caller must know. */
#define GUEST_PROTOCOL 1

static int ping(struct va_call *call, struct va_value **ret)
{
	*ret = va_string("pong");
	return *ret ? 0 : -ENOMEM;
}

static struct va_value *method_list(struct guest_context *ctx, bool names_only)
{
	struct va_value *list = va_array();
	int r = list ? 0 : -ENOMEM;

	for (size_t f = 0; r == 0 && f < ctx->nfamilies; f++) {
		for (size_t i = 0; r == 0 && i < ctx->families[f].count; i++) {
			const struct va_method *m = &ctx->families[f].methods[i];
			struct va_value *item =
				names_only ? va_string(m->name) :
					     va_method_value(m, ctx->allowed(ctx, m));

			if (va_append(list, item) < 0)
				r = -ENOMEM;
		}
	}
	if (r < 0) {
		va_value_free(list);
		return NULL;
	}
	return list;
}

static struct va_value *limits(struct guest_context *ctx)
{
	struct guest_limits l = ctx->limits(ctx);
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "document_bytes", VA_XML_MAX },
		{ "depth", VA_XML_DEPTH_MAX },
		{ "elements", VA_XML_ELEMENTS_MAX },
		{ "base64_bytes", VA_BYTES_MAX },
		{ "connections", VA_HTTP_CONNECTIONS_MAX },
		{ "calls", l.calls },
		{ "client_calls", l.client_calls },
		{ "streams", l.streams },
		{ "listeners", l.listeners },
		{ "jobs", l.jobs },
		{ "output_bytes", l.output },
		{ "event_queue_bytes", l.event_queue },
		{ "stream_buffer_bytes", l.stream_buffer },
	};
	struct va_value *s = va_struct();
	int r = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		guest_set(s, rows[i].name, va_int((int64_t)rows[i].value), &r);
	if (r < 0) {
		va_value_free(s);
		return NULL;
	}
	return s;
}

/* As the firmware tells it; "" where it does not. */
static struct va_value *vm_uuid(void)
{
	char line[UUID_SIZE];

	if (procfs_line(AT_FDCWD, "/sys/class/dmi/id/product_uuid", line,
			sizeof(line)) < 0)
		line[0] = '\0';
	return va_string(line);
}

static int capabilities(struct va_call *call, struct va_value **ret)
{
	struct guest_context *ctx = guest_context(call);
	CLEANUP_VALUE struct va_value *s = va_struct();
	struct va_value *features = va_struct();
	static const char *const power[] = { "halt", "powerdown", "reboot", "suspend" };
	int r = 0;

	guest_set(features, "spawner", va_bool(spawn_available(ctx->spawn)), &r);
	for (size_t i = 0; i < sizeof(power) / sizeof(power[0]); i++)
		guest_set(features, power[i], va_bool(guest_power_possible(power[i])),
			  &r);
	guest_set(s, "side", va_string("guest"), &r);
	guest_set(s, "version", va_string(PACKAGE_VERSION), &r);
	guest_set(s, "protocol", va_int(GUEST_PROTOCOL), &r);
	guest_set(s, "agent_id", va_string(ctx->agent_id), &r);
	guest_set(s, "boot_id", va_string(ctx->boot_id), &r);
	/* Root's in the guest. */
	if (call->caller->remote)
		guest_set(s, "vm_uuid", vm_uuid(), &r);
	guest_set(s, "methods", method_list(ctx, false), &r);
	guest_set(s, "limits", limits(ctx), &r);
	guest_set(s, "features", features, &r);
	if (ctx->last_end)
		guest_set(s, "last_end", va_value_copy(ctx->last_end), &r);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

/* The original's version 6: {version "1.0", methods [names]}. */
int guest_original_capabilities(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *s = va_struct();
	int r = 0;

	guest_set(s, "version", va_string("1.0"), &r);
	guest_set(s, "methods", method_list(guest_context(call), true), &r);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

static const struct va_method rows[] = {
	{
		.name = "guest.ping",
		.signature = "s:",
		.args = "",
		.cls = VA_CLASS_INFO,
		.fn = ping,
		.help = "Answers \"pong\" as soon as the agent can.",
		.doc = "Does nothing else and is never held up by other calls.",
		.flags = VA_M_IDEMPOTENT | VA_M_QUIET,
	},
	{
		.name = "guest.capabilities",
		.signature = "S:",
		.args = "",
		.cls = VA_CLASS_INFO,
		.fn = capabilities,
		.help = "What this agent is and can do.",
		.doc = "A struct: side (\"guest\"), version, protocol (grows when "
		       "methods change their meaning), agent_id (a UUID, new with "
		       "each start of the agent's server), boot_id (the kernel's, "
		       "new with each boot), vm_uuid (the virtual machine's, as "
		       "its firmware tells it, or \"\"; for the host only), methods (structs of name and allowed: "
		       "whether this guest's policy lets you call it), limits "
		       "(numbers: those of documents, and as they are set now "
		       "those of virtagent.conf(5): calls, client_calls, streams, "
		       "listeners, jobs, output_bytes, event_queue_bytes, stream_buffer_bytes), features (spawner: whether programs can "
		       "be started now; halt, powerdown, reboot, suspend: whether "
		       "guest.shutdown can do it), and where the agent before did "
		       "not end in order last_end (a struct: process, reason "
		       "\"crashed\" or \"hung\", signal or status).",
		.flags = VA_M_IDEMPOTENT,
	},
};

const struct va_family guest_agent_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
