/*
 * event.c - guest.event.send: a program in the guest tells the host something
 *
 * The agent keeps the event while the host is away, numbers it and sends it
 * again until the host has it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "virtagent/guest/guest.h"

#define EVENT_WAIT_MAX_MS 60000

static int event_data(struct va_call *call, struct va_value **ret)
{
	const struct va_value *v = va_item(call->params, 1);
	const char *text;
	char err[128] = "";

	if (!v) {
		*ret = va_struct();
		return *ret ? 0 : -ENOMEM;
	}
	if (va_typeof(v) == VA_STRUCT) {
		*ret = va_value_copy(v);
		return *ret ? 0 : -ENOMEM;
	}
	if (va_get_string(v, &text) < 0)
		return va_fail(call, EINVAL,
			       "%s: the data is a struct or a string of JSON",
			       call->method->name);
	if (va_from_json(text, strlen(text), ret, err, sizeof(err)) < 0)
		return va_fail(call, EINVAL, "%s: the data is no JSON: %s",
			       call->method->name, err);
	if (va_typeof(*ret) == VA_STRUCT)
		return 0;
	va_value_free(take_ptr(*ret));
	return va_fail(call, EINVAL, "%s: the data is no JSON object",
		       call->method->name);
}

static int event_send(struct va_call *call, struct va_value **ret)
{
	struct guest_context *ctx = guest_context(call);
	CLEANUP_VALUE struct va_value *data = NULL;
	const char *name;
	int64_t wait_ms;
	char shown[80];
	int r;

	if (call->caller->remote)
		return va_fail(call, EPERM,
			       "%s: only programs in the guest send the guest's events",
			       call->method->name);
	r = va_arg_string(call, 0, NULL, &name);
	if (r == 0)
		r = va_arg_int(call, 2, 0, 0, EVENT_WAIT_MAX_MS, &wait_ms);
	if (r == 0)
		r = event_data(call, &data);
	if (r < 0)
		return r;
	r = ctx->post_event(ctx, name, take_ptr(data));
	if (r == -EINVAL)
		return va_fail(call, EINVAL, "%s: \"%s\" is no event's name: 1 to 64 "
			       "lower-case letters, digits and dashes",
			       call->method->name,
			       log_escape(shown, sizeof(shown), name, strlen(name)));
	if (r == -EMSGSIZE)
		return va_fail(call, EMSGSIZE, "%s: the data passes 16 KiB as JSON",
			       call->method->name);
	if (r < 0)
		return r;
	r = wait_ms ? ctx->flush_events(ctx, clock_now() + (uint64_t)wait_ms *
							NSEC_PER_MSEC) : 0;
	*ret = va_bool(r == 0);
	return *ret ? 0 : -ENOMEM;
}

static const struct va_method rows[] = {
	{
		.name = "guest.event.send",
		.signature = "b:s|xi",
		.args = "NAME [DATA [WAIT_MS]]",
		.cls = VA_CLASS_INFO,
		.fn = event_send,
		.help = "a program in the guest tells the host something",
		.doc = "NAME is lower-case letters, digits and dashes; DATA a struct "
		       "or a string of JSON, 16 KiB at most.  Returns when the agent "
		       "has it; it is kept (1,000 events) while the host is away and "
		       "sent until the host has it, once.  With WAIT_MS it waits "
		       "so long at most for that, and says whether the host has "
		       "it; else true.  Local callers only.",
	},
};

const struct va_family guest_event_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
