/*
 * http_request.h - the parts of the HTTP server that need no HTTP library:
 * request targets, routes, answers to clients that are still sending
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HTTP_REQUEST_H
#define VA_HTTP_REQUEST_H

#include <stddef.h>

#include "virtagent/http_server.h"
#include "virtagent/limits.h"

struct http_target {
	char *mem; /* path, and keys and values behind it, all decoded */
	const char *path;
	size_t npairs;
	struct http_pair {
		const char *key, *value;
	} pairs[VA_HTTP_QUERY_MAX];
};

/*
 * Takes a request target apart: "/path?key=value&key2", also with
 * "http://host" in front.  '%' escapes are decoded, '+' is a plus.  -EBADMSG for
 * a bad escape, a NUL byte, or no path; -EMSGSIZE for too many parameters; t is
 * empty then.
 */
int http_target_parse(struct http_target *t, const char *uri);
void http_target_done(struct http_target *t);

/*
 * The route of method and path; a HEAD without a route of its own is a GET.
 * NULL: *path_known says whether another method would have one, and allow (size
 * bytes) then lists them.
 */
const struct http_route *http_route_find(const struct http_config *cfg,
					 const char *method, const char *path,
					 bool *path_known, char *allow,
					 size_t size);

/* The text of a status. */
const char *http_reason(unsigned status);

/*
 * Answers on the bare socket, while the client is sending a body that nobody
 * wants any more, and ends the connection.  Waits VA_HTTP_LINGER_MS at most.
 */
void http_answer_raw(int fd, unsigned status, const char *type,
		     const void *body, size_t n);
/* Half-closes, then reads and drops what comes, for a bounded time, so that the
 * answer is not lost in the client's failure to send. */
void http_linger(int fd);

#endif
