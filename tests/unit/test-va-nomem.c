/*
 * test-va-nomem.c - every allocation fails once, each in its turn: documents,
 * policy, configuration, streams (tests/lib/nomem.h)
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/conf.h"
#include "common/str.h"
#include "tests/lib/nomem.h"
#include "tests/lib/unit.h"
#include "virtagent/codec.h"
#include "virtagent/hostd_conf.h"
#include "virtagent/limits.h"
#include "virtagent/outcome.h"
#include "virtagent/policy.h"
#include "virtagent/validate.h"
#include "virtproxy/mux.h"

/* --- values and documents -------------------------------------------------- */

static struct va_value *sample(void)
{
	struct va_value *list = va_array(), *v = va_struct();
	int bad = 0;

	for (int i = 0; i < 20; i++) {
		CLEANUP_FREE char *name = str_printf("member-%d", i);

		bad |= va_append(list, va_int(i));
		bad |= va_append(list, va_bytes("\0\xff", 2));
		bad |= name ? va_set(v, name, va_string("a \"text\" & more")) :
			      -ENOMEM;
	}
	bad |= va_set(v, "double", va_double(0.5));
	bad |= va_set(v, "list", list);
	if (bad) {
		va_value_free(v);
		return NULL;
	}
	return v;
}

static int same(const struct va_value *a, const struct va_value *b)
{
	CLEANUP_BUF struct buf x = BUF_INIT(1 << 20), y = BUF_INIT(1 << 20);

	if (va_to_json(a, false, &x) || va_to_json(b, false, &y))
		return -ENOMEM;
	/* It may fail, but not differ. */
	CHECK_INT(buf_len(&x), buf_len(&y));
	CHECK_MEM(buf_data(&x), buf_data(&y), buf_len(&x));
	return 0;
}

static int values(void)
{
	CLEANUP_VALUE struct va_value *v = sample(), *copy = NULL, *back = NULL;
	CLEANUP_BUF struct buf json = BUF_INIT(1 << 20);
	char err[200];

	if (!v || !(copy = va_value_copy(v)) || va_to_json(copy, true, &json) ||
	    va_from_json((const char *)buf_data(&json), buf_len(&json), &back,
			 err, sizeof(err)))
		return -ENOMEM;
	return same(v, back);
}

TEST(values_and_json)
{
	nomem_each(values, 0);
}

/* xmlrpc-c forgets a value whose lock or block cannot be made, libxml2 keeps the
 * text of its last error. */
#define LIBRARIES_LOSE 8

/*
 * Not tried: xmlrpc-c's own parser, which crashes out of memory (1.33.14,
 * xml_element_free() of what was never set).
 */
static int documents(void)
{
	CLEANUP_VALUE struct va_value *v = sample(), *params = va_array();
	CLEANUP_BUF struct buf call = BUF_INIT(VA_XML_MAX),
			       reply = BUF_INIT(VA_XML_MAX);
	char err[200] = "";
	int r = -ENOMEM;

	if (v && params && !va_append(params, va_value_copy(v)))
		r = codec_encode_call("t.echo", params, &call);
	if (r == 0)
		r = codec_encode_reply(v, &reply);
	if (r == 0)
		r = va_validate_xml(VA_XML_CALL, buf_data(&call), buf_len(&call),
				    err, sizeof(err));
	if (r == 0)
		r = va_validate_xml(VA_XML_REPLY, buf_data(&reply), buf_len(&reply),
				    err, sizeof(err));
	/* What is there is never called wrong for want of memory. */
	CHECK(r != -EBADMSG);
	return r;
}

TEST(documents_made_and_checked)
{
	CHECK_INT(codec_global_init(), 0);
	nomem_each(documents, LIBRARIES_LOSE);
}

static int outcomes(void)
{
	struct outcomes *o = outcomes_new();
	CLEANUP_VALUE struct va_value *v = NULL, *other = NULL;
	const char *state = "";
	int r = o ? outcome_begin(o, "a/1") : -ENOMEM;

	if (r == 0) {
		r = outcome_query(o, "a/1", &v);
		/* That it was begun is never forgotten for want of memory. */
		if (r == 0 && !va_get_string(va_member(v, "state"), &state))
			CHECK_STR(state, "running");
		CHECK_INT(outcome_begin(o, "a/1"), -EALREADY);
	}
	if (r == 0)
		r = outcome_query(o, "a/2", &other);
	/* Who was told "never" is right for ever. */
	if (r == 0)
		CHECK_INT(outcome_begin(o, "a/2"), -EALREADY);
	outcomes_free(o);
	return r;
}

TEST(outcomes_of_calls)
{
	nomem_each(outcomes, 0);
}

/* --- configuration ----------------------------------------------------------- */

static const char conf_text[] =
	"[policy]\nprofile = readonly\nallow = guest.exec.run \"quoted text\"\n"
	"deny = class:power\nread = /etc /var/log\n[guest one]\nkey = value\n";

static int configuration(void)
{
	struct conf c = { 0 };
	struct policy *p = NULL;
	char err[256] = "";
	int r = conf_parse(&c, "x", conf_text, strlen(conf_text), err, sizeof(err));

	if (r == 0) {
		r = policy_new(&c, "guest", NULL, &p, err, sizeof(err));
		/* Not the memory's fault: the text is not one of a policy. */
		if (r == -EINVAL && !strstr(err, "memory"))
			r = 0;
	}
	CHECK(r == 0 || *err);
	policy_free(p);
	conf_done(&c);
	return r;
}

TEST(configuration_and_policy)
{
	nomem_each(configuration, 0);
}

