/*
 * http_request.c - see http_request.h
 *
 * A server that answers while the client still sends, and closes, kills its own
 * answer: the client's next send fails and many never look at what came.  So
 * such a connection is half-closed and drained for a moment.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/http_request.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/str.h"

/* --- targets ------------------------------------------------------------- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes [from, from + n) to *to, with a NUL behind, and moves *to on. */
static int decode(const char *from, size_t n, char **to)
{
	char *out = *to;

	for (size_t i = 0; i < n; i++) {
		int high, low;

		if (from[i] != '%') {
			*out++ = from[i];
			continue;
		}
		high = n - i > 2 ? hex(from[i + 1]) : -1;
		low = high >= 0 ? hex(from[i + 2]) : -1;
		if (high < 0 || low < 0 || (high == 0 && low == 0))
			return -EBADMSG;
		*out++ = (char)(high << 4 | low);
		i += 2;
	}
	*out++ = 0;
	*to = out;
	return 0;
}

static int parse_pair(struct http_target *t, const char *s, size_t n, char **to)
{
	const char *equals = memchr(s, '=', n);
	size_t key_len = equals ? (size_t)(equals - s) : n;
	struct http_pair *pair = &t->pairs[t->npairs];
	int r;

	if (n == 0)
		return 0;
	if (t->npairs == VA_HTTP_QUERY_MAX)
		return -EMSGSIZE;
	pair->key = *to;
	r = decode(s, key_len, to);
	if (r < 0)
		return r;
	pair->value = *to;
	r = decode(s + key_len + (equals != NULL), n - key_len - (equals != NULL),
		   to);
	if (r == 0)
		t->npairs++;
	return r;
}

void http_target_done(struct http_target *t)
{
	free(t->mem);
	t->mem = NULL;
	t->path = "";
	t->npairs = 0;
}

int http_target_parse(struct http_target *t, const char *uri)
{
	const char *path = uri, *query, *slash;
	char *to;
	int r;

	t->npairs = 0;
	t->path = "";
	t->mem = NULL;
	if (strncasecmp(path, "http://", 7) == 0) {
		slash = strchr(path + 7, '/');
		path = slash ? slash : "/";
	}
	if (*path != '/')
		return -EBADMSG;
	/* One NUL behind the path and each key and value; '?', '&' and '=' make
	 * room for them, but for a key without '='. */
	t->mem = malloc(strlen(path) + VA_HTTP_QUERY_MAX + 2);
	if (!t->mem)
		return -ENOMEM;
	to = t->mem;
	t->path = to;
	query = strchr(path, '?');
	r = decode(path, query ? (size_t)(query - path) : strlen(path), &to);
	while (r == 0 && query && *query) {
		size_t n = strcspn(++query, "&");

		r = parse_pair(t, query, n, &to);
		query += n;
	}
	if (r < 0)
		http_target_done(t);
	return r;
}

/* --- routes -------------------------------------------------------------- */

static bool path_matches(const char *pattern, const char *path)
{
	size_t n = strlen(pattern);

	if (n && pattern[n - 1] == '*')
		return strncmp(pattern, path, n - 1) == 0;
	return strcmp(pattern, path) == 0;
}

const struct http_route *http_route_find(const struct http_config *cfg,
					 const char *method, const char *path,
					 bool *path_known, char *allow,
					 size_t size)
{
	const struct http_route *get = NULL;
	size_t used = 0;

	*path_known = false;
	if (size)
		allow[0] = 0;
	for (size_t i = 0; i < cfg->nroutes; i++) {
		const struct http_route *route = &cfg->routes[i];
		int n;

		if (!path_matches(route->path, path))
			continue;
		if (strcmp(route->method, method) == 0)
			return route;
		if (strcmp(route->method, "GET") == 0 && !get)
			get = route;
		*path_known = true;
		n = snprintf(allow + used, size - used, "%s%s", used ? ", " : "",
			     route->method);
		if (n > 0 && (size_t)n < size - used)
			used += (size_t)n;
	}
	return get && strcmp(method, "HEAD") == 0 ? get : NULL;
}

/* --- answers on the bare socket ------------------------------------------ */

const char *http_reason(unsigned status)
{
	static const struct {
		unsigned status;
		const char *text;
	} rows[] = {
		{ 400, "Bad Request" },	      { 403, "Forbidden" },
		{ 404, "Not Found" },	      { 405, "Method Not Allowed" },
		{ 408, "Request Timeout" },   { 409, "Conflict" },
		{ 411, "Length Required" },   { 413, "Content Too Large" },
		{ 415, "Unsupported Media Type" },
		{ 416, "Range Not Satisfiable" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" },
		{ 503, "Service Unavailable" },	  { 507, "Insufficient Storage" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].status == status)
			return rows[i].text;
	}
	return "Status";
}

static int ms_left(uint64_t deadline)
{
	uint64_t now = clock_now();

	return now >= deadline ? 0 : (int)((deadline - now) / NSEC_PER_MSEC) + 1;
}

static void send_all(int fd, const char *data, size_t n, uint64_t deadline)
{
	while (n) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		ssize_t sent = send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			data += sent;
			n -= (size_t)sent;
		} else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			return;
		} else if (poll(&p, 1, ms_left(deadline)) == 0) {
			return;
		}
	}
}

static uint64_t linger_deadline(void)
{
	return clock_now() + (uint64_t)(VA_HTTP_LINGER_MS * clock_scale()) *
				     NSEC_PER_MSEC;
}

void http_linger(int fd)
{
	uint64_t deadline = linger_deadline();
	size_t dropped = 0;
	char sink[16 << 10];

	shutdown(fd, SHUT_WR);
	while (dropped < VA_HTTP_LINGER_BYTES && ms_left(deadline)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
		if (n > 0)
			dropped += (size_t)n;
		else if (poll(&p, 1, ms_left(deadline)) == 0)
			return;
	}
}

void http_answer_raw(int fd, unsigned status, const char *type,
		     const void *body, size_t n)
{
	CLEANUP_FREE char *head =
		str_printf("HTTP/1.1 %u %s\r\nConnection: close\r\n"
			   "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n",
			   status, http_reason(status), type, n);
	uint64_t deadline = linger_deadline();

	if (!head)
		return;
	send_all(fd, head, strlen(head), deadline);
	send_all(fd, body, n, deadline);
	http_linger(fd);
}
