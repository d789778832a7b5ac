/*
 * http_upgrade.c - the client's side of an HTTP Upgrade (http_client.h)
 *
 * libcurl gives no way to keep a connection after "101 Switching Protocols"; so
 * the request is written and the head read here.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/http_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/sock.h"
#include "common/str.h"

#define HEAD_MAX (32u << 10)

static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		uint64_t now = clock_now();
		int ms = -1, n;

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		if (deadline_ns != CLOCK_NEVER)
			ms = (int)((deadline_ns - now) / NSEC_PER_MSEC % 3600000 + 1);
		n = poll(&p, 1, ms);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static int send_request(int fd, const struct http_call *call, const char *token,
			enum http_progress *progress)
{
	CLEANUP_BUF struct buf b = BUF_INIT(1u << 20);
	const char *const *h = call->headers;
	int r;

	r = buf_puts(&b, call->method);
	r |= buf_put_u8(&b, ' ');
	r |= buf_puts(&b, call->target);
	r |= buf_puts(&b, " HTTP/1.1\r\nHost: virtagent\r\nConnection: Upgrade\r\nUpgrade: ");
	r |= buf_puts(&b, token);
	r |= buf_puts(&b, "\r\n");
	for (; h && *h; h++) {
		r |= buf_puts(&b, *h);
		r |= buf_puts(&b, "\r\n");
	}
	r |= buf_puts(&b, "\r\n");
	if (r < 0)
		return -EMSGSIZE;
	while (buf_len(&b) > 0) {
		ssize_t n = buf_write_fd(&b, fd);

		if (n >= 0) {
			*progress = HTTP_SENT;
			continue;
		}
		if (n != -EAGAIN)
			return (int)n;
		r = wait_for(fd, POLLOUT, call->deadline_ns);
		if (r < 0)
			return r;
	}
	return 0;
}

/* More bytes behind those in b: the count, 0 at the end, negative errno. */
static ssize_t receive(int fd, struct buf *b, uint64_t deadline_ns)
{
	int r = wait_for(fd, POLLIN, deadline_ns);

	if (r < 0)
		return r;
	do
		r = (int)buf_read_fd(b, fd, 4096);
	while (r == -EAGAIN && wait_for(fd, POLLIN, deadline_ns) == 0);
	return r;
}

/* The head's length with its empty line, once it is whole. */
static int read_head(int fd, struct buf *b, uint64_t deadline_ns, size_t *len)
{
	for (;;) {
		const uint8_t *end = memmem(buf_data(b), buf_len(b), "\r\n\r\n", 4);
		ssize_t n;

		if (end) {
			*len = (size_t)(end - buf_data(b)) + 4;
			return 0;
		}
		n = receive(fd, b, deadline_ns);
		if (n <= 0)
			return n ? (int)n : -ECONNRESET;
	}
}

static int parse_status(const struct buf *head, unsigned *ret)
{
	unsigned major, minor, status;
	char line[32];

	snprintf(line, sizeof(line), "%.*s",
		 (int)(buf_len(head) < 31 ? buf_len(head) : 31),
		 (const char *)buf_data(head));
	if (sscanf(line, "HTTP/%1u.%1u %3u", &major, &minor, &status) != 3)
		return -EPROTO;
	*ret = status;
	return 0;
}

/* The body of a refusal: what there is, up to Content-Length or the end. */
static void read_refusal(int fd, const char *head, struct buf *rest,
			 struct http_call *call)
{
	const char *line = strcasestr(head, "\r\ncontent-length:");
	uint64_t length = UINT64_MAX;

	if (line) {
		char number[24];

		line += strlen("\r\ncontent-length:");
		line += strspn(line, " \t");
		snprintf(number, sizeof(number), "%.*s", (int)strspn(line, "0123456789"), line);
		if (str_to_u64(number, UINT64_MAX, &length) < 0)
			length = 0;
	}
	while (buf_len(rest) < length && receive(fd, rest, call->deadline_ns) > 0)
		;
	if (!call->reply)
		return;
	if (length > buf_len(rest))
		length = buf_len(rest);
	if (length > buf_room(call->reply))
		length = buf_room(call->reply);
	buf_put(call->reply, buf_data(rest), (size_t)length);
}

static int upgrade(int fd, struct http_call *call, const char *token,
		   struct buf *extra)
{
	CLEANUP_BUF struct buf in = BUF_INIT(HEAD_MAX);
	CLEANUP_FREE char *head = NULL;
	size_t len = 0;
	int r;

	r = send_request(fd, call, token, &call->progress);
	if (r == 0)
		r = read_head(fd, &in, call->deadline_ns, &len);
	if (r == 0)
		r = parse_status(&in, &call->status);
	if (r < 0)
		return r;
	head = strndup((const char *)buf_data(&in), len);
	if (!head)
		return -ENOMEM;
	buf_consume(&in, len);
	call->progress = HTTP_DONE;
	if (call->status == 101)
		return buf_put(extra, buf_data(&in), buf_len(&in));
	read_refusal(fd, head, &in, call);
	return -EPROTO;
}

int http_client_upgrade(struct http_client *c, struct http_call *call,
			const char *token, int *ret_fd, struct buf *extra)
{
	CLEANUP_CLOSE int fd = -1;
	int r;

	call->status = 0;
	call->error[0] = 0;
	call->progress = HTTP_NOT_CONNECTED;
	fd = sock_unix_connect(http_client_path(c));
	r = fd < 0 ? -ENOTCONN : upgrade(fd, call, token, extra);
	if (r == -EPROTO && call->status)
		snprintf(call->error, sizeof(call->error),
			 "the other side answered %u instead of 101", call->status);
	else if (r < 0)
		snprintf(call->error, sizeof(call->error), "%s",
			 fd < 0 ? strerror(-fd) : strerror(-r));
	if (r == 0)
		*ret_fd = take_fd(fd);
	return r;
}
