/*
 * test-va-http-client.c - requests over a unix socket against a scripted server
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/unit.h"
#include "virtagent/http_client.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/sock.h"

static char path[200];

/*
 * A server in a child: answers its n-th connection with the n-th script, after
 * it has read a request's head; a script of "" closes at once.
 */
static pid_t serve(const char *const *scripts)
{
	int listener;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/s", unit_tmpdir());
	listener = sock_unix_listen(path, (gid_t)-1);
	CHECK(listener >= 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid > 0) {
		close(listener);
		return pid;
	}
	fd_set_nonblock(listener, false);
	for (; *scripts; scripts++) {
		int fd = accept(listener, NULL, NULL);
		char in[4096] = "";
		size_t n = 0;
		ssize_t r;

		while (!strstr(in, "\r\n\r\n") && n < sizeof(in) - 1 &&
		       (r = read(fd, in + n, sizeof(in) - 1 - n)) > 0)
			in[n += (size_t)r] = 0;
		r = write(fd, *scripts, strlen(*scripts));
		if (r < 0)
			_exit(1);
		if (!strstr(*scripts, "stay"))
			close(fd);
	}
	pause();
	_exit(0);
}

static void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int call(struct http_client *c, const char *method, struct buf *reply,
		struct http_call *out)
{
	*out = (struct http_call){ .method = method,
				   .target = "/RPC2",
				   .body = "x",
				   .body_len = 1,
				   .reply = reply,
				   .deadline_ns = clock_now() + 5 * NSEC_PER_SEC };
	return http_client_perform(c, out);
}

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Thing: 7\r\n\r\nhi"

TEST(a_reply_arrives_with_its_head)
{
	static const char *const scripts[] = { OK, NULL };
	CLEANUP_BUF struct buf reply = BUF_INIT(100);
	struct http_client *c;
	struct http_call hc;
	pid_t pid = serve(scripts);

	CHECK_INT(http_global_init(), 0);
	c = http_client_new(path);
	CHECK(c);
	CHECK_INT(call(c, "POST", &reply, &hc), 0);
	CHECK_INT(hc.status, 200);
	CHECK_INT(hc.progress, HTTP_DONE);
	CHECK_STR(buf_cstr(&reply), "hi");
	CHECK_STR(http_client_reply_header(c, "x-thing"), "7");
	CHECK(!http_client_reply_header(c, "X-Other"));
	http_client_free(c);
	stop(pid);
}

TEST(nobody_there_is_never_sent)
{
	CLEANUP_BUF struct buf reply = BUF_INIT(100);
	struct http_client *c;
	struct http_call hc;

	snprintf(path, sizeof(path), "%s/none", unit_tmpdir());
	CHECK_INT(http_global_init(), 0);
	c = http_client_new(path);
	CHECK_INT(call(c, "POST", &reply, &hc), -ENOTCONN);
	CHECK_INT(hc.progress, HTTP_NOT_CONNECTED);
	CHECK(hc.error[0]);
	http_client_free(c);
}

TEST(a_cut_reply_was_sent)
{
	static const char *const scripts[] = {
		"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", NULL
	};
	CLEANUP_BUF struct buf reply = BUF_INIT(100);
	struct http_client *c;
	struct http_call hc;
	pid_t pid = serve(scripts);

	CHECK_INT(http_global_init(), 0);
	c = http_client_new(path);
	CHECK_INT(call(c, "POST", &reply, &hc), -ECONNRESET);
	CHECK_INT(hc.progress, HTTP_SENT);
	CHECK_INT(call(c, "POST", &reply, &hc), -ECONNRESET);
	CHECK_INT(hc.progress, HTTP_SENT);
	http_client_free(c);
	stop(pid);
}

/* Without the line that tells its length, the body would be empty: a file of no
 * bytes, an answer that says nothing. */
TEST(a_reply_cut_in_its_head_is_no_reply)
{
	static const char whole[] = OK;
	char text[sizeof(whole)];
	const char *const scripts[] = { text, NULL };
	CLEANUP_BUF struct buf reply = BUF_INIT(100);

	CHECK_INT(http_global_init(), 0);
	for (size_t n = 0; n < sizeof(whole) - 1; n++) {
		struct http_client *c;
		struct http_call hc;
		pid_t pid;

		memcpy(text, whole, n);
		text[n] = 0;
		pid = serve(scripts);
		c = http_client_new(path);
		CHECK(call(c, "POST", &reply, &hc) < 0);
		CHECK_INT(hc.progress, HTTP_SENT);
		CHECK(hc.error[0]);
		http_client_free(c);
		stop(pid);
	}
}

/* The second connection would be a second execution. */
TEST(a_dead_kept_connection_is_not_used_for_a_post)
{
	static const char *const scripts[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nstay",
		"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", NULL
	};
	CLEANUP_BUF struct buf reply = BUF_INIT(100);
	struct http_client *c;
	struct http_call hc;
	pid_t pid = serve(scripts);

	CHECK_INT(http_global_init(), 0);
	c = http_client_new(path);
	CHECK_INT(call(c, "GET", &reply, &hc), 0);
	CHECK_INT(call(c, "POST", &reply, &hc), 0);
	CHECK_INT(hc.status, 500);
	http_client_free(c);
	stop(pid);
}

