/*
 * http_server.c - see http_server.h
 *
 * libmicrohttpd runs a thread for each connection and calls on_request(): once
 * with the head, once per piece of body, once at the body's end.  It may be
 * answered in the first or the last of these calls only; an answer in between
 * (a body that is too long, a file that cannot be written) goes out on the bare
 * socket.  Nothing is ever suspended: that hangs in this mode of the library.
 *
 * Places, deadlines and the cancel fd are http_conn.c's.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/http_server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/http_conn.h"
#include "virtagent/http_request.h"

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

/* --- connections --------------------------------------------------------- */

static void request_reset(struct http_request *rq)
{
	if (rq->data && rq->free_data)
		rq->free_data(rq->data);
	for (size_t i = 0; i < rq->nheaders; i++) {
		free(rq->headers[i].name);
		free(rq->headers[i].value);
	}
	http_target_done(&rq->target);
	buf_done(&rq->body);
	buf_done(&rq->raw.body);
	free(rq->raw.type);
	memset(rq, 0, sizeof(*rq));
}

static void conn_free(struct conn *c)
{
	request_reset(&c->rq);
	http_conn_done(&c->base);
	free(c);
}

int http_server_adopt(struct http_server *s, int fd,
		      const struct va_caller *caller)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct sockaddr addr = { .sa_family = AF_UNIX };
	int r = c ? http_conn_init(&c->base, &s->conns, fd, caller) : -ENOMEM;

	if (r == 0) {
		c->server = s;
		r = http_conn_enlist(&c->base);
		if (r < 0)
			http_conn_done(&c->base);
	}
	if (r < 0) {
		free(c);
		close(fd);
		return r;
	}
	/* From here on the descriptor and, by way of on_connection(), the
	 * connection are the library's, on failure too. */
	if (MHD_add_connection(s->daemon, fd, &addr, sizeof(addr)) != MHD_YES)
		return -ECONNABORTED;
	return 0;
}

unsigned http_server_connections(const struct http_server *s)
{
	return http_conns_count(&s->conns);
}

uint64_t http_server_moved(struct http_server *s)
{
	return http_conns_moved(&s->conns);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			  enum MHD_ConnectionNotificationCode what)
{
	const union MHD_ConnectionInfo *info;
	struct http_server *s = cls;
	struct conn *c = *context;

	if (what != MHD_CONNECTION_NOTIFY_CLOSED) {
		info = MHD_get_connection_info(mhd,
					       MHD_CONNECTION_INFO_CONNECTION_FD);
		*context = info ? http_conn_find(&s->conns, info->connect_fd) :
				  NULL;
	} else if (c) {
		http_conn_unlist(&c->base);
		conn_free(c);
	}
}

/* --- requests ------------------------------------------------------------ */

const char *http_request_method(const struct http_request *rq)
{
	return rq->method;
}

const char *http_request_path(const struct http_request *rq)
{
	return rq->target.path;
}

const char *http_request_query_n(const struct http_request *rq, const char *key,
				 size_t i)
{
	for (size_t p = 0; p < rq->target.npairs; p++) {
		if (strcmp(rq->target.pairs[p].key, key) == 0 && i-- == 0)
			return rq->target.pairs[p].value;
	}
	return NULL;
}

const char *http_request_query(const struct http_request *rq, const char *key)
{
	return http_request_query_n(rq, key, 0);
}

const char *http_request_header(const struct http_request *rq, const char *name)
{
	return MHD_lookup_connection_value(rq->mhd, MHD_HEADER_KIND, name);
}

const struct va_caller *http_request_caller(const struct http_request *rq)
{
	return &rq->conn->base.caller;
}

const struct buf *http_request_body(const struct http_request *rq)
{
	return &rq->body;
}

int64_t http_request_length(const struct http_request *rq)
{
	return rq->length;
}

int http_request_cancel_fd(const struct http_request *rq)
{
	return rq->conn->base.cancel_fd;
}

