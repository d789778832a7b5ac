/*
 * test-va-http-server.c - the HTTP server on adopted sockets, said to in ways
 * that no client library would
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/sock.h"
#include "tests/lib/http_raw.h"
#include "tests/lib/unit.h"
#include "virtagent/http_request.h"
#include "virtagent/http_server.h"

/* --- routes of the test -------------------------------------------------- */

static int waiting_fd = -1; /* eventfd: a handler has begun to wait */
static int left_fd = -1;    /* eventfd: and has seen the caller go */

static void signal_fd(int fd)
{
	uint64_t one = 1;

	CHECK(write(fd, &one, sizeof(one)) == sizeof(one));
}

static void expect_fd(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t v;

	CHECK_INT(poll(&p, 1, (int)(5000 * clock_scale())), 1);
	CHECK(read(fd, &v, sizeof(v)) == sizeof(v));
}

static int do_echo(struct http_request *rq, void *ctx)
{
	const struct buf *b = http_request_body(rq);

	return http_respond(rq, 200, "application/x", buf_data(b), buf_len(b));
}

static int do_show(struct http_request *rq, void *ctx)
{
	const char *a = http_request_query(rq, "a");
	const char *a1 = http_request_query_n(rq, "a", 1);
	const char *h = http_request_header(rq, "x-one");

	http_add_header(rq, "X-Seen", h ? h : "none");
	return http_respond_text(rq, 200, "%s %s a=%s a1=%s guest=%s",
				 http_request_method(rq), http_request_path(rq),
				 a ? a : "-", a1 ? a1 : "-",
				 http_request_caller(rq)->guest ?
					 http_request_caller(rq)->guest : "-");
}

static int do_fail(struct http_request *rq, void *ctx)
{
	return -EIO;
}

static int do_nothing(struct http_request *rq, void *ctx)
{
	return 0;
}

static int do_wait(struct http_request *rq, void *ctx)
{
	struct pollfd p = { .fd = http_request_cancel_fd(rq), .events = POLLIN };

	signal_fd(waiting_fd);
	CHECK_INT(poll(&p, 1, -1), 1);
	signal_fd(left_fd);
	return http_respond_text(rq, 200, "woken");
}

static int do_file(struct http_request *rq, void *ctx)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	http_add_header(rq, "Content-Range", "bytes 10-29/*");
	return http_respond_fd(rq, 206, "application/octet-stream", fd, 10, 20);
}

struct counter {
	unsigned left;
	int end; /* what read() returns when nothing is left */
	int cancel_fd;
};

static ssize_t counter_read(void *arg, void *to, size_t max)
{
	struct counter *c = arg;

	if (c->left == 0)
		return c->end;
	if (c->cancel_fd >= 0 && c->left == 1) {
		struct pollfd p = { .fd = c->cancel_fd, .events = POLLIN };

		signal_fd(waiting_fd);
		poll(&p, 1, -1);
		signal_fd(left_fd);
		return -ECANCELED;
	}
	c->left--;
	memset(to, 'x', 1000 < max ? 1000 : max);
	return (ssize_t)(1000 < max ? 1000 : max);
}

static int respond_counter(struct http_request *rq, unsigned n, int end,
			   int64_t length, int cancel_fd)
{
	struct counter *c = malloc(sizeof(*c));

	*c = (struct counter){ n, end, cancel_fd };
	return http_respond_stream(rq, 200, "text/plain", length, counter_read,
				   free, c);
}

static int do_stream(struct http_request *rq, void *ctx)
{
	return respond_counter(rq, 5, 0, -1, -1);
}

static int do_stream_length(struct http_request *rq, void *ctx)
{
	return respond_counter(rq, 5, 0, 5000, -1);
}

static int do_stream_cut(struct http_request *rq, void *ctx)
{
	return respond_counter(rq, 5, -EIO, -1, -1);
}

static int do_stream_wait(struct http_request *rq, void *ctx)
{
	return respond_counter(rq, 2, 0, -1, http_request_cancel_fd(rq));
}

static unsigned freed;

static void note_freed(void *data)
{
	freed++;
	free(data);
}

static int put_begin(struct http_request *rq, void *ctx)
{
	if (http_request_query(rq, "refuse"))
		return http_respond_text(rq, 403, "no");
	http_request_set_data(rq, calloc(1, sizeof(size_t)), note_freed);
	return 0;
}

