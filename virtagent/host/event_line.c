/*
 * event_line.c - an event as one line of JSON
 *
 * The data was made by our own JSON writer when the event was kept, so it holds
 * no newline and needs no second look.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "virtagent/host/event_line.h"
#include "virtagent/value.h"

static int put_json_string(struct buf *b, const char *text)
{
	CLEANUP_VALUE struct va_value *v = va_string(text);

	return v ? va_to_json(v, false, b) : -ENOMEM;
}

/* "2026-01-02T03:04:05.678Z" */
static void format_time(int64_t ms, char text[40])
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm;
	size_t n;

	gmtime_r(&t, &tm);
	n = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, 40 - n, ".%03dZ", (int)(ms % 1000));
}

int event_line(struct buf *b, const struct store_event *ev)
{
	char when[40];
	int err;

	format_time(ev->time_ms, when);
	err = buf_printf(b, "{\"seq\":%llu,\"time\":\"%s\",\"guest\":",
			 (unsigned long long)ev->seq, when);
	if (err == 0)
		err = put_json_string(b, ev->guest);
	if (err == 0)
		err = buf_puts(b, ",\"event\":");
	if (err == 0)
		err = put_json_string(b, ev->name);
	if (err == 0)
		err = buf_puts(b, ",\"data\":");
	if (err == 0)
		err = buf_puts(b, ev->data);
	if (err == 0)
		err = buf_puts(b, "}\n");
	return err;
}
