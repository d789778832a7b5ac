/*
 * test-va-nomem-http.c - every allocation of an HTTP request fails once, at the
 * client (one that blocks, or one on a loop) or at the server's threads, libcurl's and
 * libmicrohttpd's too (tests/lib/nomem.h)
 *
 * A reply is right or there is none, in time and with the reason; both ends then
 * go on.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/loop.h"
#include "common/sock.h"
#include "common/str.h"
#include "tests/lib/nomem.h"
#include "tests/lib/unit.h"
#include "virtagent/http_client.h"
#include "virtagent/http_server.h"

#define BODY_SIZE 20000u
#define IN_TIME (5 * NSEC_PER_SEC)

/* --- the server, and the thread that accepts for it ------------------------- */

static char body[BODY_SIZE + 1];

static int do_echo(struct http_request *rq, void *ctx)
{
	const struct buf *b = http_request_body(rq);

	return http_respond(rq, 200, "application/x", buf_data(b), buf_len(b));
}

static int do_put(struct http_request *rq, void *ctx)
{
	size_t *sum = calloc(1, sizeof(*sum));

	if (!sum)
		return -ENOMEM;
	http_request_set_data(rq, sum, free);
	return 0;
}

static int put_piece(struct http_request *rq, const void *data, size_t n)
{
	*(size_t *)http_request_data(rq) += n;
	return 0;
}

static int put_end(struct http_request *rq)
{
	return http_respond_text(rq, 200, "%zu bytes",
				 *(size_t *)http_request_data(rq));
}

static int do_file(struct http_request *rq, void *ctx)
{
	const char *name = http_request_query(rq, "name");
	int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return http_respond_text(rq, 404, "nothing of that name");
	return http_respond_fd(rq, 200, "application/x", fd, 0, BODY_SIZE);
}

static ssize_t read_body(void *arg, void *to, size_t max)
{
	size_t *at = arg, n = BODY_SIZE - *at < max ? BODY_SIZE - *at : max;

	memcpy(to, body + *at, n);
	*at += n;
	return (ssize_t)n;
}

static int do_stream(struct http_request *rq, void *ctx)
{
	size_t *at = calloc(1, sizeof(*at));

	if (!at)
		return -ENOMEM;
	return http_respond_stream(rq, 200, "application/x", -1, read_body, free, at);
}

static const struct http_route routes[] = {
	{ .method = "POST", .path = "/echo", .body = HTTP_BODY_BUFFER,
	  .max_body = 1 << 20, .handle = do_echo },
	{ .method = "PUT", .path = "/put", .body = HTTP_BODY_STREAM,
	  .handle = do_put, .piece = put_piece, .end = put_end },
	{ .method = "GET", .path = "/file", .handle = do_file },
	{ .method = "GET", .path = "/stream", .handle = do_stream },
};

struct site {
	struct http_server *server;
	pthread_t thread;
	int listener;
	char path[200];
};

