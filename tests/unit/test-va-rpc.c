/*
 * test-va-rpc.c - calls through a whole server: HTTP, validator, registry
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/sock.h"
#include "tests/lib/attacks.h"
#include "tests/lib/http_raw.h"
#include "tests/lib/unit.h"
#include "virtagent/fault.h"
#include "virtagent/rpc_server.h"

static int begun_fd = -1, go_fd = -1;
static unsigned ran;

static int echo(struct va_call *call, struct va_value **ret)
{
	*ret = va_value_copy(va_item(call->params, 0));
	return 0;
}

/* Waits for the test's word or the end of the call. */
static int slow(struct va_call *call, struct va_value **ret)
{
	struct pollfd p[] = { { go_fd, POLLIN, 0 },
			      { call->cancel_fd, POLLIN, 0 } };
	uint64_t one = 1;

	ran++;
	CHECK(write(begun_fd, &one, sizeof(one)) == sizeof(one));
	poll(p, 2, -1);
	if (p[1].revents)
		return va_fault(call, VA_FAULT_CANCELLED, ECANCELED, "cancelled");
	*ret = va_int(42);
	return 0;
}

static const struct va_method rows[] = {
	{ .name = "t.echo", .signature = "x:x", .args = "X", .fn = echo,
	  .cls = VA_CLASS_INFO, .help = "Echoes." },
	{ .name = "t.slow", .signature = "i:", .args = "", .fn = slow,
	  .cls = VA_CLASS_WRITE, .help = "Waits." },
};

struct env {
	struct codec_registry *r;
	struct outcomes *outcomes;
	struct http_server *s;
	int fd;
	struct buf in, head, body;
};

static int rpc(struct http_request *rq, void *context)
{
	struct env *e = context;
	const struct va_call tmpl = { .outcomes = e->outcomes, .server_id = "me" };

	return rpc_serve(rq, e->r, &tmpl);
}

static const struct http_route routes[] = { RPC_ROUTE(rpc) };

static void env_connect(struct env *e)
{
	struct va_caller caller = { .cred = PEER_CRED_UNKNOWN };
	int fds[2];

	if (e->fd >= 0)
		close(e->fd);
	CHECK_INT(sock_pair(SOCK_STREAM, fds), 0);
	CHECK_INT(http_server_adopt(e->s, fds[1], &caller), 0);
	e->fd = fds[0];
	buf_reset(&e->in);
}

static void env_open(struct env *e)
{
	const struct va_family f[] = { VA_FAMILY(rows), va_guest_outcome_family };
	struct http_config cfg = { .routes = routes, .nroutes = 1, .context = e };

	codec_global_init();
	begun_fd = eventfd(0, EFD_CLOEXEC);
	go_fd = eventfd(0, EFD_CLOEXEC);
	e->r = codec_registry_new(f, 2, NULL, NULL);
	e->outcomes = outcomes_new();
	e->s = http_server_new(&cfg);
	CHECK(e->r && e->outcomes && e->s);
	buf_init(&e->in, VA_XML_MAX);
	buf_init(&e->head, VA_XML_MAX);
	buf_init(&e->body, VA_XML_MAX);
	e->fd = -1;
	env_connect(e);
}

static void env_close(struct env *e)
{
	close(e->fd);
	http_server_free(e->s);
	codec_registry_free(e->r);
	outcomes_free(e->outcomes);
	buf_done(&e->in);
	buf_done(&e->head);
	buf_done(&e->body);
	close(begun_fd);
	close(go_fd);
}

#define WITH_ENV                                                               \
	CLEANUP(env_close) struct env e;                                       \
	env_open(&e)

/* Sends a document with more headers ("Name: v\r\n"). */
static void post(struct env *e, const char *headers, const void *doc, size_t n)
{
	CLEANUP_BUF struct buf rq = BUF_INIT(4096);

	buf_printf(&rq, "POST /RPC2 HTTP/1.1\r\nHost: x\r\n%s"
		   "Content-Length: %zu\r\n\r\n", headers, n);
	CHECK(raw_puts(e->fd, buf_cstr(&rq)));
	CHECK(raw_send(e->fd, doc, n));
}

static int answer(struct env *e, struct va_value **ret, struct va_fault *f)
{
	CHECK_INT(raw_response(e->fd, &e->in, &e->head, &e->body, false), 200);
	CHECK(strstr(buf_cstr(&e->head), "Content-Type: text/xml"));
	return codec_decode_reply(buf_data(&e->body), buf_len(&e->body), ret, f);
}

static void send_call(struct env *e, const char *headers, const char *method,
		      const char *arg)
{
	CLEANUP_VALUE struct va_value *p = va_array();
	CLEANUP_BUF struct buf doc = BUF_INIT(VA_XML_MAX);

	if (arg)
		va_append(p, va_string(arg));
	CHECK_INT(codec_encode_call(method, p, &doc), 0);
	post(e, headers, buf_data(&doc), buf_len(&doc));
}

