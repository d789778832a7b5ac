/*
 * http_server.c - see http_server.h
 *
 * libmicrohttpd runs a thread for each connection and calls on_request(): once
 * with the head, once per piece of body, once at the body's end.  It may be
 * answered in the first or the last of these calls only; an answer in between
 * (a body that is too long, a file that cannot be written) goes out on the bare
 * socket.  Nothing is ever suspended: that hangs in this mode of the library.
 *
 * The cancel fd.  Each connection has an epoll instance that holds its socket,
 * watched for the peer's closing only, and the server's stop eventfd.  It is
 * readable, for good, once either happened; a handler polls it beside whatever
 * it waits for, and no thread has to watch on its behalf.  (A client that closes
 * its sending side counts as gone, as with most HTTP servers.)
 *
 * Deadlines.  The library's own timeout is one of inactivity, so a client that
 * drips bytes is never dropped by it.  A reaper thread shuts sockets down that
 * have not delivered a whole request head (or buffered body) in time: the
 * request's time for a fresh connection, the idle time for a kept one.  It
 * sleeps for ever while there are no connections, and wakes no more often than
 * once per request time otherwise, so that starting a deadline never has to
 * wake it.  When all places are taken, the connection that has waited longest
 * without a request makes room.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/http_server.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
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
	struct conn *next, **prev;
	struct http_server *server;
	int fd; /* the library's */
	int cancel_fd;
	struct va_caller caller;
	char *guest;
	bool evicted;  /* shut down, not counted any more */
	bool busy;     /* a request is being handled */
	bool upgraded; /* another protocol runs on it */
	uint64_t since;	   /* when it became idle */
	uint64_t deadline; /* CLOCK_NEVER = none */
	struct upgrade upgrade;
	struct http_request rq;
};

struct http_server {
	struct http_config cfg;
	struct MHD_Daemon *daemon;
	int stop_fd; /* eventfd, readable from http_server_free() on */
	uint64_t request_ns, idle_ns;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* for the reaper, and for free() */
	struct conn *conns;
	unsigned count;	   /* of those not evicted */
	unsigned alive;	   /* of all; evicted ones take a moment to go */
	unsigned alive_max;
	unsigned upgraded; /* sessions running */
	bool stopping;
	uint64_t next_wake; /* the reaper's */
	pthread_t reaper;
};

/* --- connections --------------------------------------------------------- */

static void conn_unlink(struct conn *c)
{
	if (c->next)
		c->next->prev = c->prev;
	*c->prev = c->next;
	c->server->alive--;
	if (!c->evicted)
		c->server->count--;
}

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
	/* The client left before its 101. */
	if (c->upgrade.run)
		c->upgrade.run(c->upgrade.arg, -1, NULL, 0);
	request_reset(&c->rq);
	if (c->cancel_fd >= 0)
		close(c->cancel_fd);
	free(c->guest);
	free(c);
}

static int conn_watch(struct conn *c)
{
	struct epoll_event gone = { .events = EPOLLRDHUP };
	struct epoll_event stop = { .events = EPOLLIN };

	c->cancel_fd = epoll_create1(EPOLL_CLOEXEC);
	if (c->cancel_fd < 0 ||
	    epoll_ctl(c->cancel_fd, EPOLL_CTL_ADD, c->fd, &gone) < 0 ||
	    epoll_ctl(c->cancel_fd, EPOLL_CTL_ADD, c->server->stop_fd, &stop) < 0)
		return -errno;
	return 0;
}

static struct conn *conn_new(struct http_server *s, int fd,
			     const struct va_caller *caller)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->server = s;
	c->fd = fd;
	c->cancel_fd = -1;
	c->caller = *caller;
	if (caller->guest)
		c->guest = strdup(caller->guest);
	c->caller.guest = c->guest;
	if ((caller->guest && !c->guest) || conn_watch(c) < 0) {
		conn_free(c);
		return NULL;
	}
	return c;
}

/* Shuts the socket down; its thread then ends.  Under the lock, where the
 * descriptor is certain to be the connection's still. */
static void conn_evict(struct conn *c)
{
	if (c->evicted)
		return;
	c->evicted = true;
	c->server->count--;
	shutdown(c->fd, SHUT_RDWR);
}

