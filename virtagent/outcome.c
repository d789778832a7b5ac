/*
 * outcome.c - see outcome.h
 *
 * Two sizes of memory.  Replies are kept in full for the last VA_OUTCOMES_KEPT
 * calls, for VA_OUTCOME_KEPT_S and up to VA_OUTCOME_REPLY_MAX bytes each.  The ids,
 * and that they ran, are kept for VA_OUTCOMES_MAX calls.  Beyond that the oldest is
 * forgotten, and from then on "never" cannot be said truthfully of an id that is
 * not there: the answer is "unknown".
 *
 * The list is in the order of age and searched from its young end, where the
 * ids that are asked for are.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/outcome.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "virtagent/codec.h"
#include "virtagent/fault.h"
#include "virtagent/limits.h"

enum state { RUNNING, DONE, ASKED };

struct outcome {
	struct outcome *older, *younger;
	enum state state;
	uint64_t ended;
	struct buf reply;
	char id[];
};

struct outcomes {
	pthread_mutex_t lock;
	struct outcome *youngest, *oldest;
	unsigned count, kept, running;
	bool forgot;
};

struct outcomes *outcomes_new(void)
{
	struct outcomes *o = calloc(1, sizeof(*o));

	if (o)
		pthread_mutex_init(&o->lock, NULL);
	return o;
}

static void drop_reply(struct outcomes *o, struct outcome *c)
{
	if (c->reply.mem) {
		buf_done(&c->reply);
		o->kept--;
	}
}

static void forget(struct outcomes *o, struct outcome *c)
{
	drop_reply(o, c);
	*(c->older ? &c->older->younger : &o->oldest) = c->younger;
	*(c->younger ? &c->younger->older : &o->youngest) = c->older;
	o->count--;
	free(c);
}

void outcomes_free(struct outcomes *o)
{
	if (!o)
		return;
	while (o->oldest)
		forget(o, o->oldest);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

bool outcome_id_valid(const char *id)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
	size_t n = strspn(id, allowed);
	const char *slash = strchr(id, '/');

	return n && !id[n] && n <= VA_CALL_ID_MAX && slash && slash > id &&
	       slash[1] && !strchr(slash + 1, '/');
}

static struct outcome *find(struct outcomes *o, const char *id)
{
	struct outcome *c = o->youngest;

	while (c && strcmp(c->id, id) != 0)
		c = c->older;
	return c;
}

/* Makes room for one more id: the oldest that is not running goes. */
static void make_room(struct outcomes *o)
{
	struct outcome *c = o->oldest;

	while (o->count >= VA_OUTCOMES_MAX && c) {
		struct outcome *next = c->younger;

		if (c->state != RUNNING) {
			/* What never ran may be forgotten without a lie. */
			o->forgot |= c->state == DONE;
			forget(o, c);
		}
		c = next;
	}
}

static struct outcome *add(struct outcomes *o, const char *id, enum state state)
{
	struct outcome *c = calloc(1, sizeof(*c) + strlen(id) + 1);

	if (!c)
		return NULL;
	make_room(o);
	strcpy(c->id, id);
	c->state = state;
	buf_init(&c->reply, VA_OUTCOME_REPLY_MAX);
	c->older = o->youngest;
	*(c->older ? &c->older->younger : &o->oldest) = c;
	o->youngest = c;
	o->count++;
	return c;
}

/* Drops the replies that are too old, or too many. */
static void expire(struct outcomes *o)
{
	uint64_t now = clock_now();

	for (struct outcome *c = o->oldest; c && o->kept; c = c->younger) {
		if (c->reply.mem &&
		    (o->kept > VA_OUTCOMES_KEPT ||
		     now - c->ended > VA_OUTCOME_KEPT_S * NSEC_PER_SEC))
			drop_reply(o, c);
	}
}

int outcome_begin(struct outcomes *o, const char *id)
{
	int r = 0;

	pthread_mutex_lock(&o->lock);
	expire(o);
	if (find(o, id))
		r = -EALREADY;
	else if (o->running >= VA_OUTCOMES_MAX / 2)
		r = -EMFILE;
	else if (!add(o, id, RUNNING))
		r = -ENOMEM;
	else
		o->running++;
	pthread_mutex_unlock(&o->lock);
	return r;
}