int http_request_stop_fd(const struct http_request *rq)
{
	return rq->conn->server->conns.stop_fd;
}

void http_request_set_data(struct http_request *rq, void *data,
			   void (*free_fn)(void *))
{
	rq->data = data;
	rq->free_data = free_fn;
}

void *http_request_data(const struct http_request *rq)
{
	return rq->data;
}

/* --- responses ----------------------------------------------------------- */

int http_add_header(struct http_request *rq, const char *name, const char *value)
{
	CLEANUP_FREE char *n = strdup(name), *v = strdup(value);

	if (!n || !v)
		return -ENOMEM;
	if (rq->nheaders == HEADERS_MAX)
		return -ENOSPC;
	if (strpbrk(name, "\r\n: ") || strpbrk(value, "\r\n"))
		return -EINVAL;
	rq->headers[rq->nheaders].name = take_ptr(n);
	rq->headers[rq->nheaders++].value = take_ptr(v);
	return 0;
}

/* Queues and lets go of a response; NULL = it could not be made. */
static int queue(struct http_request *rq, unsigned status, const char *type,
		 struct MHD_Response *response)
{
	int r = -ENOMEM;

	if (!response)
		return r;
	if (type)
		MHD_add_response_header(response, "Content-Type", type);
	for (size_t i = 0; i < rq->nheaders; i++)
		MHD_add_response_header(response, rq->headers[i].name,
					rq->headers[i].value);
	if (!rq->answered &&
	    MHD_queue_response(rq->mhd, status, response) == MHD_YES) {
		rq->answered = true;
		r = 0;
	}
	MHD_destroy_response(response);
	return r;
}

/* Keeps an answer for http_answer_raw(). */
static int keep_raw(struct http_request *rq, unsigned status, const char *type,
		    const void *data, size_t n)
{
	if (rq->answered)
		return -EALREADY;
	rq->raw.status = status;
	rq->raw.type = type ? strdup(type) : NULL;
	buf_init(&rq->raw.body, 64 << 10);
	rq->answered = true;
	return buf_put(&rq->raw.body, data, n);
}

int http_respond(struct http_request *rq, unsigned status, const char *type,
		 const void *data, size_t n)
{
	if (rq->in_piece)
		return keep_raw(rq, status, type, data, n);
	return queue(rq, status, type,
		     MHD_create_response_from_buffer(n, (void *)(uintptr_t)data,
						     MHD_RESPMEM_MUST_COPY));
}

int http_respond_take(struct http_request *rq, unsigned status,
		      const char *type, void *data, size_t n)
{
	struct MHD_Response *response;
	int r;

	if (rq->in_piece) {
		r = keep_raw(rq, status, type, data, n);
		free(data);
		return r;
	}
	response = MHD_create_response_from_buffer(n, data,
						   MHD_RESPMEM_MUST_FREE);
	if (!response)
		free(data);
	return queue(rq, status, type, response);
}

int http_respond_text(struct http_request *rq, unsigned status, const char *fmt,
		      ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	if ((size_t)n > sizeof(text) - 2)
		n = (int)sizeof(text) - 2;
	text[n++] = '\n';
	return http_respond(rq, status, "text/plain; charset=utf-8", text,
			    (size_t)n);
}

int http_respond_fd(struct http_request *rq, unsigned status, const char *type,
		    int fd, uint64_t offset, uint64_t length)
{
	struct MHD_Response *response = NULL;

	if (!rq->in_piece)
		response = MHD_create_response_from_fd_at_offset64(length, fd,
								   offset);
	if (!response)
		close(fd);
	return queue(rq, status, type, response);
}

struct stream {
	ssize_t (*read)(void *arg, void *buf, size_t max);
	void (*done)(void *arg);
	void *arg;
};

static ssize_t stream_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct stream *st = cls;
	ssize_t n = st->read(st->arg, buf, max);

	if (n == 0)
		return MHD_CONTENT_READER_END_OF_STREAM;
	return n < 0 ? MHD_CONTENT_READER_END_WITH_ERROR : n;
}