static int host_configuration(void)
{
	static const char *const words[] = { "vm=unix-connect:/tmp/x:-",
					     "other=tcp-connect:127.0.0.1:9" };
	struct hostd_conf c = { 0 };
	char err[256] = "";
	int r = hostd_conf_load(&c, "/nonexistent", false, "/nonexistent",
				words, 2, err, sizeof(err));

	CHECK(r == 0 || *err);
	if (r == 0)
		hostd_conf_done(&c);
	return r;
}

TEST(the_hosts_configuration)
{
	nomem_each(host_configuration, 0);
}

/* --- streams over two muxes ---------------------------------------------------- */

#define STREAM_BYTES 30000u
#define MSEC NSEC_PER_MSEC

struct end {
	struct vp_mux *mux;
	size_t to_send, received;
	bool eof_sent, over, reset;
};

static enum vp_channel kind;

static ssize_t end_fill(void *arg, struct vp_stream *s, uint8_t *to, size_t max)
{
	struct end *e = arg;
	size_t n = max < e->to_send ? max : e->to_send;

	memset(to, 'x', n);
	e->to_send -= n;
	return n ? (ssize_t)n : VP_FILL_EOF;
}

static int end_opened(void *arg, struct vp_stream *s, const char *service,
		      const struct vp_meta *meta, char *why)
{
	struct end *e = arg;

	e->to_send = STREAM_BYTES;
	return 0;
}

static size_t end_deliver(void *arg, struct vp_stream *s, const uint8_t *data,
			  size_t len)
{
	struct end *e = arg;

	e->received += len;
	vp_stream_ready(s);
	return len;
}

static void end_eof(void *arg, struct vp_stream *s)
{
	vp_stream_ready(s);
}

static void end_closed(void *arg, struct vp_stream *s, int reason, const char *text)
{
	struct end *e = arg;

	e->over = true;
	e->reset |= reason != 0;
}

static void end_session(void *arg, bool up, const char *why)
{
}

static void end_random(void *arg, void *buf, size_t n)
{
	static uint64_t x = 88172645463325252u;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		((uint8_t *)buf)[i] = (uint8_t)x;
	}
}

static const struct vp_mux_ops end_ops = {
	.opened = end_opened, .fill = end_fill, .deliver = end_deliver,
	.eof = end_eof, .closed = end_closed, .session = end_session,
	.random = end_random,
};

static bool move(struct end *from, struct end *to, uint64_t now)
{
	struct iovec iov[4];
	size_t n = 0, pieces = vp_mux_output(from->mux, iov, 4, 32768, now);
	uint8_t flat[32768];

	for (size_t i = 0; i < pieces; i++) {
		memcpy(flat + n, iov[i].iov_base, iov[i].iov_len);
		n += iov[i].iov_len;
	}
	if (!n)
		return false;
	vp_mux_written(from->mux, n, now);
	vp_mux_input(to->mux, flat, n, now);
	return true;
}

static void pump(struct end e[2], uint64_t *now)
{
	bool there = move(&e[0], &e[1], *now);
	bool back = move(&e[1], &e[0], *now);

	if (!there && !back)
		*now += 5 * MSEC;
	for (int i = 0; i < 2; i++)
		vp_mux_tick(e[i].mux, *now);
}

/* One stream, whole or ended on both sides; a session is waited for. */
static int one_stream(struct end e[2], uint64_t *now, uint64_t limit)
{
	struct vp_meta meta = { 0 };
	struct vp_stream *s = NULL;
	uint64_t end = *now + limit;

	for (int i = 0; i < 2; i++)
		e[i] = (struct end){ .mux = e[i].mux };
	e[1].to_send = STREAM_BYTES;
	while (!s && *now < end) {
		if (vp_mux_session_up(e[1].mux))
			s = vp_stream_open(e[1].mux, "svc", &meta, NULL);
		if (!s && errno == ENOMEM && vp_mux_session_up(e[1].mux))
			return -ENOMEM;
		pump(e, now);
	}
	CHECK(s != NULL);
	vp_stream_ready(s);
	while (!e[1].over && *now < end)
		pump(e, now);
	CHECK(e[1].over);
	if (e[1].reset || e[0].reset)
		return -ECONNRESET;
	CHECK_INT(e[1].received, STREAM_BYTES);
	return 0;
}

static int streams(void)
{
	struct vp_mux_config cfg = { .channel = kind, .compress = true };
	struct end e[2] = { { 0 } };
	uint64_t now = NSEC_PER_SEC;
	int r = -ENOMEM;

	for (int i = 0; i < 2; i++) {
		cfg.role = i ? VP_HOST : VP_GUEST;
		e[i].mux = vp_mux_new(&cfg, &end_ops, &e[i], now);
	}
	if (e[0].mux && e[1].mux) {
		vp_mux_attach(e[0].mux, now);
		vp_mux_attach(e[1].mux, now);
		r = one_stream(e, &now, 60 * NSEC_PER_SEC);
		/* The one failure is behind: the next stream works. */
		for (uint64_t until = now + 5 * NSEC_PER_SEC; now < until;)
			pump(e, &now);
		if (r < 0)
			CHECK_INT(one_stream(e, &now, 60 * NSEC_PER_SEC), 0);
	}
	for (int i = 0; i < 2; i++)
		if (e[i].mux)
			vp_mux_free(e[i].mux);
	return r;
}

TEST(streams_over_a_serial_line)
{
	kind = VP_CHANNEL_SERIAL;
	nomem_each(streams, 0);
}

TEST(streams_over_virtio)
{
	kind = VP_CHANNEL_VIRTIO;
	nomem_each(streams, 0);
}

UNIT_MAIN(CASE(values_and_json), CASE(documents_made_and_checked),
	  CASE(outcomes_of_calls), CASE(configuration_and_policy),
	  CASE(the_hosts_configuration), CASE_SLOW(streams_over_a_serial_line, 60),
	  CASE_SLOW(streams_over_virtio, 60))
