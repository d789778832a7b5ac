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

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "common/clock.h"
#include "common/log.h"
#include "virtagent/http_server_priv.h"

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

static enum MHD_Result scan_header(void *cls, enum MHD_ValueKind kind,
				   const char *name, const char *value)
{
	struct http_framing *scan = cls;

	if (strcasecmp(name, "Content-Length") == 0) {
		scan->lengths++;
		scan->length = value;
	} else if (strcasecmp(name, "Transfer-Encoding") == 0) {
		scan->encodings++;
		scan->encoding = value;
	}
	return MHD_YES;
}

/*
 * The head is here.  Only with a body to come is anything decided now: after an
 * answer that is given this early the library closes the connection.
 */
static enum MHD_Result begin(struct http_request *rq, const char *method)
{
	struct http_server *s = rq->conn->server;
	struct http_framing framing = { 0 };
	uint64_t wait = CLOCK_NEVER;

	rq->method = method;
	rq->phase = PHASE_BODY;
	MHD_get_connection_values(rq->mhd, MHD_HEADER_KIND, scan_header, &framing);
	if (http_check_framing(rq, &framing) < 0)
		return MHD_NO;
	if (rq->has_body && !rq->answered && http_route_request(rq) < 0)
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
		http_answer_error(rq, r);
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
	if (!rq->route && !rq->answered && http_route_request(rq) < 0)
		return MHD_NO;
	if (rq->answered)
		return MHD_YES;
	if (rq->has_body)
		http_conn_state(&rq->conn->base, true, CLOCK_NEVER);
	if (rq->route->body != HTTP_BODY_STREAM)
		r = rq->route->handle(rq, rq->conn->server->cfg.context);
	else if (rq->route->end)
		r = rq->route->end(rq);
	http_answer_error(rq, r);
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

/* --- the server ---------------------------------------------------------- */

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

static struct MHD_Daemon *start_daemon(struct http_server *s)
{
	/* Without memory for nonces, which nobody needs, the library leaves a
	 * descriptor open; built without them, it refuses to hear of their number. */
	struct MHD_OptionItem nonces[] = {
		{ MHD_OPTION_NONCE_NC_SIZE, 0, NULL },
		{ MHD_OPTION_END, 0, NULL },
	};

	if (MHD_is_feature_supported(MHD_FEATURE_DIGEST_AUTH) != MHD_YES)
		nonces[0] = nonces[1];
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
		MHD_OPTION_ARRAY, nonces,
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
