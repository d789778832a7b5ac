/*
 * http_client.h - the HTTP client; only http_transfer.[ch], http_client.c and
 * http_multi.c know libcurl
 *
 * Unix sockets only.  Blocking calls, one handle per thread, connection kept
 * between calls.  http_multi runs many requests on an event loop (va-hostd).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HTTP_CLIENT_H
#define VA_HTTP_CLIENT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/loop.h"

struct http_client;

/* How far a request got; decides exit codes 10 and 11. */
enum http_progress {
	HTTP_NOT_CONNECTED, /* nothing was sent: safe to try again */
	HTTP_SENT,	    /* bytes of the request left; no (whole) reply */
	HTTP_DONE,
};

struct http_call {
	const char *method; /* "POST" */
	const char *target; /* "/RPC2", percent-encoded by the caller */
	const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
	const void *body;
	size_t body_len;
	/* A streamed body: up to max bytes, 0 at the end, negative errno aborts.
	 * body_total -1 = chunked. */
	ssize_t (*source)(void *arg, void *buf, size_t max);
	int64_t body_total;
	/* The reply's body goes to buf (when sink is NULL), or in pieces to
	 * sink: 0 to go on, a negative errno aborts and is returned. */
	struct buf *reply;
	int (*sink)(void *arg, const void *data, size_t n);
	/* Called once with the status before the first piece. */
	int (*head)(void *arg, unsigned status, int64_t length);
	void *arg;
	uint64_t deadline_ns; /* absolute, CLOCK_NEVER = none */
	/* The request may be sent a second time when a kept connection turns out
	 * to be dead.  libcurl does that by itself, also after the first copy was
	 * sent whole; so every other POST or PUT gets a fresh connection. */
	bool repeatable;
	/* Blocking calls: non-zero ends the request with -EINTR, within a second
	 * also when nothing moves.  A signal handler may set it.  NULL = none. */
	const volatile sig_atomic_t *cancel;
	/* out */
	unsigned status;
	enum http_progress progress;
	char error[256]; /* text of a failure */
};

/* path: the unix socket. */
struct http_client *http_client_new(const char *path);
void http_client_free(struct http_client *c);
const char *http_client_path(const struct http_client *c);
/* 0 with call->status set (any status), or a negative errno with call->error:
 * -ENOTCONN, -ETIMEDOUT, -ECONNRESET (cut), -EMSGSIZE, what sink returned. */
int http_client_perform(struct http_client *c, struct http_call *call);
/* A header of the last reply, or NULL. */
const char *http_client_reply_header(struct http_client *c, const char *name);
/*
 * Connects and performs an Upgrade; the socket (blocking off) is the caller's,
 * *extra holds bytes that came behind the 101.  Other statuses: -EPROTO, with
 * call->status and the body in call->reply.
 */
int http_client_upgrade(struct http_client *c, struct http_call *call,
			const char *token, int *ret_fd, struct buf *extra);

struct http_multi;
struct http_multi *http_multi_new(struct loop *loop);
/* Ends all requests (done is called with -ECANCELED).  Not from within done. */
void http_multi_free(struct http_multi *m);
/* The call must live until done(arg, call, error). */
int http_multi_start(struct http_multi *m, const char *path,
		     struct http_call *call,
		     void (*done)(void *arg, struct http_call *call, int error),
		     void *arg);

/* Process-wide set-up; first thing in main, before threads. */
int http_global_init(void);

#endif