static int put_piece(struct http_request *rq, const void *data, size_t n)
{
	size_t *sum = http_request_data(rq);

	*sum += n;
	if (http_request_query(rq, "full") && *sum > 100000) {
		if (*http_request_query(rq, "full"))
			http_respond_text(rq, 507, "disk full");
		/* The answer alone ends it too. */
		return *http_request_query(rq, "full") == '2' ? 0 : -ENOSPC;
	}
	return 0;
}

static int put_end(struct http_request *rq)
{
	size_t *sum = http_request_data(rq);

	return http_respond_text(rq, 201, "%zu of %lld", *sum,
				 (long long)http_request_length(rq));
}

static void run_echo(void *arg, int fd, const void *extra, size_t n)
{
	char b[256];

	raw_send(fd, "hello ", 6);
	raw_send(fd, extra, n);
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t got;

		poll(&p, 1, -1);
		got = recv(fd, b, sizeof(b), MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno != EAGAIN))
			break;
		if (got > 0)
			raw_send(fd, b, (size_t)got);
		if (got > 0 && memchr(b, 'Q', (size_t)got))
			break;
	}
	signal_fd(left_fd);
}

static int do_upgrade(struct http_request *rq, void *ctx)
{
	return http_respond_upgrade(rq, "va-test", run_echo, NULL);
}

static const struct http_route routes[] = {
	{ "POST", "/echo", HTTP_BODY_BUFFER, 100, do_echo, NULL, NULL },
	{ "GET", "/show/*", HTTP_BODY_NONE, 0, do_show, NULL, NULL },
	{ "DELETE", "/show/*", HTTP_BODY_NONE, 0, do_show, NULL, NULL },
	{ "GET", "/fail", HTTP_BODY_NONE, 0, do_fail, NULL, NULL },
	{ "GET", "/nothing", HTTP_BODY_NONE, 0, do_nothing, NULL, NULL },
	{ "GET", "/wait", HTTP_BODY_NONE, 0, do_wait, NULL, NULL },
	{ "GET", "/file", HTTP_BODY_NONE, 0, do_file, NULL, NULL },
	{ "GET", "/stream", HTTP_BODY_NONE, 0, do_stream, NULL, NULL },
	{ "GET", "/length", HTTP_BODY_NONE, 0, do_stream_length, NULL, NULL },
	{ "GET", "/cut", HTTP_BODY_NONE, 0, do_stream_cut, NULL, NULL },
	{ "GET", "/slow", HTTP_BODY_NONE, 0, do_stream_wait, NULL, NULL },
	{ "PUT", "/put", HTTP_BODY_STREAM, 0, put_begin, put_piece, put_end },
	{ "GET", "/up", HTTP_BODY_NONE, 0, do_upgrade, NULL, NULL },
};

/* --- a server and a client ----------------------------------------------- */

struct env {
	struct http_server *s;
	int fd; /* the client's end */
	struct buf in, head, body;
};

static int connect_to(struct http_server *s, const char *guest)
{
	struct va_caller caller = { .cred = PEER_CRED_UNKNOWN, .guest = guest };
	uint64_t end = clock_now() + 5 * NSEC_PER_SEC;
	int fds[2], r;

	for (;;) {
		CHECK_INT(sock_pair(SOCK_STREAM, fds), 0);
		r = http_server_adopt(s, fds[1], &caller);
		/* Threads of closed connections take a moment to end. */
		if (r != -EMFILE || clock_now() > end)
			break;
		close(fds[0]);
	}
	CHECK_INT(r, 0);
	return fds[0];
}

static void env_open(struct env *e, unsigned max, unsigned per_guest,
		     unsigned seconds)
{
	struct http_config cfg = {
		.routes = routes,
		.nroutes = sizeof(routes) / sizeof(routes[0]),
		.max_connections = max,
		.max_per_guest = per_guest,
		.request_timeout_s = seconds,
	};

	e->s = http_server_new(&cfg);
	CHECK(e->s);
	e->fd = connect_to(e->s, "g1");
	buf_init(&e->in, 1 << 20);
	buf_init(&e->head, 1 << 20);
	buf_init(&e->body, 1 << 20);
	waiting_fd = eventfd(0, EFD_CLOEXEC);
	left_fd = eventfd(0, EFD_CLOEXEC);
}

static void env_close(struct env *e)
{
	close(e->fd);
	http_server_free(e->s);
	buf_done(&e->in);
	buf_done(&e->head);
	buf_done(&e->body);
	close(waiting_fd);
	close(left_fd);
}

