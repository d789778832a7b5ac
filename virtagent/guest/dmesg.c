/*
 * dmesg.c - guest.getdmesg: the kernel's messages
 *
 * By syslog(2), which copies the ring without taking from it; each record's
 * "<N>" is left out, as dmesg(1) does.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>

#include "common/cleanup.h"
#include "virtagent/guest/guest.h"
#include "virtagent/limits.h"

/* Actions of syslog(2); <sys/klog.h> does not name them. */
#define KLOG_READ_ALL 3
#define KLOG_SIZE_BUFFER 10
/* Rings of more than this are configured only for debugging. */
#define RING_MAX (16 << 20)

/* Takes "<6>" and the like off the beginning of each line; the new length. */
static size_t strip_levels(char *text, size_t len)
{
	size_t to = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '<' && (i == 0 || text[i - 1] == '\n')) {
			size_t end = i + 1;

			while (end < len && isdigit((unsigned char)text[end]))
				end++;
			if (end < len && end > i + 1 && text[end] == '>') {
				i = end;
				continue;
			}
		}
		text[to++] = text[i];
	}
	return to;
}

int guest_read_dmesg(struct va_call *call, size_t max, char **ret, size_t *len,
		     bool *cut)
{
	int size = klogctl(KLOG_SIZE_BUFFER, NULL, 0), n;
	CLEANUP_FREE char *text = NULL;

	if (size < 0)
		return va_fail(call, errno, "%s: the kernel's messages: %s",
			       call->method->name, strerror(errno));
	if (size > RING_MAX)
		size = RING_MAX;
	text = malloc((size_t)size + 1);
	if (!text)
		return -ENOMEM;
	n = klogctl(KLOG_READ_ALL, text, size);
	if (n < 0)
		return va_fail(call, errno, "%s: the kernel's messages: %s",
			       call->method->name, strerror(errno));
	*len = strip_levels(text, (size_t)n);
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

static int getdmesg(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *s = NULL;
	char *text = NULL;
	int64_t max;
	size_t len;
	bool cut;
	int r = va_arg_int(call, 0, VA_BYTES_MAX, 1, VA_BYTES_MAX, &max);

	if (r == 0)
		r = guest_read_dmesg(call, (size_t)max, &text, &len, &cut);
	if (r < 0)
		return r;
	s = va_struct();
	guest_set(s, "data", va_bytes_take(text, len), &r);
	guest_set(s, "truncated", va_bool(cut), &r);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

static const struct va_method rows[] = {
	{
		.name = "guest.getdmesg",
		.signature = "S:|i",
		.args = "[MAX_BYTES]",
		.cls = VA_CLASS_READ,
		.fn = getdmesg,
		.raw = "data",
		.help = "The guest kernel's messages.",
		.doc = "The last MAX_BYTES (default and at most 1 MiB) of them, "
		       "whole lines.  A struct: data (base64), truncated (there "
		       "were more).",
		.flags = VA_M_IDEMPOTENT,
	},
};

const struct va_family guest_dmesg_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
