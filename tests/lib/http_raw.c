/*
 * http_raw.c - see http_raw.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/http_raw.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "common/clock.h"

bool raw_send(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n) {
		struct pollfd w = { .fd = fd, .events = POLLOUT };
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

		if (sent > 0) {
			p += sent;
			n -= (size_t)sent;
		} else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			return false;
		} else if (poll(&w, 1, (int)(5000 * clock_scale())) <= 0) {
			return false;
		}
	}
	return true;
}

bool raw_puts(int fd, const char *text)
{
	return raw_send(fd, text, strlen(text));
}

/* More bytes to in: 1, 0 at the end, -2 after silence. */
static int more(int fd, struct buf *in)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, (int)(5000 * clock_scale())) <= 0)
		return -2;
	n = buf_read_fd(in, fd, 64 << 10);
	return n > 0 ? 1 : 0;
}

static int take(int fd, struct buf *in, struct buf *to, size_t n)
{
	while (buf_len(in) < n) {
		int r = more(fd, in);

		if (r <= 0)
			return r ? r : -1;
	}
	if (to && buf_put(to, buf_data(in), n) < 0)
		return -1;
	buf_consume(in, n);
	return 0;
}

/* A line with its CRLF to line. */
static int take_line(int fd, struct buf *in, struct buf *line)
{
	for (;;) {
		const uint8_t *nl = memchr(buf_data(in), '\n', buf_len(in));
		int r;

		if (nl)
			return take(fd, in, line, (size_t)(nl - buf_data(in)) + 1);
		r = more(fd, in);
		if (r <= 0)
			return r ? r : buf_len(in) ? -1 : 1;
	}
}

static int take_chunks(int fd, struct buf *in, struct buf *body)
{
	for (;;) {
		CLEANUP_BUF struct buf line = BUF_INIT(256);
		size_t n;
		int r = take_line(fd, in, &line);

		if (r)
			return -1;
		n = strtoul(buf_cstr(&line), NULL, 16);
		r = take(fd, in, body, n);
		if (r == 0)
			r = take(fd, in, NULL, 2);
		if (r || n == 0)
			return r;
	}
}

int raw_response(int fd, struct buf *in, struct buf *head, struct buf *body,
		 bool no_body)
{
	long long length = -1;
	bool chunked = false;
	int status = 0, r = 0;

	buf_reset(head);
	buf_reset(body);
	for (;;) {
		CLEANUP_BUF struct buf line = BUF_INIT(16 << 10);
		const char *s;

		r = take_line(fd, in, &line);
		if (r)
			return r == 1 && !buf_len(head) ? 0 : r == 1 ? -1 : r;
		s = buf_cstr(&line);
		if (!status)
			status = atoi(s + 9);
		buf_puts(head, s);
		if (strncasecmp(s, "Content-Length:", 15) == 0)
			length = atoll(s + 15);
		if (strncasecmp(s, "Transfer-Encoding: chunked", 26) == 0)
			chunked = true;
		if (*s == '\r' || *s == '\n')
			break;
	}
	if (no_body || status / 100 == 1 || status == 204)
		return status;
	if (chunked)
		r = take_chunks(fd, in, body);
	else if (length >= 0)
		r = take(fd, in, body, (size_t)length);
	else
		while (take(fd, in, body, 1) == 0)
			;
	return r < 0 ? r : status;
}

int raw_closed(int fd, int ms)
{
	uint64_t end = clock_now() +
		       (uint64_t)(ms * clock_scale()) * NSEC_PER_MSEC;
	char sink[4096];

	for (;;) {
		uint64_t now = clock_now();
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (now >= end ||
		    poll(&p, 1, (int)((end - now) / NSEC_PER_MSEC) + 1) <= 0)
			return 0;
		n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return 1;
	}
}