static void pings(struct env *e)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_fault f;
	const char *s = "";

	send_call(e, "Content-Type: text/xml\r\n", "t.echo", "hello");
	CHECK_INT(answer(e, &v, &f), 0);
	CHECK_INT(va_get_string(v, &s), 0);
	CHECK_STR(s, "hello");
}

TEST(every_attack_is_answered_and_leaves_the_server_alive)
{
	WITH_ENV;

	for (size_t i = 0; i < attack_count(); i++) {
		CLEANUP_BUF struct buf doc = BUF_INIT(VA_XML_MAX);
		struct va_value *v = NULL;
		struct va_fault f;
		uint64_t start;
		double s;

		attack_make(i, false, &doc);
		start = unit_cpu_ns();
		post(&e, "", buf_data(&doc), buf_len(&doc));
		CHECK_INT(answer(&e, &v, &f), -EREMOTEIO);
		s = (double)(unit_cpu_ns() - start) / 1e9;
		if (s > 0.1 * clock_scale())
			unit_fail(__FILE__, __LINE__, "%s took %.3f s",
				  attack_name(i), s);
		if (f.code != VA_FAULT_PARSE && f.code != VA_FAULT_LIMIT)
			unit_fail(__FILE__, __LINE__, "%s: fault %d",
				  attack_name(i), f.code);
		pings(&e); /* on the same connection */
	}
}

TEST(http_says_what_is_wrong_with_http)
{
	WITH_ENV;

	post(&e, "Content-Type: application/json\r\n", "{}", 2);
	CHECK_INT(raw_response(e.fd, &e.in, &e.head, &e.body, false), 415);
	CHECK(raw_puts(e.fd, "GET /RPC2 HTTP/1.1\r\nHost: x\r\n\r\n"));
	CHECK_INT(raw_response(e.fd, &e.in, &e.head, &e.body, false), 405);
	CHECK(raw_puts(e.fd, "POST /RPC2 HTTP/1.1\r\nHost: x\r\n"
			     "Content-Length: 4194305\r\n\r\n"));
	CHECK_INT(raw_response(e.fd, &e.in, &e.head, &e.body, false), 413);
	env_connect(&e);
	pings(&e);
}

static void wait_begun(void)
{
	struct pollfd p = { .fd = begun_fd, .events = POLLIN };
	uint64_t v;

	CHECK_INT(poll(&p, 1, (int)(5000 * clock_scale())), 1);
	CHECK(read(begun_fd, &v, sizeof(v)) == sizeof(v));
}

static void ask_until(struct env *e, const char *id, const char *state)
{
	const char *got = "";

	do {
		CLEANUP_VALUE struct va_value *v = NULL;
		struct va_fault f;

		send_call(e, "", "guest.outcome", id);
		CHECK_INT(answer(e, &v, &f), 0);
		va_get_string(va_member(v, "state"), &got);
		if (strcmp(got, "running") != 0 || strcmp(state, "running") == 0) {
			CHECK_STR(got, state);
			if (strcmp(state, "done") == 0) {
				int64_t n = 0;

				va_get_int(va_member(v, "result"), &n);
				CHECK_INT(n, 42);
			}
			return;
		}
	} while (true);
}

TEST(a_marked_call_outlives_its_connection_and_runs_once)
{
	WITH_ENV;
	struct va_value *v = NULL;
	struct va_fault f;
	uint64_t one = 1;

	send_call(&e, "Virtagent-Call: me/1\r\n", "t.slow", NULL);
	wait_begun();
	env_connect(&e);
	ask_until(&e, "me/1", "running");
	CHECK(write(go_fd, &one, sizeof(one)) == sizeof(one));
	ask_until(&e, "me/1", "done");
	send_call(&e, "Virtagent-Call: me/1\r\n", "t.slow", NULL);
	CHECK_INT(answer(&e, &v, &f), -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_DUPLICATE);
	CHECK_INT(ran, 1);
	ask_until(&e, "me/2", "never");
	send_call(&e, "Virtagent-Call: me/2\r\n", "t.slow", NULL);
	CHECK_INT(answer(&e, &v, &f), -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_DUPLICATE);
	send_call(&e, "", "guest.outcome", "you/2");
	CHECK_INT(answer(&e, &v, &f), -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_FOREIGN_AGENT);
	send_call(&e, "Virtagent-Call: nonsense\r\n", "t.slow", NULL);
	CHECK_INT(answer(&e, &v, &f), -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_TYPE);
	CHECK_INT(ran, 1);
}

TEST(an_unmarked_call_is_cancelled_with_its_connection)
{
	WITH_ENV;

	send_call(&e, "", "t.slow", NULL);
	wait_begun();
	env_connect(&e);
	pings(&e);
	/* The end joins the handler's thread: it hangs if it was not told. */
}

UNIT_MAIN(CASE(every_attack_is_answered_and_leaves_the_server_alive),
	  CASE(http_says_what_is_wrong_with_http),
	  CASE(a_marked_call_outlives_its_connection_and_runs_once),
	  CASE(an_unmarked_call_is_cancelled_with_its_connection))
