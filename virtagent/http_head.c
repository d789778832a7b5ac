/*
 * http_head.c - what a request's head decides: how long its body is, which route
 * takes it, or why it is refused
 *
 * Knows no HTTP library.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "common/str.h"
#include "virtagent/http_server_priv.h"

/* How long the body is and that there is but one way to see it: two proxies
 * that read lengths differently see different requests. */
int http_check_framing(struct http_request *rq, const struct http_framing *framing)
{
	if (framing->lengths > 1 || (framing->lengths && framing->encodings))
		return http_refuse(rq, 400, "more than one length of the body");
	if (framing->encodings > 1 ||
	    (framing->encodings && strcasecmp(framing->encoding, "chunked") != 0))
		return http_refuse(rq, 501, "only the chunked transfer encoding");
	if (framing->lengths && str_to_i64(framing->length, 0, INT64_MAX, &rq->length) < 0)
		return http_refuse(rq, 400, "bad Content-Length");
	rq->chunked = framing->encodings;
	rq->has_body = rq->chunked || rq->length > 0;
	return 0;
}

static int find_route(struct http_request *rq)
{
	const struct http_config *cfg = &rq->conn->server->cfg;
	bool known = false;
	char allow[128];

	if (rq->target_error == -ENOMEM)
		return http_refuse(rq, 503, strerror(ENOMEM));
	if (rq->target_error)
		return http_refuse(rq, 400, "bad request target");
	rq->route = http_route_find(cfg, rq->method, rq->target.path, &known,
				    allow, sizeof(allow));
	if (rq->route)
		return 0;
	if (!known)
		return http_refuse(rq, 404, "nothing has that path");
	http_add_header(rq, "Allow", allow);
	return http_refuse(rq, 405, allow);
}

static int check_body(struct http_request *rq)
{
	const struct http_route *route = rq->route;

	if (route->body == HTTP_BODY_NONE)
		return rq->has_body ? http_refuse(rq, 400, "a body where none belongs") :
				      0;
	if (!rq->chunked && rq->length < 0)
		return http_refuse(rq, 411, "no Content-Length");
	if (route->body != HTTP_BODY_BUFFER)
		return 0;
	if (rq->length > 0 && (uint64_t)rq->length > route->max_body)
		return http_respond_text(rq, 413,
					 "413 %s: body of %lld bytes, limit %zu",
					 http_reason(413), (long long)rq->length,
					 route->max_body);
	buf_init(&rq->body, route->max_body);
	return 0;
}

int http_route_request(struct http_request *rq)
{
	struct http_server *s = rq->conn->server;
	int r = find_route(rq);

	if (r == 0 && !rq->answered)
		r = check_body(rq);
	if (r < 0 || rq->answered || rq->route->body != HTTP_BODY_STREAM)
		return r;
	r = rq->route->handle(rq, s->cfg.context);
	if (r < 0)
		http_answer_error(rq, r);
	return 0;
}
