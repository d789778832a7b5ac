/*
 * hostd_call.c - va-hostd calls a guest, as any client does
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/codec.h"
#include "virtagent/hostd_call.h"
#include "virtagent/hostd_guest.h"

#define REPLY_MAX (256u << 10) /* capabilities with all methods: some 20 KiB */

/* It lives until curl is done with it, which may be after its owner is gone (fn
 * is NULL then). */
struct hostd_call {
	hostd_call_fn fn;
	void *arg;
	char *socket;
	struct buf body, reply;
	struct http_call http;
};

static void call_free(struct hostd_call *c)
{
	buf_done(&c->body);
	buf_done(&c->reply);
	free(c->socket);
	free(c);
}
DEFINE_CLEANUP(struct hostd_call, call_free);

static void on_reply(void *arg, struct http_call *http, int error)
{
	CLEANUP(call_free_p) struct hostd_call *c = arg;
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_fault fault = { 0 };
	char why[256] = "";

	if (!c->fn)
		return;
	if (error == 0 && http->status != 200) {
		snprintf(why, sizeof(why), "HTTP status %u", http->status);
		error = -EPROTO;
	} else if (error < 0) {
		snprintf(why, sizeof(why), "%s", http->error);
	} else {
		error = codec_decode_reply(buf_data(&c->reply),
					   buf_len(&c->reply), &v, &fault);
		log_escape(why, sizeof(why), fault.text, strlen(fault.text));
	}
	if (error < 0 && !why[0])
		snprintf(why, sizeof(why), "%s", strerror(-error));
	c->fn(c->arg, error, v, why);
}

struct hostd_call *hostd_call_start(struct guest *g, const char *method,
				    const struct va_value *params,
				    uint64_t deadline_ns, hostd_call_fn fn,
				    void *arg)
{
	static const char *const headers[] = { "Content-Type: text/xml", NULL };
	CLEANUP(call_free_p) struct hostd_call *c = calloc(1, sizeof(*c));
	int err;

	if (!c || !params) {
		errno = ENOMEM;
		return NULL;
	}
	buf_init(&c->body, VA_XML_MAX);
	buf_init(&c->reply, REPLY_MAX);
	err = codec_encode_call(method, params, &c->body);
	c->socket = str_printf("%s/rpc.sock", g->dir);
	if (err == 0 && !c->socket)
		err = -ENOMEM;
	c->fn = fn;
	c->arg = arg;
	c->http = (struct http_call){
		.method = "POST",
		.target = "/RPC2",
		.headers = headers,
		.body = buf_data(&c->body),
		.body_len = buf_len(&c->body),
		.reply = &c->reply,
		.deadline_ns = deadline_ns,
	};
	if (err == 0)
		err = http_multi_start(g->h->multi, c->socket, &c->http,
				       on_reply, c);
	if (err == 0)
		return take_ptr(c);
	errno = -err;
	return NULL;
}

void hostd_call_abandon(struct hostd_call *c)
{
	if (c)
		c->fn = NULL;
}
