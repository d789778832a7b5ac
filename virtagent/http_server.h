/*
 * http_server.h - the HTTP server: requests as they come (http_server.c), their heads
 * (http_head.c), what handlers see and answer (http_exchange.c); nobody else knows
 * libmicrohttpd
 *
 * A thread per connection; connections are adopted sockets (streams handed
 * over, or accepted by the caller).  Handlers run on the connection's thread
 * and may block, as long as every wait also polls the request's cancel fd.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HTTP_SERVER_H
#define VA_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "virtagent/method.h"

struct http_server;
struct http_request;

/* How a route takes its request body. */
enum http_body {
	HTTP_BODY_NONE,	  /* refused with 400 when there is one */
	HTTP_BODY_BUFFER, /* collected up to max_body, then ->handle */
	HTTP_BODY_STREAM, /* ->handle first, then ->body per piece, then ->end */
};

struct http_route {
	const char *method; /* "POST" */
	const char *path;   /* "/RPC2"; a trailing '*' matches any rest */
	enum http_body body;
	size_t max_body; /* HTTP_BODY_BUFFER: 413 beyond, before it is read */
	/* Answers with one of http_respond*() (must, unless body is STREAM and
	 * ->end will).  A negative errno becomes a plain-text 500. */
	int (*handle)(struct http_request *rq, void *context);
	/* STREAM: a piece.  An answer given here, or a negative errno (500 then),
	 * ends the request and the connection at once. */
	int (*piece)(struct http_request *rq, const void *data, size_t n);
	int (*end)(struct http_request *rq);
};

struct http_config {
	const struct http_route *routes;
	size_t nroutes;
	unsigned max_connections;   /* 0 = VA_HTTP_CONNECTIONS_MAX */
	unsigned max_per_guest;	    /* with the same caller.guest; 0 = no limit */
	unsigned request_timeout_s; /* to receive a request's head and buffered
				       body; 0 = VA_HTTP_REQUEST_S */
	void *context;
};

struct http_server *http_server_new(const struct http_config *cfg);
/* Wakes every waiting handler, joins the threads. */
void http_server_free(struct http_server *s);
/*
 * Adopts a connected socket (closed on failure too); caller is copied, with the
 * guest's name.  At a limit the connection that has been without a request for
 * longest is closed to make room; -EMFILE when all are busy.
 */
int http_server_adopt(struct http_server *s, int fd,
		      const struct va_caller *caller);
unsigned http_server_connections(const struct http_server *s);
/* The time (clock_now()) when a request last began or ended; 0 = never. */
uint64_t http_server_moved(struct http_server *s);

const char *http_request_method(const struct http_request *rq);
/* The path as received, without the query, percent-decoded; may hold any byte
 * but NUL. */
const char *http_request_path(const struct http_request *rq);
const char *http_request_query(const struct http_request *rq, const char *key);
/* i-th value of a repeated key; NULL past the end. */
const char *http_request_query_n(const struct http_request *rq, const char *key,
				 size_t i);
const char *http_request_header(const struct http_request *rq, const char *name);
const struct va_caller *http_request_caller(const struct http_request *rq);
const struct buf *http_request_body(const struct http_request *rq);
/* Content-Length, or -1 when chunked or absent. */
int64_t http_request_length(const struct http_request *rq);
/* Readable once the client went or the server ends. */
int http_request_cancel_fd(const struct http_request *rq);
/* Readable once the server ends, whether the client is there or not. */
int http_request_stop_fd(const struct http_request *rq);
/* State of the handler, freed with free_fn at the request's end. */
void http_request_set_data(struct http_request *rq, void *data,
			   void (*free_fn)(void *));
void *http_request_data(const struct http_request *rq);

/* Adds a header to the response; before http_respond*(). */
int http_add_header(struct http_request *rq, const char *name,
		    const char *value);
int http_respond(struct http_request *rq, unsigned status, const char *type,
		 const void *data, size_t n);
/* Takes over malloc'ed memory. */
int http_respond_take(struct http_request *rq, unsigned status,
		      const char *type, void *data, size_t n);
int http_respond_text(struct http_request *rq, unsigned status, const char *fmt,
		      ...) __attribute__((format(printf, 3, 4)));
/* length bytes of fd from offset, by sendfile where possible; takes fd over. */
int http_respond_fd(struct http_request *rq, unsigned status, const char *type,
		    int fd, uint64_t offset, uint64_t length);
/*
 * A stream made by read(arg, buf, max): the count, 0 = end, or a negative errno
 * (the connection is then cut, so that the client sees it).  Blocks as it
 * likes, polling the cancel fd.  length -1: chunked.  done(arg) is always
 * called once.
 */
int http_respond_stream(struct http_request *rq, unsigned status,
			const char *type, int64_t length,
			ssize_t (*read)(void *arg, void *buf, size_t max),
			void (*done)(void *arg), void *arg);
/*
 * 101 with the given Upgrade token; run(arg, fd, ...) then owns the socket's
 * bytes (extra: what was received already) on this thread.  The socket does not
 * block and is closed after run(); at the server's end it is shut down under
 * run(), which must then return.  The request and its data end before run() starts.
 * When the client left before the 101, run() is called with fd -1, only to free
 * what arg holds; it must not block then.
 */
int http_respond_upgrade(struct http_request *rq, const char *token,
			 void (*run)(void *arg, int fd, const void *extra,
				     size_t extra_len),
			 void *arg);

#endif
