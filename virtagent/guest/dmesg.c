/*
 * dmesg.c - guest.getdmesg: the kernel's messages
 *
 * All of them by syslog(2), which copies the ring without taking from it; from a
 * number on, and as they come, by /dev/kmsg (kmsg.h).
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/kmsg.h"
#include "virtagent/limits.h"

#define WAIT_MAX_S 3600

DEFINE_CLEANUP(struct kmsg, kmsg_close);

static int fail(struct va_call *call, int r)
{
	return va_fail(call, -r, "%s: the kernel's messages: %s", call->method->name,
		       r == -ENOTSUP ? "they have no numbers here: there is no /dev/kmsg" :
				       strerror(-r));
}

int guest_read_dmesg(struct va_call *call, size_t max, char **ret, size_t *len,
		     bool *cut)
{
	CLEANUP_FREE char *text = NULL;
	int r = kmsg_ring(&text, len);

	if (r < 0)
		return fail(call, r);
	*cut = *len > max;
	if (*cut) {
		/* From the beginning of a line, where there is one. */
		char *from = text + *len - max;
		char *line = memchr(from, '\n', max);

		if (line && line + 1 < text + *len)
			from = line + 1;
		*len = (size_t)(text + *len - from);
		memmove(text, from, *len);
	}
	text[*len] = 0;
	*ret = take_ptr(text);
	return 0;
}

int guest_open_dmesg(struct va_call *call, uint64_t since, struct kmsg **ret)
{
	int r = kmsg_open(since, ret);

	return r < 0 ? fail(call, r) : 0;
}

/* Messages from since on, waiting for the first of them. */
static int read_since(struct va_call *call, size_t max, uint64_t since, int64_t seconds,
		      struct va_value *s)
{
	uint64_t deadline = clock_now() + (uint64_t)seconds * NSEC_PER_SEC;
	CLEANUP(kmsg_close_p) struct kmsg *k = NULL;
	CLEANUP_FREE char *text = malloc(max);
	ssize_t n = 0;
	int r = text ? guest_open_dmesg(call, since, &k) : -ENOMEM;

	if (r == 0 && !kmsg_numbered(k))
		return fail(call, -ENOTSUP);
	while (r == 0 && (n = kmsg_read(k, text, max)) == 0)
		r = kmsg_wait(k, call->cancel_fd, deadline);
	if (r == -ETIMEDOUT)
		r = 0;
	if (r == 0 && n < 0)
		r = (int)n;
	if (r < 0)
		return call->fault.code ? r : fail(call, r);
	guest_set(s, "data", va_bytes(text, (size_t)n), &r);
	guest_set(s, "next", va_int((int64_t)kmsg_next(k)), &r);
	guest_set(s, "lost", va_int((int64_t)kmsg_lost(k)), &r);
	return r;
}

static int read_all(struct va_call *call, size_t max, struct va_value *s)
{
	char *text = NULL;
	size_t len;
	bool cut;
	int r = guest_read_dmesg(call, max, &text, &len, &cut);

	if (r < 0)
		return r;
	guest_set(s, "data", va_bytes_take(text, len), &r);
	guest_set(s, "truncated", va_bool(cut), &r);
	return r;
}

static int getdmesg(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *s = va_struct();
	int64_t max, since = 0, seconds = 0;
	bool numbered = va_arg_given(call, 1);
	int r = va_arg_int(call, 0, VA_BYTES_MAX, numbered ? 16384 : 1, VA_BYTES_MAX, &max);

	if (r == 0)
		r = va_arg_int(call, 1, 0, 0, INT64_MAX, &since);
	if (r == 0)
		r = va_arg_int(call, 2, 0, 0, WAIT_MAX_S, &seconds);
	if (r == 0)
		r = numbered ? read_since(call, (size_t)max, (uint64_t)since, seconds, s) :
			       read_all(call, (size_t)max, s);
	return r < 0 ? r : guest_give(&s, r, ret);
}

static const struct va_method rows[] = {
	{
		.name = "guest.getdmesg",
		.signature = "S:|iii",
		.args = "[MAX_BYTES [SINCE [SECONDS]]]",
		.cls = VA_CLASS_READ,
		.fn = getdmesg,
		.raw = "data",
		.help = "The guest kernel's messages.",
		.doc = "Without SINCE the last MAX_BYTES (default and at most 1 MiB) of them, "
		       "whole lines.  A struct: data (base64), truncated (there were "
		       "more).  With SINCE the first MAX_BYTES (at least 16384) of those "
		       "from number SINCE on (0 = the oldest kept), once there are any or "
		       "SECONDS (default 0, at most 3600) have passed: data, next (the "
		       "SINCE of the next call), lost (messages that were overwritten "
		       "before); fails where the guest has no /dev/kmsg.  GET /dmesg "
		       "(PROTOCOL, section 8) streams them.",
		.flags = VA_M_IDEMPOTENT,
	},
};

const struct va_family guest_dmesg_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