static bool same_guest(const struct conn *c, const char *guest)
{
	if (!c->guest || !guest)
		return !c->guest && !guest;
	return strcmp(c->guest, guest) == 0;
}

/* Makes sure that there is a place, for this guest and at all. */
static int make_room(struct http_server *s, const char *guest)
{
	if (s->alive >= s->alive_max)
		return -EMFILE;
	for (int of_guest = 1; of_guest >= 0; of_guest--) {
		unsigned limit = of_guest ? s->cfg.max_per_guest :
					    s->cfg.max_connections;
		struct conn *oldest = NULL;
		unsigned n = 0;

		if (limit == 0 || (of_guest && !guest))
			continue;
		for (struct conn *c = s->conns; c; c = c->next) {
			if (c->evicted || (of_guest && !same_guest(c, guest)))
				continue;
			n++;
			if (!c->busy && (!oldest || c->since < oldest->since))
				oldest = c;
		}
		if (n < limit)
			continue;
		if (!oldest)
			return -EMFILE;
		conn_evict(oldest);
	}
	return 0;
}

/* What the reaper should see next; c->server->lock is held. */
static void conn_set(struct conn *c, bool busy, uint64_t delta_ns)
{
	struct http_server *s = c->server;

	c->busy = busy;
	c->deadline = CLOCK_NEVER;
	if (delta_ns != CLOCK_NEVER) {
		c->since = clock_now();
		c->deadline = c->since + delta_ns;
	}
	if (c->deadline < s->next_wake && s->next_wake == CLOCK_NEVER)
		pthread_cond_broadcast(&s->changed);
}

static void conn_state(struct conn *c, bool busy, uint64_t delta_ns)
{
	pthread_mutex_lock(&c->server->lock);
	conn_set(c, busy, delta_ns);
	pthread_mutex_unlock(&c->server->lock);
}

int http_server_adopt(struct http_server *s, int fd,
		      const struct va_caller *caller)
{
	struct conn *c = conn_new(s, fd, caller);
	struct sockaddr addr = { .sa_family = AF_UNIX };
	int r = c ? 0 : -ENOMEM;

	if (r == 0) {
		pthread_mutex_lock(&s->lock);
		r = s->stopping ? -ESHUTDOWN : make_room(s, caller->guest);
		if (r == 0) {
			c->next = s->conns;
			c->prev = &s->conns;
			if (c->next)
				c->next->prev = &c->next;
			s->conns = c;
			s->count++;
			s->alive++;
			conn_set(c, false, s->request_ns);
		}
		pthread_mutex_unlock(&s->lock);
	}
	if (r < 0) {
		if (c)
			conn_free(c);
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
	struct http_server *w = (struct http_server *)(uintptr_t)s;
	unsigned n;

	pthread_mutex_lock(&w->lock);
	n = w->count;
	pthread_mutex_unlock(&w->lock);
	return n;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			  enum MHD_ConnectionNotificationCode what)
{
	const union MHD_ConnectionInfo *info;
	struct http_server *s = cls;
	struct conn *c;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		c = *context;
		if (!c)
			return;
		pthread_mutex_lock(&s->lock);
		conn_unlink(c);
		pthread_mutex_unlock(&s->lock);
		conn_free(c);
		return;
	}
	info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	pthread_mutex_lock(&s->lock);
	for (c = s->conns; c && (!info || c->fd != info->connect_fd);)
		c = c->next;
	pthread_mutex_unlock(&s->lock);
	*context = c;
}

/* --- the reaper ---------------------------------------------------------- */

static uint64_t reap(struct http_server *s)
{
	uint64_t now = clock_now(), next = CLOCK_NEVER;

	for (struct conn *c = s->conns; c; c = c->next) {
		if (c->evicted)
			continue;
		if (c->deadline <= now)
			conn_evict(c);
		else if (c->deadline < next)
			next = c->deadline;
	}
	if (s->conns && next > now + s->request_ns)
		next = now + s->request_ns;
	return next;
}

