/*
 * hostd_agent.c - what a guest's agent says of itself
 *
 * va-hostd calls a guest as any client does: an HTTP request to its rpc socket,
 * on the event loop, with a deadline.  A guest without a server behind its
 * session, or with one that hangs, costs one waiting request; it is asked again
 * with a growing pause for as long as the session lasts.  What comes back is the
 * guest's word: it is shown, and decides nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/codec.h"
#include "virtagent/hostd_agent.h"
#include "virtagent/hostd_guest.h"

#define ASK_DEADLINE_NS (10 * NSEC_PER_SEC)
#define ASK_AGAIN_MIN_NS (NSEC_PER_SEC / 4)
#define ASK_AGAIN_MAX_NS (60 * NSEC_PER_SEC)
#define REPLY_MAX (256u << 10) /* capabilities with all methods: some 20 KiB */

struct agent {
	struct hostd *h;
	struct guest *g;
	struct loop_timer *again;
	uint64_t pause_ns;
	struct question *question; /* in flight, or NULL */
	bool known;
	char version[64], id[64], boot_id[64];
};

/*
 * A request in flight.  It lives until curl is done with it, which may be after
 * the agent (agent is NULL then) is gone.
 */
struct question {
	struct agent *agent;
	char *socket;
	struct buf body, reply;
	struct http_call call;
};

static void question_free(struct question *q)
{
	buf_done(&q->body);
	buf_done(&q->reply);
	free(q->socket);
	free(q);
}
DEFINE_CLEANUP(struct question, question_free);

static void take_text(char *to, size_t size, const struct va_value *v,
		      const char *member)
{
	const char *text;

	to[0] = '\0';
	if (va_get_string(va_member(v, member), &text) == 0)
		log_escape(to, size, text, strlen(text));
}

/* 0 when the reply says who the agent is; else why not, in why. */
static int take_reply(struct agent *a, const struct buf *reply, char *why,
		      size_t size)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_fault fault = { 0 };
	int err;

	err = codec_decode_reply(buf_data(reply), buf_len(reply), &v, &fault);
	if (err < 0) {
		log_escape(why, size, fault.text, strlen(fault.text));
		return err;
	}
	if (va_typeof(v) != VA_STRUCT) {
		snprintf(why, size, "the answer is no struct");
		return -EBADMSG;
	}
	take_text(a->version, sizeof(a->version), v, "version");
	take_text(a->id, sizeof(a->id), v, "agent_id");
	take_text(a->boot_id, sizeof(a->boot_id), v, "boot_id");
	return 0;
}

static void ask_later(struct agent *a)
{
	a->pause_ns = a->pause_ns ? a->pause_ns * 2 : ASK_AGAIN_MIN_NS;
	if (a->pause_ns > ASK_AGAIN_MAX_NS)
		a->pause_ns = ASK_AGAIN_MAX_NS;
	loop_timer_in(a->again, a->pause_ns);
}

static void on_reply(void *arg, struct http_call *call, int error)
{
	CLEANUP(question_free_p) struct question *q = arg;
	struct agent *a = q->agent;
	char why[256] = "";

	if (!a)
		return;
	a->question = NULL;
	if (error == 0 && call->status != 200) {
		snprintf(why, sizeof(why), "HTTP status %u", call->status);
		error = -EPROTO;
	} else if (error < 0) {
		snprintf(why, sizeof(why), "%s", call->error);
	} else {
		error = take_reply(a, &q->reply, why, sizeof(why));
	}
	if (error < 0) {
		log_debug("guest %s: guest.capabilities: %s", a->g->spec.name,
			  why[0] ? why : strerror(-error));
		ask_later(a);
		return;
	}
	a->known = true;
	a->pause_ns = 0;
	guest_agent_known(a->g);
}

static int send_question(struct agent *a)
{
	static const char *const headers[] = { "Content-Type: text/xml", NULL };
	CLEANUP_VALUE struct va_value *params = va_array();
	CLEANUP(question_free_p) struct question *q = calloc(1, sizeof(*q));
	int err;

	if (!params || !q)
		return -ENOMEM;
	buf_init(&q->body, 4096);
	buf_init(&q->reply, REPLY_MAX);
	err = codec_encode_call("guest.capabilities", params, &q->body);
	if (err < 0)
		return err;
	q->socket = str_printf("%s/rpc.sock", a->g->dir);
	if (!q->socket)
		return -ENOMEM;
	q->agent = a;
	q->call = (struct http_call){
		.method = "POST",
		.target = "/RPC2",
		.headers = headers,
		.body = buf_data(&q->body),
		.body_len = buf_len(&q->body),
		.reply = &q->reply,
		.deadline_ns = clock_now() + (uint64_t)(clock_scale() *
							ASK_DEADLINE_NS),
	};
	err = http_multi_start(a->h->multi, q->socket, &q->call, on_reply, q);
	if (err < 0)
		return err;
	a->question = take_ptr(q);
	return 0;
}

static void on_again(void *arg)
{
	struct agent *a = arg;

	if (!a->question && send_question(a) < 0)
		ask_later(a);
}

struct agent *agent_new(struct hostd *h, struct guest *g)
{
	struct agent *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->h = h;
	a->g = g;
	a->again = loop_timer_new(h->loop, on_again, a);
	if (!a->again) {
		free(a);
		return NULL;
	}
	return a;
}

/* The request goes on alone: its answer is dropped. */
static void abandon(struct agent *a)
{
	if (a->question)
		a->question->agent = NULL;
	a->question = NULL;
}

void agent_free(struct agent *a)
{
	if (!a)
		return;
	abandon(a);
	loop_timer_free(a->again);
	free(a);
}

void agent_ask(struct agent *a)
{
	agent_forget(a);
	a->pause_ns = 0;
	on_again(a);
}

void agent_forget(struct agent *a)
{
	abandon(a);
	loop_timer_stop(a->again);
	a->known = false;
	a->version[0] = a->id[0] = a->boot_id[0] = '\0';
}

bool agent_known(const struct agent *a)
{
	return a->known;
}

const char *agent_version(const struct agent *a)
{
	return a->version;
}

const char *agent_id(const struct agent *a)
{
	return a->id;
}

const char *agent_boot_id(const struct agent *a)
{
	return a->boot_id;
}