static void stream_free(void *cls)
{
	struct stream *st = cls;

	if (st->done)
		st->done(st->arg);
	free(st);
}

int http_respond_stream(struct http_request *rq, unsigned status,
			const char *type, int64_t length,
			ssize_t (*read)(void *arg, void *buf, size_t max),
			void (*done)(void *arg), void *arg)
{
	struct MHD_Response *response = NULL;
	struct stream *st = calloc(1, sizeof(*st));

	if (!st) {
		if (done)
			done(arg);
		return -ENOMEM;
	}
	*st = (struct stream){ read, done, arg };
	if (!rq->in_piece)
		response = MHD_create_response_from_callback(
			length < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)length,
			VA_HTTP_BLOCK, stream_read, st, stream_free);
	if (!response)
		stream_free(st);
	return queue(rq, status, type, response);
}

/* --- upgrade ------------------------------------------------------------- */

static void on_upgrade(void *cls, struct MHD_Connection *mhd, void *con_cls,
		       const char *extra, size_t extra_len, MHD_socket fd,
		       struct MHD_UpgradeResponseHandle *handle)
{
	struct conn *c = cls;

	http_conn_upgrade_begins(&c->base);
	c->upgrade.run(c->upgrade.arg, fd, extra, extra_len);
	/* The peer must not wait for the library to get round to closing. */
	shutdown(fd, SHUT_RDWR);
	http_conn_upgrade_ended(&c->base);
	MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
}

int http_respond_upgrade(struct http_request *rq, const char *token,
			 void (*run)(void *arg, int fd, const void *extra,
				     size_t extra_len),
			 void *arg)
{
	struct MHD_Response *response = NULL;

	if (!rq->in_piece)
		response = MHD_create_response_for_upgrade(on_upgrade, rq->conn);
	if (response)
		MHD_add_response_header(response, "Upgrade", token);
	rq->conn->upgrade = (struct upgrade){ run, arg };
	return queue(rq, MHD_HTTP_SWITCHING_PROTOCOLS, NULL, response);
}

/* --- what libmicrohttpd calls -------------------------------------------- */

/* The first that is heard of a request: its target.  The result becomes
 * *con_cls of on_request(). */
static void *on_target(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct conn *c = info ? info->socket_context : NULL;
	struct http_request *rq;

	if (!c)
		return NULL;
	rq = &c->rq;
	request_reset(rq);
	rq->conn = c;
	rq->mhd = mhd;
	rq->length = -1;
	rq->target_error = http_target_parse(&rq->target, uri);
	return rq;
}

struct head_scan {
	unsigned lengths, encodings;
	const char *length, *encoding;
};

static enum MHD_Result scan_header(void *cls, enum MHD_ValueKind kind,
				   const char *name, const char *value)
{
	struct head_scan *scan = cls;

	if (strcasecmp(name, "Content-Length") == 0) {
		scan->lengths++;
		scan->length = value;
	} else if (strcasecmp(name, "Transfer-Encoding") == 0) {
		scan->encodings++;
		scan->encoding = value;
	}
	return MHD_YES;
}

static int refuse(struct http_request *rq, unsigned status, const char *text)
{
	return http_respond_text(rq, status, "%u %s: %s", status,
				 http_reason(status), text);
}

/* How long the body is and that there is but one way to see it: two proxies
 * that read lengths differently see different requests. */
static int check_framing(struct http_request *rq)
{
	struct head_scan scan = { 0 };

	MHD_get_connection_values(rq->mhd, MHD_HEADER_KIND, scan_header, &scan);
	if (scan.lengths > 1 || (scan.lengths && scan.encodings))
		return refuse(rq, 400, "more than one length of the body");
	if (scan.encodings > 1 ||
	    (scan.encodings && strcasecmp(scan.encoding, "chunked") != 0))
		return refuse(rq, 501, "only the chunked transfer encoding");
	if (scan.lengths && str_to_i64(scan.length, 0, INT64_MAX, &rq->length) < 0)
		return refuse(rq, 400, "bad Content-Length");
	rq->chunked = scan.encodings;
	rq->has_body = rq->chunked || rq->length > 0;
	return 0;
}

