/*
 * http_server_priv.h - what the HTTP server's parts share: http_server.c (requests
 * as they come), http_head.c (what their heads decide) and http_exchange.c (what a
 * handler sees and answers)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HTTP_SERVER_PRIV_H
#define VA_HTTP_SERVER_PRIV_H

#include "common/buf.h"
#include "virtagent/http_conn.h"
#include "virtagent/http_request.h"
#include "virtagent/http_server.h"

struct MHD_Connection;
struct MHD_Daemon;

#define HEADERS_MAX 16

enum phase {
	PHASE_HEAD, /* on_request() was not called yet */
	PHASE_BODY, /* pieces may come */
	PHASE_DONE, /* all is here, or nobody wants the rest */
};

struct conn;

struct http_request {
	struct conn *conn;
	struct MHD_Connection *mhd;
	struct http_target target;
	int target_error;
	const char *method;
	const struct http_route *route;
	enum phase phase;
	bool has_body, chunked;
	bool answered; /* a response is queued, or stands in raw */
	bool in_piece; /* the library takes no response now */
	int64_t length;
	struct buf body;
	struct {
		unsigned status;
		char *type;
		struct buf body;
	} raw; /* what was answered while in_piece */
	struct {
		char *name, *value;
	} headers[HEADERS_MAX];
	size_t nheaders;
	void *data;
	void (*free_data)(void *);
};

struct upgrade {
	void (*run)(void *arg, int fd, const void *extra, size_t extra_len);
	void *arg;
};

struct conn {
	struct http_conn base;
	struct http_server *server;
	struct upgrade upgrade;
	struct http_request rq;
};

struct http_server {
	struct http_config cfg;
	struct MHD_Daemon *daemon;
	struct http_conns conns;
};

/* What a head says of its body's length: how often, and the last of each. */
struct http_framing {
	unsigned lengths, encodings;
	const char *length, *encoding;
};

/* Answers "STATUS REASON: text". */
int http_refuse(struct http_request *rq, unsigned status, const char *text);
/* What a handler or a part of it returned, when it did not answer itself: 500. */
void http_answer_error(struct http_request *rq, int r);

/* How long the body is, into rq; answers when that is not clear.  0 or a negative
 * errno (the answer could not be given). */
int http_check_framing(struct http_request *rq, const struct http_framing *framing);
/*
 * Finds the route, or refuses the request; gets ready for the body, and runs a
 * streaming route's handler.  0, rq->answered says which; or a negative errno (no
 * answer could be given).
 */
int http_route_request(struct http_request *rq);

#endif
