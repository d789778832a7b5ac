/*
 * verb_dmesg.c - dmesg: a guest's kernel messages, also as they come
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "virtagent/client/call.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/http_client.h"

struct dmesg_opts {
	bool follow;
};

DEFINE_FLAG(set_follow, dmesg_opts, follow);

static const struct option_row dmesg_rows[] = {
	{ 'w', "follow", NULL, "go on with what comes", set_follow },
	CLIENT_ROWS,
};

struct follow {
	struct out_stream out;
	struct buf refusal; /* the body of another status than 200 */
	unsigned status;
	int failed; /* writing our output */
};

static int on_head(void *arg, unsigned status, int64_t length)
{
	((struct follow *)arg)->status = status;
	return 0;
}

static int on_data(void *arg, const void *data, size_t n)
{
	struct follow *f = arg;
	size_t room = buf_room(&f->refusal);

	if (f->status != 200)
		return buf_put(&f->refusal, data, n < room ? n : room);
	f->failed = out_stream_write(&f->out, data, n);
	if (!f->failed && fflush(f->out.to))
		f->failed = -errno;
	return f->failed;
}

static int judge(struct follow *f, struct rpc *r, const struct http_call *call, int error)
{
	const char *text = buf_cstr(&f->refusal);

	if (interrupt_seen())
		return interrupt_status();
	if (f->failed) {
		out_error(NULL, "dmesg", "cannot write the output: %s", strerror(-f->failed));
		return VAC_ERROR;
	}
	if (!error && f->status != 200) {
		rpc_set_error(r, "%.*s", text ? (int)strcspn(text, "\r\n") : 0, text);
		return rpc_report(r, "dmesg", VAC_ERROR);
	}
	if (error == -ETIMEDOUT)
		return VAC_OK; /* -t says how long to follow */
	rpc_set_error(r, "%s", *call->error ? call->error : "the guest's agent ended");
	return rpc_report(r, "dmesg", error == -ENOTCONN ? VAC_NOT_CONNECTED : VAC_ERROR);
}

static int run_follow(struct client *cl, struct rpc *r)
{
	struct follow f = { .refusal = BUF_INIT(4096) };
	struct http_call call = {
		.method = "GET",
		.target = "/dmesg?follow=1",
		.head = on_head,
		.sink = on_data,
		.arg = &f,
		.deadline_ns = client_deadline(cl, 0),
		.cancel = interrupt_flag(),
	};
	int code = rpc_check(r);

	if (code)
		return rpc_report(r, "dmesg", code);
	out_stream_init(&f.out, cl, stdout);
	interrupt_catch();
	code = judge(&f, r, &call, http_client_perform(rpc_http(r), &call));
	out_stream_end(&f.out);
	buf_done(&f.refusal);
	return code;
}

static int run_dmesg(struct client *cl, int argc, char **argv)
{
	const struct dmesg_opts *o = cl->opts;
	CLEANUP_RPC struct rpc *r = NULL;
	int code = rpc_connect(cl, SIDE_GUEST, argc ? argv[0] : NULL, &r);

	if (code)
		return code;
	if (o->follow)
		return run_follow(cl, r);
	rpc_set_deadline(r, client_deadline(cl, CLIENT_CALL_NS));
	return call_words(cl, r, "guest.getdmesg", 0, NULL);
}

const struct verb verb_dmesg = {
	.name = "dmesg",
	.usage = "[GUEST]",
	.help = "print a guest's kernel messages",
	.about = "Prints the guest kernel's messages; with -w those it keeps, then others as they\n"
		 "come.",
	.rows = dmesg_rows,
	.nrows = NROWS(dmesg_rows),
	.opts_size = sizeof(struct dmesg_opts),
	.max_args = 1,
	.run = run_dmesg,
};