static void *accept_all(void *arg)
{
	struct site *site = arg;
	const struct va_caller caller = { .guest = "g" };
	int fd;

	/* A connection that cannot be served is closed: the client sees it. */
	while ((fd = accept4(site->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		http_server_adopt(site->server, fd, &caller);
	return NULL;
}

/* That a start fails is test-hostd-nomem.c's. */
static void site_start(struct site *site)
{
	const struct http_config cfg = { .routes = routes,
					 .nroutes = sizeof(routes) / sizeof(routes[0]) };

	nomem_hold(true);
	site->server = http_server_new(&cfg);
	CHECK(site->server);
	snprintf(site->path, sizeof(site->path), "%s/s", unit_tmpdir());
	unlink(site->path);
	site->listener = sock_unix_listen(site->path, (gid_t)-1);
	CHECK(site->listener >= 0);
	fd_set_nonblock(site->listener, false);
	CHECK_INT(pthread_create(&site->thread, NULL, accept_all, site), 0);
	nomem_hold(false);
}

static void site_end(struct site *site)
{
	shutdown(site->listener, SHUT_RDWR);
	pthread_join(site->thread, NULL);
	close(site->listener);
	http_server_free(site->server);
}

/* --- requests ------------------------------------------------------------------ */

static ssize_t source(void *arg, void *to, size_t max)
{
	return read_body(arg, to, max);
}

/* A request that was made ready, and the reply it wants. */
struct asked {
	struct http_call call;
	struct buf reply;
	size_t at;
	const char *want;
	struct crowd *crowd; /* of a loop's, or NULL */
};

static void ask_init(struct asked *a, const char *method, const char *target,
		     const char *want)
{
	*a = (struct asked){ .reply = BUF_INIT(1 << 20), .want = want };
	a->call = (struct http_call){ .method = method, .target = target,
				      .reply = &a->reply, .arg = &a->at,
				      .deadline_ns = clock_now() + IN_TIME };
	if (!strcmp(method, "POST")) {
		a->call.body = body;
		a->call.body_len = BODY_SIZE;
	} else if (!strcmp(method, "PUT")) {
		a->call.source = source;
		a->call.body_total = BODY_SIZE;
	}
}

/* r is what became of it. */
static int ask_done(struct asked *a, int r)
{
	const struct http_call *c = &a->call;

	CHECK(r == 0 || c->error[0]);
	/* Whoever has no memory says so or leaves: nobody waits for him. */
	CHECK(r != -ETIMEDOUT);
	if (r == 0)
		CHECK_INT(c->progress, HTTP_DONE);
	if (r == 0 && c->status >= 500)
		r = -EREMOTEIO;
	if (r == 0 && c->status != 200)
		unit_fail(__FILE__, __LINE__, "%s %s: %u %s", c->method, c->target,
			  c->status, buf_cstr(&a->reply));
	if (r == 0) {
		CHECK_INT(buf_len(&a->reply), strlen(a->want));
		CHECK_MEM(buf_data(&a->reply), a->want, buf_len(&a->reply));
	}
	buf_done(&a->reply);
	return r;
}

static int request(struct http_client *c, const char *method, const char *target,
		   const char *want)
{
	struct asked a;

	ask_init(&a, method, target, want);
	return ask_done(&a, http_client_perform(c, &a.call));
}

static const char *const kinds[][2] = {
	{ "POST", "/echo" }, { "PUT", "/put" }, { "GET", "/stream" },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const char *want_of(size_t kind)
{
	return kind == 1 ? "20000 bytes\n" : body;
}

static int all_kinds(const char *path)
{
	struct http_client *c = http_client_new(path);
	CLEANUP_FREE char *file = str_printf("/file?name=%s/file", unit_tmpdir());
	int r = c && file ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < KINDS; i++)
		r = request(c, kinds[i][0], kinds[i][1], want_of(i));
	/* Twice: on a kept connection, too. */
	for (int i = 0; r == 0 && i < 2; i++)
		r = request(c, "GET", file, body);
	http_client_free(c);
	return r;
}

static int once(void)
{
	struct site site;
	int r;

	site_start(&site);
	r = all_kinds(site.path);
	nomem_hold(true);
	/* The same server serves the next one. */
	CHECK_INT(all_kinds(site.path), 0);
	nomem_hold(false);
	site_end(&site);
	return r;
}

/* --- requests of a loop ---------------------------------------------------------- */

struct crowd {
	struct loop *loop;
	unsigned left;
	int r; /* of the last that failed */
};

static void one_came(struct crowd *crowd, struct asked *a, int r)
{
	r = ask_done(a, r);
	if (r < 0)
		crowd->r = r;
	if (--crowd->left == 0)
		loop_stop(crowd->loop);
}

static void on_reply(void *arg, struct http_call *call, int error)
{
	struct asked *a = arg;

	one_came(a->crowd, a, error);
}

/* All kinds at once. */
static int crowd_of(struct loop *loop, struct http_multi *m, const char *path)
{
	struct crowd crowd = { .loop = loop, .left = KINDS };
	struct asked a[KINDS];

	for (size_t i = 0; i < KINDS; i++) {
		int r;

		ask_init(&a[i], kinds[i][0], kinds[i][1], want_of(i));
		a[i].crowd = &crowd;
		r = http_multi_start(m, path, &a[i].call, on_reply, &a[i]);
		if (r < 0)
			one_came(&crowd, &a[i], r);
	}
	CHECK(loop_run(loop) == 0 && crowd.left == 0);
	return crowd.r;
}

static int loop_once(void)
{
	struct http_multi *m = NULL;
	struct loop *loop = loop_new();
	struct site site;
	int r = -ENOMEM;

	site_start(&site);
	if (loop)
		m = http_multi_new(loop);
	if (m) {
		r = crowd_of(loop, m, site.path);
		nomem_hold(true);
		/* The same client serves the next ones. */
		CHECK_INT(crowd_of(loop, m, site.path), 0);
		nomem_hold(false);
	}
	http_multi_free(m);
	loop_free(loop);
	site_end(&site);
	return r;
}

static void fill_body(void)
{
	for (size_t i = 0; i < BODY_SIZE; i++)
		body[i] = (char)('a' + i % 26);
	CHECK_INT(http_global_init(), 0);
}

TEST(a_loops_requests_are_answered_or_not)
{
	fill_body();
	nomem_each(loop_once, 0);
}

TEST(requests_are_answered_or_not)
{
	CLEANUP_FREE char *name = str_printf("%s/file", unit_tmpdir());
	CLEANUP_FCLOSE FILE *f = fopen(name, "w");

	CHECK(f);
	fill_body();
	CHECK_INT(fwrite(body, 1, BODY_SIZE, f), BODY_SIZE);
	CHECK_INT(fflush(f), 0);
	nomem_each(once, 0);
}

UNIT_MAIN(CASE_SLOW(requests_are_answered_or_not, 120),
	  CASE_SLOW(a_loops_requests_are_answered_or_not, 120))
