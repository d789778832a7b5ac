/*
 * event_methods.c - host.event.send and host.events
 *
 * A guest numbers what it sends ("AGENT-ID/NUMBER"), so that an event sent again
 * after a cut connection is kept once.  A guest reads its own events only.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/cleanup.h"
#include "common/str.h"
#include "virtagent/fault.h"
#include "virtagent/host/host.h"

#define STORE_DEADLINE_NS (10 * NSEC_PER_SEC)
#define AGENT_ID_MAX 64u
#define EVENTS_DEFAULT 100

/* The data parameter: a struct as it is, or a string that holds JSON. */
static int take_data(struct va_call *call, struct va_value **parsed,
		     const struct va_value **ret)
{
	const struct va_value *v = va_item(call->params, 1);
	const char *text;
	char err[128];

	*ret = v;
	if (!v || va_typeof(v) == VA_STRUCT)
		return 0;
	if (va_typeof(v) != VA_STRING || va_get_string(v, &text) < 0)
		return va_fail(call, EINVAL, "host.event.send: the data is a "
			       "struct, or a string of JSON");
	if (va_from_json(text, strlen(text), parsed, err, sizeof(err)) < 0)
		return va_fail(call, EINVAL, "host.event.send: the data is no "
			       "JSON: %s", err);
	*ret = *parsed;
	return 0;
}

/* "AGENT-ID/NUMBER" */
static int take_id(struct va_call *call, const char *id, char **agent,
		   int64_t *number)
{
	const char *slash = strrchr(id, '/');

	if (!slash || slash == id || slash - id > (long)AGENT_ID_MAX ||
	    str_to_i64(slash + 1, 0, INT64_MAX, number) < 0)
		return va_fail(call, EINVAL, "host.event.send: \"%s\" is not "
			       "AGENT-ID/NUMBER", id);
	*agent = strndup(id, (size_t)(slash - id));
	return *agent ? 0 : -ENOMEM;
}

/* The fault for what events_send() said. */
static int send_failed(struct va_call *call, int err, const char *text)
{
	int res = va_fail(call, -err, "host.event.send: %s",
			  text[0] ? text : strerror(-err));

	if (err == -EBUSY)
		call->fault.code = VA_FAULT_LIMIT;
	return res;
}

static int host_event_send(struct va_call *call, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	CLEANUP_VALUE struct va_value *parsed = NULL;
	CLEANUP_FREE char *agent = NULL;
	struct event_sent sent = { .guest = call->caller->guest };
	const char *id;
	uint64_t seq;
	char text[256];
	bool again;
	int err;

	if (!sent.guest)
		return va_fail(call, EINVAL, "host.event.send: only a guest "
			       "sends events this way");
	err = va_arg_string(call, 0, NULL, &sent.name);
	if (err == 0)
		err = take_data(call, &parsed, &sent.data);
	if (err == 0)
		err = va_arg_string(call, 2, NULL, &id);
	if (err == 0 && id)
		err = take_id(call, id, &agent, &sent.agent_seq);
	if (err < 0)
		return err;
	sent.agent = agent;
	if (agent)
		h->ops->agent_seen(h->arg, sent.guest, agent);
	err = events_send(h->events, &sent, clock_now() + STORE_DEADLINE_NS,
			  &seq, &again, text, sizeof(text));
	if (err < 0)
		return send_failed(call, err, text);
	*ret = va_int((int64_t)seq);
	return *ret ? 0 : -ENOMEM;
}

/* Lines of JSON as an array of structs. */
static int parse_lines(const struct buf *lines, struct va_value *array)
{
	const char *p = (const char *)buf_data(lines);
	const char *end = p + buf_len(lines);

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		struct va_value *v = NULL;
		char why[128];
		int err;

		if (!nl)
			return -EBADMSG;
		err = va_from_json(p, (size_t)(nl - p), &v, why, sizeof(why));
		if (err == 0)
			err = va_append(array, v);
		if (err < 0)
			return err;
		p = nl + 1;
	}
	return 0;
}

static int read_events(struct va_call *call, uint64_t since, const char *guest,
		       unsigned limit, struct va_value **ret)
{
	const struct host_context *h = host_context(call);
	CLEANUP_VALUE struct va_value *v = va_struct();
	CLEANUP_VALUE struct va_value *list = va_array();
	struct event_batch batch = { .last = since };
	char trouble[256];
	int err;

	err = events_read(h->events, since, guest, limit,
			  clock_now() + STORE_DEADLINE_NS, &batch);
	if (err == 0)
		err = list ? parse_lines(&batch.lines, list) : -ENOMEM;
	buf_done(&batch.lines);
	if (err < 0)
		return va_fail(call, -err, "host.events: the store: %s",
			       strerror(-err));
	events_trouble(h->events, trouble, sizeof(trouble));
	err = va_set(v, "events", take_ptr(list));
	if (err == 0)
		err = va_set(v, "last", va_int((int64_t)batch.last));
	if (err == 0)
		err = va_set(v, "newest", va_int((int64_t)events_last(h->events)));
	if (err == 0 && trouble[0])
		err = va_set(v, "trouble", va_string(trouble));
	if (err == 0)
		*ret = take_ptr(v);
	return err;
}

static int host_events(struct va_call *call, struct va_value **ret)
{
	const char *own = call->caller->guest;
	int64_t since, limit;
	const char *guest;
	int err;

	err = va_arg_int(call, 0, 0, 0, INT64_MAX, &since);
	if (err == 0)
		err = va_arg_int(call, 1, EVENTS_DEFAULT, 1, EVENTS_READ_MAX,
				 &limit);
	if (err == 0)
		err = va_arg_string(call, 2, own, &guest);
	if (err < 0)
		return err;
	if (own && strcmp(own, guest) != 0)
		return va_fail(call, ENOENT, "host.events: no guest \"%s\"",
			       guest);
	return read_events(call, (uint64_t)since, guest, (unsigned)limit, ret);
}

static const struct va_method methods[] = {
	{
		.name = "host.event.send",
		.signature = "i:s|xs",
		.args = "NAME [DATA [ID]]",
		.cls = VA_CLASS_INFO,
		.fn = host_event_send,
		.help = "a guest tells its host something",
		.doc = "NAME is lower-case letters, digits and dashes; DATA a "
		       "struct or a string of JSON, 16 KiB at most; ID is "
		       "AGENT-ID/NUMBER: an event that was kept under it before "
		       "is not kept again.  Returns the event's number on this "
		       "host, after it is on disk.  At most 50 a second (bursts "
		       "of 200): fault -509, to be sent again later.",
	},
	{
		.name = "host.events",
		.signature = "S:|iis",
		.args = "[SINCE [LIMIT [GUEST]]]",
		.cls = VA_CLASS_READ,
		.fn = host_events,
		.help = "the events kept after a number",
		.doc = "Returns a struct: events (an array of structs: seq, "
		       "time, guest, event, data), last (the number to go on "
		       "from), newest (the newest event's number) and, while "
		       "the disk takes no writes, trouble.  LIMIT is 100 unless "
		       "given, 1000 at most.  A guest sees its own only.",
		.flags = VA_M_IDEMPOTENT,
	},
};

const struct va_family host_events_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