static void *reaper_main(void *arg)
{
	struct http_server *s = arg;

	pthread_mutex_lock(&s->lock);
	while (!s->stopping) {
		struct timespec ts;

		s->next_wake = reap(s);
		if (s->next_wake == CLOCK_NEVER) {
			pthread_cond_wait(&s->changed, &s->lock);
			continue;
		}
		ts.tv_sec = (time_t)(s->next_wake / NSEC_PER_SEC);
		ts.tv_nsec = (long)(s->next_wake % NSEC_PER_SEC);
		pthread_cond_timedwait(&s->changed, &s->lock, &ts);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
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
	return &rq->conn->caller;
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
	return rq->conn->cancel_fd;
}

int http_request_stop_fd(const struct http_request *rq)
{
	return rq->conn->server->stop_fd;
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
	struct http_server *s = c->server;
	struct upgrade up = c->upgrade;

	c->upgrade = (struct upgrade){ NULL, NULL };
	pthread_mutex_lock(&s->lock);
	s->upgraded++;
	c->upgraded = true;
	conn_set(c, true, CLOCK_NEVER);
	if (s->stopping)
		shutdown(fd, SHUT_RDWR);
	pthread_mutex_unlock(&s->lock);

	up.run(up.arg, fd, extra, extra_len);
	/* The peer must not wait for the library to get round to closing. */
	shutdown(fd, SHUT_RDWR);

	pthread_mutex_lock(&s->lock);
	s->upgraded--;
	c->upgraded = false;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
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
		wait = rq->route->body == HTTP_BODY_STREAM ? s->idle_ns :
							      s->request_ns;
	conn_state(rq->conn, true, wait);
	return MHD_YES;
}

static enum MHD_Result take_piece(struct http_request *rq, const char *data,
				  size_t n)
{
	int r;

	rq->in_piece = true;
	if (rq->route->body == HTTP_BODY_STREAM) {
		conn_state(rq->conn, true, rq->conn->server->idle_ns);
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
	http_answer_raw(rq->conn->fd, rq->raw.status,
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
		conn_state(rq->conn, true, CLOCK_NEVER);
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
		http_linger(c->fd);
	request_reset(rq);
	*con_cls = NULL;
	if (!c->upgraded)
		conn_state(c, false, c->server->idle_ns);
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
		MHD_OPTION_CONNECTION_LIMIT, 2 * s->alive_max,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)VA_HTTP_POOL,
		MHD_OPTION_CONNECTION_TIMEOUT, 0u,
		MHD_OPTION_THREAD_STACK_SIZE, (size_t)VA_HTTP_STACK,
		MHD_OPTION_END);
}

static int start_reaper(struct http_server *s)
{
	pthread_attr_t attr;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	r = pthread_create(&s->reaper, &attr, reaper_main, s);
	pthread_attr_destroy(&attr);
	return -r;
}

static void server_done(struct http_server *s)
{
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct http_server *http_server_new(const struct http_config *cfg)
{
	struct http_server *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;
	unsigned seconds = cfg->request_timeout_s ? cfg->request_timeout_s :
						    VA_HTTP_REQUEST_S;

	if (!s)
		return NULL;
	s->cfg = *cfg;
	if (!s->cfg.max_connections)
		s->cfg.max_connections = VA_HTTP_CONNECTIONS_MAX;
	s->alive_max = s->cfg.max_connections * 4 + 64;
	s->request_ns = (uint64_t)(seconds * clock_scale() * 1e9);
	s->idle_ns = (uint64_t)(VA_HTTP_IDLE_S * clock_scale() * 1e9);
	s->next_wake = CLOCK_NEVER;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->changed, &attr);
	pthread_condattr_destroy(&attr);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->stop_fd >= 0)
		s->daemon = start_daemon(s);
	if (!s->daemon || start_reaper(s) < 0) {
		if (s->daemon)
			MHD_stop_daemon(s->daemon);
		server_done(s);
		return NULL;
	}
	return s;
}

void http_server_free(struct http_server *s)
{
	uint64_t one = 1;

	if (!s)
		return;
	if (write(s->stop_fd, &one, sizeof(one)) < 0)
		log_debug("http: stop: %s", strerror(errno));
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_cond_broadcast(&s->changed);
	for (struct conn *c = s->conns; c; c = c->next) {
		if (c->upgraded)
			shutdown(c->fd, SHUT_RDWR);
	}
	/* The library must not be stopped while another protocol runs. */
	while (s->upgraded)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->reaper, NULL);
	MHD_stop_daemon(s->daemon);
	while (s->conns) { /* those the library never took up */
		struct conn *c = s->conns;

		conn_unlink(c);
		conn_free(c);
	}
	server_done(s);
}