TEST(silence_ends_at_the_deadline)
{
	static const char *const scripts[] = { "HTTP/1.1 stay", NULL };
	CLEANUP_BUF struct buf reply = BUF_INIT(100);
	uint64_t start = clock_now();
	struct http_client *c;
	struct http_call hc;
	pid_t pid = serve(scripts);

	CHECK_INT(http_global_init(), 0);
	c = http_client_new(path);
	hc = (struct http_call){ .method = "GET", .target = "/", .reply = &reply,
				 .deadline_ns = start + 200 * NSEC_PER_MSEC };
	CHECK_INT(http_client_perform(c, &hc), -ETIMEDOUT);
	CHECK(clock_now() - start < 3 * NSEC_PER_SEC);
	http_client_free(c);
	stop(pid);
}

TEST(a_reply_past_the_limit_is_refused)
{
	static const char *const scripts[] = { OK, NULL };
	CLEANUP_BUF struct buf reply = BUF_INIT(1);
	struct http_client *c;
	struct http_call hc;
	pid_t pid = serve(scripts);

	CHECK_INT(http_global_init(), 0);
	c = http_client_new(path);
	CHECK_INT(call(c, "POST", &reply, &hc), -EMSGSIZE);
	CHECK_STR(hc.error, "the reply passes the limit of 1 bytes");
	http_client_free(c);
	stop(pid);
}

TEST(upgrade_gives_the_socket_and_what_followed)
{
	static const char *const scripts[] = {
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: t/1\r\n\r\nstay",
		"HTTP/1.1 403 No\r\nContent-Length: 7\r\n\r\nrefused", NULL
	};
	CLEANUP_BUF struct buf extra = BUF_INIT(100), reply = BUF_INIT(100);
	struct http_client *c;
	struct http_call hc = { .method = "GET", .target = "/x", .reply = &reply,
				.deadline_ns = CLOCK_NEVER };
	pid_t pid = serve(scripts);
	int fd = -1;

	CHECK_INT(http_global_init(), 0);
	c = http_client_new(path);
	CHECK_INT(http_client_upgrade(c, &hc, "t/1", &fd, &extra), 0);
	CHECK_INT(hc.status, 101);
	while (buf_len(&extra) < 4) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		poll(&p, 1, 1000);
		CHECK(buf_read_fd(&extra, fd, 4) > 0);
	}
	CHECK_STR(buf_cstr(&extra), "stay");
	close(fd);
	CHECK_INT(http_client_upgrade(c, &hc, "t/1", &fd, &extra), -EPROTO);
	CHECK_INT(hc.status, 403);
	CHECK_STR(buf_cstr(&reply), "refused");
	http_client_free(c);
	stop(pid);
}

struct multi_test {
	struct loop *loop;
	int error, left;
};

static void on_done(void *arg, struct http_call *hc, int error)
{
	struct multi_test *t = arg;

	t->error |= error;
	if (--t->left == 0)
		loop_stop(t->loop);
}

TEST(many_at_once_on_the_loop)
{
	static const char *const scripts[] = { OK, OK, OK, NULL };
	struct buf replies[3] = { BUF_INIT(9), BUF_INIT(9), BUF_INIT(9) };
	struct multi_test t = { .loop = loop_new(), .left = 3 };
	struct http_call calls[3];
	struct http_multi *m;
	pid_t pid = serve(scripts);

	CHECK_INT(http_global_init(), 0);
	m = http_multi_new(t.loop);
	CHECK(m);
	for (int i = 0; i < 3; i++) {
		calls[i] = (struct http_call){
			.method = "GET", .target = "/", .reply = &replies[i],
			.deadline_ns = clock_now() + 5 * NSEC_PER_SEC };
		CHECK_INT(http_multi_start(m, path, &calls[i], on_done, &t), 0);
	}
	CHECK_INT(loop_run(t.loop), 0);
	CHECK_INT(t.error, 0);
	for (int i = 0; i < 3; i++) {
		CHECK_STR(buf_cstr(&replies[i]), "hi");
		buf_done(&replies[i]);
	}
	http_multi_free(m);
	loop_free(t.loop);
	stop(pid);
}

UNIT_MAIN(CASE(a_reply_arrives_with_its_head), CASE(nobody_there_is_never_sent),
	  CASE(a_cut_reply_was_sent),
	  CASE(a_reply_cut_in_its_head_is_no_reply),
	  CASE(a_dead_kept_connection_is_not_used_for_a_post),
	  CASE(silence_ends_at_the_deadline),
	  CASE(a_reply_past_the_limit_is_refused),
	  CASE(upgrade_gives_the_socket_and_what_followed),
	  CASE(many_at_once_on_the_loop))