static int find_route(struct http_request *rq)
{
	const struct http_config *cfg = &rq->conn->server->cfg;
	bool known = false;
	char allow[128];

	if (rq->target_error == -ENOMEM)
		return refuse(rq, 503, strerror(ENOMEM));
	if (rq->target_error)
		return refuse(rq, 400, "bad request target");
	rq->route = http_route_find(cfg, rq->method, rq->target.path, &known,
				    allow, sizeof(allow));
	if (rq->route)
		return 0;
	if (!known)
		return refuse(rq, 404, "nothing has that path");
	http_add_header(rq, "Allow", allow);
	return refuse(rq, 405, allow);
}

static int check_body(struct http_request *rq)
{
	const struct http_route *route = rq->route;

	if (route->body == HTTP_BODY_NONE)
		return rq->has_body ? refuse(rq, 400, "a body where none belongs") :
				      0;
	if (!rq->chunked && rq->length < 0)
		return refuse(rq, 411, "no Content-Length");
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

/* What a handler returned, when it did not answer itself. */
static void answer_error(struct http_request *rq, int r)
{
	if (!rq->answered)
		refuse(rq, 500, r < 0 ? strerror(-r) : "the handler gave no answer");
}

/* Refuses, or gets ready for the body and runs a streaming route's handler. */
static int route_request(struct http_request *rq)
{
	struct http_server *s = rq->conn->server;
	int r = find_route(rq);

	if (r == 0 && !rq->answered)
		r = check_body(rq);
	if (r < 0 || rq->answered || rq->route->body != HTTP_BODY_STREAM)
		return r;
	r = rq->route->handle(rq, s->cfg.context);
	if (r < 0)
		answer_error(rq, r);
	return 0;
}

/*
 * The head is here.  Only with a body to come is anything decided now: after an
 * answer that is given this early the library closes the connection.
 */
static enum MHD_Result begin(struct http_request *rq, const char *method)
{
	struct http_server *s = rq->conn->server;
	uint64_t wait = CLOCK_NEVER;

	rq->method = method;
	rq->phase = PHASE_BODY;
	if (check_framing(rq) < 0)
		return MHD_NO;
	if (rq->has_body && !rq->answered && route_request(rq) < 0)
		return MHD_NO;
	if (rq->has_body && !rq->answered)
		wait = rq->route->body == HTTP_BODY_STREAM ?
			       s->conns.idle_ns : s->conns.request_ns;
	http_conn_state(&rq->conn->base, true, wait);
	return MHD_YES;
}

static enum MHD_Result take_piece(struct http_request *rq, const char *data,
				  size_t n)
{
	int r;

	rq->in_piece = true;
	if (rq->route->body == HTTP_BODY_STREAM) {
		http_conn_state(&rq->conn->base, true,
				rq->conn->server->conns.idle_ns);
		r = rq->route->piece ? rq->route->piece(rq, data, n) : 0;
	} else {
		r = buf_put(&rq->body, data, n);
		if (r == -EMSGSIZE)
			http_respond_text(rq, 413, "413 %s: limit %zu",
					  http_reason(413), rq->route->max_body);
	}
	if (r < 0)
		answer_error(rq, r);
	rq->in_piece = false;
	if (!rq->answered)
		return MHD_YES;
	rq->phase = PHASE_DONE;
	http_answer_raw(rq->conn->base.fd, rq->raw.status,
			rq->raw.type ? rq->raw.type : "text/plain",
			buf_data(&rq->raw.body), buf_len(&rq->raw.body));
	return MHD_NO;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd,
				  const char *url, const char *method,
				  const char *version, const char *data,
				  size_t *size, void **con_cls)
{
	struct http_request *rq = *con_cls;
	size_t n = *size;
	int r = 0;

	if (!rq)
		return MHD_NO;
	if (rq->phase == PHASE_HEAD)
		return begin(rq, method);
	*size = 0;
	if (n)
		return rq->answered ? MHD_YES : take_piece(rq, data, n);
	rq->phase = PHASE_DONE;
	if (!rq->route && !rq->answered && route_request(rq) < 0)
		return MHD_NO;
	if (rq->answered)
		return MHD_YES;
	if (rq->has_body)
		http_conn_state(&rq->conn->base, true, CLOCK_NEVER);
	if (rq->route->body != HTTP_BODY_STREAM)
		r = rq->route->handle(rq, rq->conn->server->cfg.context);
	else if (rq->route->end)
		r = rq->route->end(rq);
	answer_error(rq, r);
	return rq->answered ? MHD_YES : MHD_NO;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
			 enum MHD_RequestTerminationCode why)
{
	struct http_request *rq = *con_cls;
	struct conn *c;

	if (!rq)
		return;
	c = rq->conn;
	if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK && rq->has_body &&
	    rq->phase == PHASE_BODY)
		http_linger(c->base.fd);
	request_reset(rq);
	*con_cls = NULL;
	http_conn_state(&c->base, false, c->server->conns.idle_ns);
}

