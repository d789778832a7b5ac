/*
 * forward.c - see forward.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/exec_session.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"
#include "virtagent/http_client.h"
#include "virtagent/limits.h"
#include "virtagent/stream.h"

#define QUERY_MAX (16u << 10)
#define REPLY_MAX 4096u

static int build_query(const struct forward *f, enum forward_what what, struct buf *b)
{
	char number[16];
	int r;

	snprintf(number, sizeof(number), "%u", f->listener);
	if (what == FORWARD_CONNECT) {
		r = buf_puts(b, "/connect?");
		r |= exec_add_query(b, "to", f->target);
	} else if (what == FORWARD_LISTEN) {
		r = buf_puts(b, "/listen?");
		r |= exec_add_query(b, "at", f->listen);
	} else {
		r = buf_puts(b, "/accept?");
		r |= exec_add_query(b, "listener", number);
	}
	return r < 0 || !buf_cstr(b) ? -E2BIG : 0;
}

static int report(const struct forward *f, struct http_call *call, int r)
{
	const char *text = buf_cstr(call->reply);

	if (r == -EPROTO && text && *text)
		out_error(f->who, "forward", "%.*s", (int)strcspn(text, "\r\n"), text);
	else
		out_error(f->who, "forward", "%s", call->error);
	return r == -ETIMEDOUT ? VAC_TIMEOUT : r == -ENOTCONN ? VAC_NOT_CONNECTED :
								VAC_ERROR;
}

int forward_open(const struct forward *f, enum forward_what what, int *ret_fd,
		 struct buf *extra, bool loud)
{
	CLEANUP_RPC struct rpc *rpc = rpc_open(f->cl, &f->to);
	CLEANUP_BUF struct buf query = BUF_INIT(QUERY_MAX), reply = BUF_INIT(REPLY_MAX);
	struct http_call call = {
		.method = "GET",
		.reply = &reply,
		.deadline_ns = what == FORWARD_ACCEPT ?
				       CLOCK_NEVER :
				       client_deadline(f->cl, CLIENT_CALL_NS),
	};
	int r, code = rpc ? rpc_check(rpc) : VAC_ERROR;

	if (code) {
		if (loud && rpc)
			rpc_report(rpc, "forward", code);
		return code;
	}
	r = build_query(f, what, &query);
	call.target = buf_cstr(&query);
	if (r < 0) {
		out_error(f->who, "forward", "the target passes %u bytes", QUERY_MAX);
		return VAC_USAGE;
	}
	r = http_client_upgrade(rpc_http(rpc), &call,
				what == FORWARD_LISTEN ? LISTEN_TOKEN : STREAM_TOKEN, ret_fd,
				extra);
	if (r < 0)
		return loud ? report(f, &call, r) : VAC_ERROR;
	return 0;
}

/* --- listening here ------------------------------------------------------------- */

static int fail_here(const struct forward *f, const char *what, int r)
{
	out_error(NULL, "forward", "%s: %s", what, strerror(-r));
	return r;
}

static unsigned bound_port(int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a = { .any.sa_family = AF_UNSPEC };
	socklen_t len = sizeof(a);

	if (getsockname(fd, &a.any, &len) < 0)
		return 0;
	return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

int forward_listen_here(const struct forward *f, char *text, size_t size)
{
	char host[256];
	const char *port;
	int fd;

	if (str_starts(f->listen, "unix:")) {
		fd = sock_unix_listen(f->listen + 5, (gid_t)-1);
		snprintf(text, size, "%s", f->listen);
		return fd < 0 ? fail_here(f, f->listen, fd) : fd;
	}
	if (sock_host_port(f->listen, host, sizeof(host), &port) < 0) {
		out_error(NULL, "forward", "%s: needs [ADDRESS:]PORT or unix:PATH", f->listen);
		return -EINVAL;
	}
	fd = sock_tcp_listen(*host ? host : "127.0.0.1", port);
	if (fd < 0)
		return fail_here(f, f->listen, fd);
	snprintf(text, size, strchr(host, ':') ? "[%s]:%u" : "%s:%u",
		 *host ? host : "127.0.0.1", bound_port(fd));
	return fd;
}

void forward_unlisten(const struct forward *f)
{
	if (str_starts(f->listen, "unix:"))
		unlink(f->listen + 5);
}

/* --- the other way round ------------------------------------------------------------ */

/* The guest's line, "listener N at ADDRESS"; what follows stays away. */
static int read_line(int fd, struct buf *b, uint64_t deadline)
{
	while (!memchr(buf_data(b), '\n', buf_len(b))) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_now();
		ssize_t n;

		if (now >= deadline)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)((deadline - now) / NSEC_PER_MSEC % 3600000 + 1)) < 0)
			return -errno;
		n = buf_read_fd(b, fd, 256);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && n != -EAGAIN)
			return (int)n;
	}
	return 0;
}

int forward_listen_there(struct forward *f, int *ret_fd, char *text, size_t size)
{
	CLEANUP_BUF struct buf line = BUF_INIT(REPLY_MAX);
	char address[80];
	int r, code = forward_open(f, FORWARD_LISTEN, ret_fd, &line, true);

	if (code)
		return code;
	r = read_line(*ret_fd, &line, client_deadline(f->cl, CLIENT_CALL_NS));
	if (r == 0 && (!buf_cstr(&line) || sscanf(buf_cstr(&line), "listener %u at %79s",
						  &f->listener, address) != 2))
		r = -EBADMSG;
	if (r < 0) {
		out_error(f->who, "forward", "%s: %s", f->listen, strerror(-r));
		return VAC_ERROR;
	}
	snprintf(text, size, "%s", address);
	return 0;
}

int forward_connect_here(const struct forward *f)
{
	uint64_t deadline = clock_now() + VA_CONNECT_S * NSEC_PER_SEC;
	char host[256];
	const char *port;
	int fd, r = 0;

	if (str_starts(f->target, "unix:")) {
		fd = sock_unix_connect(f->target + 5);
		return fd < 0 ? fail_here(f, f->target, fd) : fd;
	}
	if (sock_host_port(f->target, host, sizeof(host), &port) < 0)
		return fail_here(f, f->target, -EINVAL);
	fd = sock_tcp_connect(*host ? host : "127.0.0.1", port);
	if (fd < 0)
		return fail_here(f, f->target, fd);
	while (r == 0) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		uint64_t now = clock_now();

		if (now >= deadline)
			r = -ETIMEDOUT;
		else if (poll(&p, 1, (int)((deadline - now) / NSEC_PER_MSEC + 1)) > 0)
			break;
	}
	if (r == 0)
		r = sock_error(fd);
	if (r == 0)
		return fd;
	close(fd);
	return fail_here(f, f->target, r);
}