void outcome_end(struct outcomes *o, const char *id, const struct buf *reply)
{
	struct outcome *c;

	pthread_mutex_lock(&o->lock);
	c = find(o, id);
	if (c && c->state == RUNNING) {
		c->state = DONE;
		c->ended = clock_now();
		o->running--;
		if (buf_put(&c->reply, buf_data(reply), buf_len(reply)) == 0 &&
		    c->reply.mem)
			o->kept++;
		expire(o);
	}
	pthread_mutex_unlock(&o->lock);
}

/* Adds what a kept reply says, or that none is kept. */
static int add_reply(struct va_value *v, const struct buf *reply)
{
	struct va_value *result = NULL, *f;
	struct va_fault fault;
	int r = -EBADMSG;

	if (buf_len(reply))
		r = codec_decode_reply(buf_data(reply), buf_len(reply), &result,
				       &fault);
	if (r == 0)
		return va_set(v, "result", result);
	if (r != -EREMOTEIO)
		return va_set(v, "dropped", va_bool(true));
	f = va_struct();
	r = va_set(f, "code", va_int(fault.code));
	if (r == 0)
		r = va_set(f, "text", va_string(fault.text));
	if (r < 0) {
		va_value_free(f);
		return r;
	}
	return va_set(v, "fault", f);
}

int outcome_query(struct outcomes *o, const char *id, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	CLEANUP_BUF struct buf reply = BUF_INIT(VA_OUTCOME_REPLY_MAX);
	const char *state = "never";
	struct outcome *c;
	bool done = false;
	int r = 0;

	pthread_mutex_lock(&o->lock);
	expire(o);
	c = find(o, id);
	if (!c)
		state = o->forgot ? "unknown" : state;
	if (!c && !add(o, id, ASKED)) {
		r = -ENOMEM;
	} else if (c && c->state != ASKED) {
		done = c->state == DONE;
		state = done ? "done" : "running";
		r = buf_put(&reply, buf_data(&c->reply), buf_len(&c->reply));
	}
	pthread_mutex_unlock(&o->lock);
	if (r == 0)
		r = va_set(v, "state", va_string(state));
	if (r == 0 && done)
		r = add_reply(v, &reply);
	if (r == 0)
		*ret = take_ptr(v);
	return r;
}

/* --- the method ----------------------------------------------------------- */

static int outcome(struct va_call *call, struct va_value **ret)
{
	const char *id = "";
	int r = va_arg_string(call, 0, "", &id);

	if (r < 0)
		return r;
	if (!outcome_id_valid(id))
		return va_fail(call, EINVAL, "\"%s\" is not a call's id", id);
	if (!call->outcomes)
		return va_fail(call, EOPNOTSUPP, "no outcomes are kept here");
	if (call->server_id &&
	    (strncmp(id, call->server_id, strlen(call->server_id)) != 0 ||
	     id[strlen(call->server_id)] != '/'))
		return va_fault(call, VA_FAULT_FOREIGN_AGENT, ESTALE,
				"that call was meant for another agent; this one "
				"is %s", call->server_id);
	return outcome_query(call->outcomes, id, ret);
}

#define OUTCOME_ROW(method_name)                                               \
	{ .name = method_name, .signature = "S:s", .args = "CALL-ID",          \
	  .cls = VA_CLASS_INFO, .fn = outcome,                                 \
	  .help = "What became of a call that was marked with that id.",       \
	  .doc = "The id is the Virtagent-Call header that the call came "     \
		 "with.  The result's member state is never (it has not come, " \
		 "and would be refused now), running, done (then result, or "  \
		 "fault {code, text}, or dropped = true when the reply is not " \
		 "kept any more) or unknown.  Replies up to 64 KiB of the last " \
		 "256 calls are kept for 10 minutes.",                         \
	  .flags = VA_M_IDEMPOTENT | VA_M_QUIET }

static const struct va_method guest_rows[] = { OUTCOME_ROW("guest.outcome") };
static const struct va_method host_rows[] = { OUTCOME_ROW("host.outcome") };

const struct va_family va_guest_outcome_family = { guest_rows, 1 };
const struct va_family va_host_outcome_family = { host_rows, 1 };