/* The library speaks of TCP options that a unix socket does not have, three
 * lines per connection. */
static void on_log(void *cls, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void on_log(void *cls, const char *fmt, va_list ap)
{
	char text[256];

	if (log_get_level() < LOG_LVL_DEBUG || strstr(fmt, "TCP_") ||
	    strstr(fmt, "cork") || strstr(fmt, "buffering"))
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = 0;
	log_debug("http: %s", text);
}

/* Targets are decoded by http_target_parse(). */
static size_t no_unescape(void *cls, struct MHD_Connection *mhd, char *s)
{
	return strlen(s);
}

/* --- the server ---------------------------------------------------------- */

static struct MHD_Daemon *start_daemon(struct http_server *s)
{
	return MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
			MHD_USE_POLL | MHD_USE_ITC | MHD_USE_NO_LISTEN_SOCKET |
			MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG,
		0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log,
		NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
		MHD_OPTION_URI_LOG_CALLBACK, on_target, s,
		MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL,
		/* Never reached: at its limit the library loses a lock. */
		MHD_OPTION_CONNECTION_LIMIT, 2 * s->conns.alive_max,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)VA_HTTP_POOL,
		MHD_OPTION_CONNECTION_TIMEOUT, 0u,
		MHD_OPTION_THREAD_STACK_SIZE, (size_t)VA_HTTP_STACK,
		MHD_OPTION_END);
}

struct http_server *http_server_new(const struct http_config *cfg)
{
	struct http_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return NULL;
	s->cfg = *cfg;
	if (!s->cfg.max_connections)
		s->cfg.max_connections = VA_HTTP_CONNECTIONS_MAX;
	if (!s->cfg.request_timeout_s)
		s->cfg.request_timeout_s = VA_HTTP_REQUEST_S;
	r = http_conns_init(&s->conns, s->cfg.max_connections,
			    s->cfg.max_per_guest, s->cfg.request_timeout_s);
	if (r == 0)
		s->daemon = start_daemon(s);
	if (s->daemon)
		return s;
	if (r == 0) {
		http_conns_stop(&s->conns);
		http_conns_done(&s->conns);
	}
	free(s);
	return NULL;
}

void http_server_free(struct http_server *s)
{
	if (!s)
		return;
	/* The library must not be stopped while another protocol runs. */
	http_conns_stop(&s->conns);
	MHD_stop_daemon(s->daemon);
	while (s->conns.list) { /* those the library never took up */
		struct conn *c = (struct conn *)s->conns.list;

		http_conn_unlist(&c->base);
		conn_free(c);
	}
	http_conns_done(&s->conns);
	free(s);
}
