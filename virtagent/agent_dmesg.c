/*
 * agent_dmesg.c - GET /dmesg: the kernel's messages as text, also as they come
 *
 *	since=N	 from message number N on (0 or none: all that are kept)
 *	follow=1 then go on, until the client leaves
 *
 * Judged and recorded as guest.getdmesg.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/agent_form.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/kmsg.h"

struct stream {
	struct form form;
	struct kmsg *kmsg;
	bool follow;
};

static void stream_free(void *data)
{
	struct stream *s = data;

	kmsg_close(s->kmsg);
	form_end(&s->form);
	free(s);
}

static void stream_done(void *arg)
{
	/* The request's end, which follows, frees it. */
}

static ssize_t stream_read(void *arg, void *buf, size_t max)
{
	struct stream *s = arg;

	for (;;) {
		ssize_t n = kmsg_read(s->kmsg, buf, max);
		int r;

		if (n != 0 || !s->follow)
			return n;
		r = kmsg_wait(s->kmsg, s->form.call.cancel_fd, CLOCK_NEVER);
		if (r < 0)
			return r;
	}
}

int agent_dmesg_get(struct http_request *rq, void *context)
{
	const char *follow = http_request_query(rq, "follow");
	struct stream *s = calloc(1, sizeof(*s));
	struct va_value *params = va_array();
	int64_t since;
	int r;

	if (!s) {
		va_value_free(params);
		return -ENOMEM;
	}
	http_request_set_data(rq, s, stream_free);
	if (agent_form_begin(&s->form, rq, context, "guest.getdmesg", params) < 0)
		return 0;
	if (form_query_int(rq, "since", 0, 0, INT64_MAX, &since) < 0)
		return 0;
	r = follow && str_to_bool(follow, &s->follow) < 0 ?
		    va_fail(&s->form.call, EINVAL, "follow=%s: not 0 or 1", follow) :
		    guest_open_dmesg(&s->form.call, (uint64_t)since, &s->kmsg);
	if (r < 0)
		return form_fail(&s->form, rq, r);
	return http_respond_stream(rq, 200, "text/plain; charset=utf-8", -1, stream_read,
				   stream_done, s);
}
