/*
 * http_exchange.c - what a handler sees of a request, and how it answers
 *
 * Each answer becomes a response of libmicrohttpd, which its connection's thread
 * sends once the handler is back.  While a piece of a body is handled the library
 * takes none; a short answer is then kept for the bare socket.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "common/cleanup.h"
#include "virtagent/http_server_priv.h"

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

int http_refuse(struct http_request *rq, unsigned status, const char *text)
{
	return http_respond_text(rq, status, "%u %s: %s", status,
				 http_reason(status), text);
}

void http_answer_error(struct http_request *rq, int r)
{
	if (!rq->answered)
		http_refuse(rq, 500, r < 0 ? strerror(-r) : "the handler gave no answer");
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