#define WITH_SERVER                                                            \
	CLEANUP(env_close) struct env e;                                       \
	env_open(&e, 8, 0, 0)

static int reply(struct env *e)
{
	return raw_response(e->fd, &e->in, &e->head, &e->body, false);
}

static int ask(struct env *e, const char *request)
{
	CHECK(raw_puts(e->fd, request));
	return reply(e);
}

static void reconnect(struct env *e)
{
	close(e->fd);
	buf_reset(&e->in);
	e->fd = connect_to(e->s, "g1");
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static void still_serves(struct env *e)
{
	reconnect(e);
	CHECK_INT(ask(e, GET("/show/alive")), 200);
}

/* --- the cases ----------------------------------------------------------- */

TEST(a_request_is_taken_apart)
{
	WITH_SERVER;

	CHECK_INT(ask(&e, "GET /show/%2e%2F%c3%a4+?a=1%26&b=&a=%3d&c HTTP/1.1\r\n"
			  "Host: x\r\nX-ONE: v\r\n\r\n"), 200);
	CHECK_STR(buf_cstr(&e.body),
		  "GET /show/./\xc3\xa4+ a=1& a1== guest=g1\n");
	CHECK(strstr(buf_cstr(&e.head), "X-Seen: v\r\n"));
	CHECK_INT(ask(&e, GET("http://host:1/show/x?a=y")), 200);
	CHECK_STR(buf_cstr(&e.body), "GET /show/x a=y a1=- guest=g1\n");
}

TEST(connections_are_kept)
{
	WITH_SERVER;

	for (int i = 0; i < 50; i++)
		CHECK_INT(ask(&e, GET("/show/a")), 200);
	CHECK_INT(http_server_connections(e.s), 1);
	CHECK_INT(ask(&e, "GET /show/a HTTP/1.1\r\nHost: x\r\n"
			  "Connection: close\r\n\r\n"), 200);
	CHECK(raw_closed(e.fd, 2000));
	reconnect(&e);
	CHECK_INT(ask(&e, "GET /show/a HTTP/1.0\r\n\r\n"), 200);
	CHECK(raw_closed(e.fd, 2000));
}

TEST(pipelined_requests_are_all_answered)
{
	WITH_SERVER;

	CHECK(raw_puts(e.fd, GET("/show/1") GET("/show/2") GET("/show/3")
		       "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
		       "\r\nabc" GET("/show/5")));
	for (int i = 1; i <= 5; i++) {
		char want[64];

		snprintf(want, sizeof(want), "GET /show/%d a=- a1=- guest=g1\n", i);
		CHECK_INT(reply(&e), 200);
		CHECK_STR(buf_cstr(&e.body), i == 4 ? "abc" : want);
	}
}

TEST(bodies_come_with_a_length_or_in_chunks)
{
	WITH_SERVER;

	CHECK_INT(ask(&e, "POST /echo HTTP/1.1\r\nHost: x\r\n"
			  "Transfer-Encoding: chunked\r\n\r\n"
			  "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"), 200);
	CHECK_STR(buf_cstr(&e.body), "abcdefg");
	CHECK_INT(ask(&e, "POST /echo HTTP/1.1\r\nHost: x\r\n"
			  "Content-Length: 0\r\n\r\n"), 200);
	CHECK_INT(buf_len(&e.body), 0);
	CHECK(raw_puts(e.fd, "POST /echo HTTP/1.1\r\nHost: x\r\n"
			     "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
	CHECK_INT(reply(&e), 100);
	CHECK_INT(ask(&e, "ok"), 200);
	CHECK_STR(buf_cstr(&e.body), "ok");
}

TEST(head_has_no_body)
{
	WITH_SERVER;

	for (int i = 0; i < 3; i++) {
		static const char *const paths[] = { "/show/x", "/stream", "/file" };
		CLEANUP_BUF struct buf rq = BUF_INIT(200);

		/* After a HEAD of unknown length the library closes. */
		reconnect(&e);
		buf_printf(&rq, "HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n", paths[i]);
		CHECK(raw_puts(e.fd, buf_cstr(&rq)));
		CHECK_INT(raw_response(e.fd, &e.in, &e.head, &e.body, true),
			  i == 2 ? 206 : 200);
	}
	CHECK_INT(ask(&e, GET("/show/x")), 200);
	CHECK_STR(buf_cstr(&e.body), "GET /show/x a=- a1=- guest=g1\n");
}

static const struct bad {
	const char *request;
	int status;
	const char *part; /* of head or body */
} bad[] = {
	{ GET("/none"), 404, NULL },
	{ "POST /show/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405,
	  "Allow: GET, DELETE\r\n" },
	{ "BREW /echo HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: POST\r\n" },
	{ "POST /echo HTTP/1.1\r\nHost: x\r\n\r\n", 411, NULL },
	{ "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n", 413,
	  "body of 101 bytes, limit 100" },
	{ "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
	  "Content-Length: 1\r\n\r\na", 400, NULL },
	{ "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
	  "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, NULL },
	{ "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501,
	  NULL },
	{ "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400,
	  NULL },
	{ "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n", 400,
	  NULL },
	{ "GET /show/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", 400,
	  NULL },
	{ GET("/show/%00"), 400, NULL },
	{ GET("/show/%4"), 400, NULL },
	{ GET("/show/%zz"), 400, NULL },
	{ GET("/show/x?%"), 400, NULL },
	{ GET("*"), 400, NULL },
	{ GET("/fail"), 500, "Input/output error" },
	{ GET("/nothing"), 500, "no answer" },
};

TEST(wrong_requests_get_their_status)
{
	WITH_SERVER;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int status;

		reconnect(&e);
		status = ask(&e, bad[i].request);
		if (status != bad[i].status ||
		    (bad[i].part && !strstr(buf_cstr(&e.head), bad[i].part) &&
		     !strstr(buf_cstr(&e.body), bad[i].part)))
			unit_fail(__FILE__, __LINE__, "%s: %d %s%s",
				  bad[i].request, status, buf_cstr(&e.head),
				  buf_cstr(&e.body));
	}
	still_serves(&e);
}

TEST(garbage_ends_the_connection_only)
{
	static const char *const garbage[] = {
		"\r\n\r\n\r\n", "GET", "\x16\x03\x01\x02", "GET / HTTP/9.9\r\n\r\n",
		"GET /show/x HTTP/1.1\r\n: v\r\n\r\n", "\xff\xff\xff\xff\r\n\r\n",
		"GET /show/x HTTP/1.1\r\nHost: x\r\n bad\x01\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
		"\r\nzz\r\n", "POST /echo HTTP/1.1\r\nHost: x\r\n"
		"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
	};
	WITH_SERVER;

	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		reconnect(&e);
		raw_puts(e.fd, garbage[i]);
		shutdown(e.fd, SHUT_WR);
		CHECK(raw_closed(e.fd, 3000));
		still_serves(&e);
	}
}

TEST(headers_are_bounded)
{
	WITH_SERVER;
	CLEANUP_BUF struct buf rq = BUF_INIT(1 << 20);
	int status;

	buf_puts(&rq, "GET /show/x HTTP/1.1\r\nHost: x\r\nX-One: ");
	for (int i = 0; i < 12000; i++)
		buf_put_u8(&rq, 'a');
	buf_puts(&rq, "\r\n\r\n");
	CHECK_INT(ask(&e, buf_cstr(&rq)), 200);
	reconnect(&e);
	buf_reset(&rq);
	buf_puts(&rq, "GET /show/x HTTP/1.1\r\nHost: x\r\nX-One: ");
	for (int i = 0; i < 200000; i++)
		buf_put_u8(&rq, 'a');
	raw_puts(e.fd, buf_cstr(&rq));
	status = reply(&e);
	CHECK(status == 431 || status == 414 || status == 0 || status == -1);
	still_serves(&e);
}

TEST(body_limit)
{
	WITH_SERVER;

	for (int n = 99; n <= 101; n++) {
		for (int chunked = 0; chunked < 2; chunked++) {
			CLEANUP_BUF struct buf rq = BUF_INIT(4096);

			reconnect(&e);
			buf_puts(&rq, "POST /echo HTTP/1.1\r\nHost: x\r\n");
			if (chunked)
				buf_printf(&rq, "Transfer-Encoding: chunked\r\n\r\n"
					   "%x\r\n%0*d\r\n0\r\n\r\n", n, n, 1);
			else
				buf_printf(&rq, "Content-Length: %d\r\n\r\n%0*d", n,
					   n, 1);
			CHECK_INT(ask(&e, buf_cstr(&rq)), n > 100 ? 413 : 200);
			if (n <= 100)
				CHECK_INT(buf_len(&e.body), n);
		}
	}
}

/* A client that sends 2 MB before it looks must still see the refusal. */
TEST(a_refusal_reaches_a_client_that_is_sending)
{
	WITH_SERVER;
	CLEANUP_FREE char *data = calloc(1, 2 << 20);

	CHECK(raw_puts(e.fd, "POST /echo HTTP/1.1\r\nHost: x\r\n"
			     "Content-Length: 2097152\r\n\r\n"));
	CHECK(raw_send(e.fd, data, 2 << 20));
	CHECK_INT(reply(&e), 413);

	reconnect(&e);
	CHECK(raw_puts(e.fd, "PUT /put?full=1 HTTP/1.1\r\nHost: x\r\n"
			     "Content-Length: 2097152\r\n\r\n"));
	CHECK(raw_send(e.fd, data, 2 << 20));
	CHECK_INT(reply(&e), 507);
	CHECK_STR(buf_cstr(&e.body), "disk full\n");

	reconnect(&e);
	CHECK(raw_puts(e.fd, "PUT /put?full=2 HTTP/1.1\r\nHost: x\r\n"
			     "Content-Length: 2097152\r\n\r\n"));
	CHECK(raw_send(e.fd, data, 2 << 20));
	CHECK_INT(reply(&e), 507);

	reconnect(&e);
	CHECK(raw_puts(e.fd, "PUT /put?full HTTP/1.1\r\nHost: x\r\n"
			     "Content-Length: 2097152\r\n\r\n"));
	CHECK(raw_send(e.fd, data, 2 << 20));
	CHECK_INT(reply(&e), 500);

	reconnect(&e);
	CHECK(raw_puts(e.fd, "PUT /put?refuse HTTP/1.1\r\nHost: x\r\n"
			     "Content-Length: 2097152\r\n\r\n"));
	CHECK(raw_send(e.fd, data, 2 << 20));
	CHECK_INT(reply(&e), 403);
	still_serves(&e);
}

TEST(streamed_bodies_arrive_whole)
{
	WITH_SERVER;
	CLEANUP_FREE char *data = calloc(1, 2 << 20);

	CHECK(raw_puts(e.fd, "PUT /put HTTP/1.1\r\nHost: x\r\n"
			     "Content-Length: 2097152\r\n\r\n"));
	CHECK(raw_send(e.fd, data, 2 << 20));
	CHECK_INT(reply(&e), 201);
	CHECK_STR(buf_cstr(&e.body), "2097152 of 2097152\n");
	CHECK_INT(ask(&e, "PUT /put HTTP/1.1\r\nHost: x\r\n"
			  "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
			  "0\r\n\r\n"), 201);
	CHECK_STR(buf_cstr(&e.body), "3 of -1\n");
	CHECK_INT(ask(&e, "PUT /put HTTP/1.1\r\nHost: x\r\n"
			  "Content-Length: 0\r\n\r\n"), 201);
	CHECK_INT(ask(&e, "PUT /put HTTP/1.1\r\nHost: x\r\n\r\n"), 411);
	CHECK_INT(freed, 3);
}

TEST(streamed_answers)
{
	WITH_SERVER;

	CHECK_INT(ask(&e, GET("/stream")), 200);
	CHECK_INT(buf_len(&e.body), 5000);
	CHECK(strstr(buf_cstr(&e.head), "chunked"));
	CHECK_INT(ask(&e, GET("/length")), 200);
	CHECK_INT(buf_len(&e.body), 5000);
	CHECK(strstr(buf_cstr(&e.head), "Content-Length: 5000\r\n"));
	CHECK_INT(ask(&e, GET("/cut")), -1);
	reconnect(&e);
	CHECK_INT(ask(&e, GET("/file")), 206);
	CHECK_INT(buf_len(&e.body), 20);
	CHECK(strstr(buf_cstr(&e.head), "Content-Range: bytes 10-29/*\r\n"));
}

TEST(a_waiting_handler_sees_its_client_leave)
{
	WITH_SERVER;
	uint64_t start;

	raw_puts(e.fd, GET("/wait"));
	expect_fd(waiting_fd);
	start = clock_now();
	reconnect(&e);
	expect_fd(left_fd);
	CHECK(clock_now() - start < NSEC_PER_SEC);

	raw_puts(e.fd, GET("/slow"));
	expect_fd(waiting_fd);
	still_serves(&e);
	expect_fd(left_fd);
}

TEST(a_waiting_handler_sees_the_server_end)
{
	WITH_SERVER;

	raw_puts(e.fd, GET("/wait"));
	expect_fd(waiting_fd);
	http_server_free(e.s);
	e.s = NULL;
	expect_fd(left_fd);
	CHECK(raw_closed(e.fd, 2000));
}

TEST(the_end_does_not_wait_for_idle_clients)
{
	WITH_SERVER;
	int more[5];
	uint64_t start;

	for (int i = 0; i < 5; i++)
		more[i] = connect_to(e.s, NULL);
	raw_puts(more[0], "GET /sho");
	raw_puts(more[1], "POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc");
	CHECK_INT(ask(&e, GET("/show/x")), 200);
	start = clock_now();
	http_server_free(e.s);
	e.s = NULL;
	CHECK(clock_now() - start < 2 * NSEC_PER_SEC);
	for (int i = 0; i < 5; i++) {
		CHECK(raw_closed(more[i], 2000));
		close(more[i]);
	}
}

TEST(dripping_clients_meet_their_deadline)
{
	CLEANUP(env_close) struct env e;
	static const char *const begin[] = {
		"GET /show/x HTTP/1.1\r\nX-One: ",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", "",
	};

	uint64_t start;
	int fd[3];

	env_open(&e, 8, 0, 1);
	start = clock_now();
	for (size_t i = 0; i < 3; i++) {
		fd[i] = connect_to(e.s, NULL);
		raw_puts(fd[i], begin[i]);
	}
	for (int open = 3; open;) {
		CHECK(clock_now() - start < (uint64_t)(4e9 * clock_scale()));
		for (size_t i = 0; i < 3; i++) {
			if (fd[i] < 0)
				continue;
			if (i < 2)
				raw_puts(fd[i], "a");
			if (!raw_closed(fd[i], 30))
				continue;
			CHECK(clock_now() - start >
			      (uint64_t)(0.9e9 * clock_scale()));
			close(fd[i]);
			fd[i] = -1;
			open--;
		}
	}
	still_serves(&e);
}

TEST(slow_clients_do_not_lock_others_out)
{
	CLEANUP(env_close) struct env e;
	struct va_caller caller = { .cred = PEER_CRED_UNKNOWN };
	int slow[100];

	env_open(&e, 8, 0, 0);
	for (int i = 0; i < 100; i++) {
		int fds[2], r;

		/* Evicted threads may take a moment: then it says so. */
		CHECK_INT(sock_pair(SOCK_STREAM, fds), 0);
		r = http_server_adopt(e.s, fds[1], &caller);
		CHECK(r == 0 || r == -EMFILE);
		slow[i] = fds[0];
		raw_puts(slow[i], "GET /show/x HTTP/1.1\r\n");
		CHECK(http_server_connections(e.s) <= 8);
	}
	still_serves(&e);
	for (int i = 0; i < 100; i++)
		close(slow[i]);
}

TEST(busy_connections_are_never_closed_for_others)
{
	CLEANUP(env_close) struct env e;
	struct va_caller caller = { .cred = PEER_CRED_UNKNOWN };
	int busy[8], fds[2];

	env_open(&e, 8, 0, 0);
	busy[0] = e.fd;
	for (int i = 0; i < 8; i++) {
		if (i)
			busy[i] = connect_to(e.s, "g1");
		raw_puts(busy[i], GET("/wait"));
		expect_fd(waiting_fd);
	}
	CHECK_INT(http_server_connections(e.s), 8);
	CHECK_INT(sock_pair(SOCK_STREAM, fds), 0);
	CHECK_INT(http_server_adopt(e.s, fds[1], &caller), -EMFILE);
	CHECK(raw_closed(fds[0], 1000));
	close(fds[0]);
	for (int i = 1; i < 8; i++) {
		close(busy[i]);
		expect_fd(left_fd);
	}
	still_serves(&e);
}

TEST(one_guest_cannot_take_all_places)
{
	CLEANUP(env_close) struct env e;
	struct va_caller g2 = { .cred = PEER_CRED_UNKNOWN, .guest = "g2" };
	int g2fd[4], fds[2];

	env_open(&e, 8, 3, 0);
	for (int i = 0; i < 3; i++) {
		g2fd[i] = connect_to(e.s, "g2");
		raw_puts(g2fd[i], GET("/wait"));
		expect_fd(waiting_fd);
	}
	CHECK_INT(sock_pair(SOCK_STREAM, fds), 0);
	CHECK_INT(http_server_adopt(e.s, fds[1], &g2), -EMFILE);
	close(fds[0]);
	CHECK_INT(ask(&e, GET("/show/x")), 200);
	for (int i = 0; i < 3; i++) {
		close(g2fd[i]);
		expect_fd(left_fd);
	}
}

TEST(another_protocol_takes_over)
{
	WITH_SERVER;
	char b[64];

	for (int i = 0; i < 30; i++) {
		size_t n = 0;

		reconnect(&e);
		CHECK(raw_puts(e.fd, "GET /up HTTP/1.1\r\nHost: x\r\n"
				     "Connection: Upgrade\r\nUpgrade: va-test\r\n"
				     "\r\nearly"));
		CHECK_INT(reply(&e), 101);
		CHECK(strstr(buf_cstr(&e.head), "Upgrade: va-test\r\n"));
		CHECK(raw_puts(e.fd, "-late-Q"));
		while (n < 18) {
			struct pollfd p = { .fd = e.fd, .events = POLLIN };
			ssize_t got = 0;

			if (buf_len(&e.in)) {
				got = (ssize_t)buf_len(&e.in);
				CHECK_INT(buf_get(&e.in, b + n, (size_t)got), 0);
			} else {
				CHECK_INT(poll(&p, 1, 5000), 1);
				got = recv(e.fd, b + n, sizeof(b) - n, 0);
			}
			CHECK(got > 0);
			n += (size_t)got;
		}
		CHECK_MEM(b, "hello early-late-Q", 18);
		CHECK(raw_closed(e.fd, 2000));
		expect_fd(left_fd);
	}
	still_serves(&e);
}

TEST(the_end_reaches_another_protocol)
{
	WITH_SERVER;

	CHECK(raw_puts(e.fd, "GET /up HTTP/1.1\r\nHost: x\r\n"
			     "Connection: Upgrade\r\nUpgrade: va-test\r\n\r\n"));
	CHECK_INT(reply(&e), 101);
	http_server_free(e.s);
	e.s = NULL;
	expect_fd(left_fd);
	CHECK(raw_closed(e.fd, 2000));
}

static void *client_main(void *arg)
{
	struct env *e = arg;
	struct env mine = { .s = e->s };

	buf_init(&mine.in, 1 << 20);
	buf_init(&mine.head, 1 << 20);
	buf_init(&mine.body, 1 << 20);
	for (int i = 0; i < 20; i++) {
		mine.fd = connect_to(e->s, NULL);
		for (int k = 0; k < 5; k++)
			CHECK_INT(ask(&mine, GET("/stream")), 200);
		close(mine.fd);
		buf_reset(&mine.in);
	}
	buf_done(&mine.in);
	buf_done(&mine.head);
	buf_done(&mine.body);
	return NULL;
}

TEST(many_clients_at_once)
{
	CLEANUP(env_close) struct env e;
	pthread_t t[6];

	env_open(&e, 100, 0, 0);
	for (int i = 0; i < 6; i++)
		CHECK_INT(pthread_create(&t[i], NULL, client_main, &e), 0);
	for (int i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
}

UNIT_MAIN(CASE(a_request_is_taken_apart), CASE(connections_are_kept),
	  CASE(pipelined_requests_are_all_answered),
	  CASE(bodies_come_with_a_length_or_in_chunks), CASE(head_has_no_body),
	  CASE(wrong_requests_get_their_status),
	  CASE(garbage_ends_the_connection_only), CASE(headers_are_bounded),
	  CASE(body_limit), CASE(a_refusal_reaches_a_client_that_is_sending),
	  CASE(streamed_bodies_arrive_whole), CASE(streamed_answers),
	  CASE(a_waiting_handler_sees_its_client_leave),
	  CASE(a_waiting_handler_sees_the_server_end),
	  CASE(the_end_does_not_wait_for_idle_clients),
	  CASE(dripping_clients_meet_their_deadline),
	  CASE(slow_clients_do_not_lock_others_out),
	  CASE(busy_connections_are_never_closed_for_others),
	  CASE(one_guest_cannot_take_all_places),
	  CASE(another_protocol_takes_over),
	  CASE(the_end_reaches_another_protocol), CASE(many_clients_at_once))
