/*
 * hostd_forward.c - GET /connect: a guest's connections, made by its host
 *
 * As in the agent (agent_forward.c): with "Upgrade: va-stream/1" the stream is the
 * connection's.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "virtagent/connect.h"
#include "virtagent/host/host.h"
#include "virtagent/hostd_form.h"
#include "virtagent/stream.h"

struct forward {
	struct form form;
	struct places *places;
	char *guest; /* whose place is taken, or NULL */
	bool counted;
	int fd, stop_fd;
	size_t buffer;
};

static void forward_done(struct forward *f)
{
	if (f->fd >= 0)
		close(f->fd);
	if (f->counted)
		places_give(f->places, f->guest, PLACE_STREAM);
	free(f->guest);
	free(f);
}

static void request_free(void *data)
{
	struct forward *f = data;

	form_end(&f->form);
	forward_done(f);
}

static void run_stream(void *arg, int fd, const void *extra, size_t extra_len)
{
	struct forward *f = arg;

	if (fd >= 0)
		(void)stream_pump(fd, f->fd, extra, extra_len, f->buffer, f->stop_fd);
	forward_done(f);
}

static int upgrade(struct forward *f, struct http_request *rq)
{
	struct forward *own = calloc(1, sizeof(*own));
	int r;

	if (!own)
		return -ENOMEM;
	*own = *f;
	memset(&own->form, 0, sizeof(own->form));
	f->fd = -1;
	f->counted = false;
	f->guest = NULL;
	r = http_respond_upgrade(rq, STREAM_TOKEN, run_stream, own);
	if (r < 0)
		forward_done(own);
	return r;
}

static struct forward *forward_new(struct http_request *rq, void *context)
{
	const char *guest = http_request_caller(rq)->guest;
	struct forward *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->fd = -1;
	f->stop_fd = http_request_stop_fd(rq);
	f->places = hostd_form_places(context);
	f->buffer = hostd_form_stream_buffer(context);
	http_request_set_data(rq, f, request_free);
	if (guest && !(f->guest = strdup(guest)))
		return NULL;
	return f;
}

int hostd_connect_get(struct http_request *rq, void *context)
{
	const char *target = http_request_query(rq, "to");
	CLEANUP_FREE struct connect_to *to = malloc(sizeof(*to));
	struct va_value *params = va_array();
	struct forward *f = forward_new(rq, context);
	int r;

	if (!f || !to) {
		va_value_free(params);
		return -ENOMEM;
	}
	va_append(params, va_bytes(target ? target : "", target ? strlen(target) : 0));
	if (hostd_form_begin(&f->form, rq, context, "host.connect", params) < 0)
		return 0;
	r = form_wants(&f->form, rq, STREAM_TOKEN);
	if (r == 0)
		r = hostd_form_place(&f->form, context, PLACE_STREAM);
	f->counted = r == 0;
	if (r == 0)
		r = host_connect(&f->form.call, target ? target : "", to, &f->fd);
	if (r < 0)
		return form_fail(&f->form, rq, r);
	return upgrade(f, rq);
}
