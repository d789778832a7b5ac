/*
 * http_client.c - see http_client.h
 *
 * A transfer is the same for the blocking client and for http_multi: setup()
 * fills an easy handle from a struct http_call, finish() turns libcurl's result
 * into ours.  The request's target goes out as given (CURLOPT_REQUEST_TARGET);
 * no proxy, no redirect, no other protocol, no signal.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/http_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"

#define HEAD_MAX (32u << 10)   /* bytes of a reply's head */
#define BUFFER_SIZE (256L << 10) /* libcurl's default of 16 KiB halves the speed */
#define MULTI_MAX 4096u	       /* requests at once: the guests of a big host */

/* What a transfer's callbacks work on. */
struct transfer {
	CURL *easy;
	struct curl_slist *headers;
	struct http_call *call;
	struct buf head; /* of the reply: lines "Name: value" */
	bool head_whole; /* its empty line came */
	bool head_told;
	bool no_memory; /* an option could not be set */
	int error; /* of a callback: why the transfer was aborted */
	char text[CURL_ERROR_SIZE]; /* libcurl's words */
	char why[96];		    /* ours, of an error of a callback */
};

struct http_client {
	char *path;
	struct transfer t;
};

int http_global_init(void)
{
	return curl_global_init(CURL_GLOBAL_NOTHING) == CURLE_OK ? 0 : -ENOMEM;
}

/* --- callbacks ----------------------------------------------------------- */

static size_t on_head_line(char *line, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;

	n *= size;
	/* A status line begins a head: of the reply proper after a "100". */
	if (n > 5 && !memcmp(line, "HTTP/", 5))
		buf_reset(&t->head);
	t->head_whole = (n == 2 && line[0] == '\r' && line[1] == '\n') ||
			(n == 1 && line[0] == '\n');
	t->error = buf_put(&t->head, line, n);
	if (t->error == -EMSGSIZE)
		snprintf(t->why, sizeof(t->why),
			 "the reply's head passes the limit of %u bytes", HEAD_MAX);
	if (t->error < 0)
		return 0;
	return n;
}

static int tell_head(struct transfer *t)
{
	curl_off_t length = -1;
	long status = 0;

	if (t->head_told)
		return 0;
	t->head_told = true;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	t->call->status = (unsigned)status;
	return t->call->head ? t->call->head(t->call->arg, (unsigned)status, length) : 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	int r = tell_head(t);

	n *= size;
	if (r == 0 && t->call->sink)
		r = t->call->sink(t->call->arg, data, n);
	else if (r == 0 && t->call->reply)
		r = buf_put(t->call->reply, data, n);
	if (r == -EMSGSIZE && !t->call->sink)
		snprintf(t->why, sizeof(t->why),
			 "the reply passes the limit of %zu bytes",
			 t->call->reply->cap);
	if (r < 0) {
		t->error = r;
		return 0;
	}
	return n;
}

static size_t on_source(char *to, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	ssize_t got = t->call->source(t->call->arg, to, size * n);

	if (got < 0) {
		t->error = (int)got;
		return CURL_READFUNC_ABORT;
	}
	return (size_t)got;
}

/* --- a transfer ----------------------------------------------------------- */

static int transfer_init(struct transfer *t)
{
	t->easy = curl_easy_init();
	buf_init(&t->head, HEAD_MAX);
	return t->easy ? 0 : -ENOMEM;
}

static void transfer_done(struct transfer *t)
{
	curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->headers);
	buf_done(&t->head);
}

static int set_headers(struct transfer *t)
{
	struct curl_slist *list = NULL, *grown;
	const char *const *h = t->call->headers;

	/* No "Expect: 100-continue" round trip before a body. */
	list = curl_slist_append(list, "Expect:");
	for (; list && h && *h; h++) {
		grown = curl_slist_append(list, *h);
		if (!grown) {
			curl_slist_free_all(list);
			return -ENOMEM;
		}
		list = grown;
	}
	curl_slist_free_all(t->headers);
	t->headers = list;
	return list ? 0 : -ENOMEM;
}

/* For want of memory libcurl does without: the request would be another one. */
#define SET(t, option, value)                                                  \
	((t)->no_memory |= curl_easy_setopt((t)->easy, option, value) ==      \
			   CURLE_OUT_OF_MEMORY)

static void set_body(struct transfer *t)
{
	struct http_call *c = t->call;

	if (c->source) {
		SET(t, CURLOPT_UPLOAD, 1L);
		SET(t, CURLOPT_READFUNCTION, on_source);
		SET(t, CURLOPT_READDATA, t);
		SET(t, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->body_total);
	} else if (c->body || !strcmp(c->method, "POST") || !strcmp(c->method, "PUT")) {
		SET(t, CURLOPT_POST, 1L);
		SET(t, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body_len);
		SET(t, CURLOPT_POSTFIELDS, c->body ? c->body : "");
	} else if (!strcmp(c->method, "HEAD")) {
		SET(t, CURLOPT_NOBODY, 1L);
	}
	SET(t, CURLOPT_CUSTOMREQUEST, c->method);
}

static bool may_be_repeated(const struct http_call *c)
{
	return c->repeatable || !strcmp(c->method, "GET") || !strcmp(c->method, "HEAD");
}

/* libcurl calls this at least once a second. */
static int on_progress(void *arg, curl_off_t dltotal, curl_off_t dlnow,
		       curl_off_t ultotal, curl_off_t ulnow)
{
	struct transfer *t = arg;

	if (!*t->call->cancel)
		return 0;
	t->error = -EINTR;
	return 1;
}

/* Everything is set anew for each request; the connection is kept. */
static int setup(struct transfer *t, const char *path, struct http_call *c)
{
	uint64_t now = clock_now();

	t->call = c;
	t->head_told = t->head_whole = t->no_memory = false;
	t->error = 0;
	t->text[0] = t->why[0] = 0;
	buf_reset(&t->head);
	c->status = 0;
	c->progress = HTTP_NOT_CONNECTED;
	c->error[0] = 0;
	if (now >= c->deadline_ns)
		return -ETIMEDOUT;
	curl_easy_reset(t->easy);
	SET(t, CURLOPT_URL, "http://virtagent/");
	SET(t, CURLOPT_REQUEST_TARGET, c->target);
	SET(t, CURLOPT_UNIX_SOCKET_PATH, path);
	SET(t, CURLOPT_PROTOCOLS_STR, "http");
	SET(t, CURLOPT_NOPROXY, "*");
	SET(t, CURLOPT_NOSIGNAL, 1L);
	SET(t, CURLOPT_BUFFERSIZE, BUFFER_SIZE);
	SET(t, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_SIZE);
	SET(t, CURLOPT_ERRORBUFFER, t->text);
	SET(t, CURLOPT_HEADERFUNCTION, on_head_line);
	SET(t, CURLOPT_HEADERDATA, t);
	SET(t, CURLOPT_WRITEFUNCTION, on_body);
	SET(t, CURLOPT_WRITEDATA, t);
	if (c->cancel) {
		SET(t, CURLOPT_NOPROGRESS, 0L);
		SET(t, CURLOPT_XFERINFOFUNCTION, on_progress);
		SET(t, CURLOPT_XFERINFODATA, t);
	}
	if (!may_be_repeated(c))
		SET(t, CURLOPT_FRESH_CONNECT, 1L);
	if (c->deadline_ns != CLOCK_NEVER)
		SET(t, CURLOPT_TIMEOUT_MS,
		    (long)((c->deadline_ns - now) / NSEC_PER_MSEC + 1));
	set_body(t);
	if (set_headers(t) < 0)
		return -ENOMEM;
	SET(t, CURLOPT_HTTPHEADER, t->headers);
	return t->no_memory ? -ENOMEM : 0;
}

static const struct {
	CURLcode code;
	int error;
} errors[] = {
	{ CURLE_COULDNT_CONNECT, -ENOTCONN },
	{ CURLE_OPERATION_TIMEDOUT, -ETIMEDOUT },
	{ CURLE_GOT_NOTHING, -ECONNRESET },
	{ CURLE_RECV_ERROR, -ECONNRESET },
	{ CURLE_SEND_ERROR, -ECONNRESET },
	{ CURLE_SEND_FAIL_REWIND, -ECONNRESET },
	{ CURLE_PARTIAL_FILE, -ECONNRESET },
	{ CURLE_OUT_OF_MEMORY, -ENOMEM },
};

static int finish(struct transfer *t, CURLcode code)
{
	struct http_call *c = t->call;
	long sent = 0, status = 0;
	int r = -EPROTO;

	curl_easy_getinfo(t->easy, CURLINFO_REQUEST_SIZE, &sent);
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (sent > 0)
		c->progress = HTTP_SENT;
	c->status = (unsigned)status;
	/* libcurl takes a head that is cut between two lines for a whole one, and
	 * then what no line told the length of for an empty body. */
	if (code == CURLE_OK && !t->head_whole) {
		snprintf(c->error, sizeof(c->error), "the reply was cut in its head");
		return -ECONNRESET;
	}
	if (code == CURLE_OK) {
		c->progress = HTTP_DONE;
		r = tell_head(t);
		if (r < 0)
			snprintf(c->error, sizeof(c->error), "%s", strerror(-r));
		return r;
	}
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].code == code)
			r = errors[i].error;
	if (t->error)
		r = t->error;
	snprintf(c->error, sizeof(c->error), "%s",
		 t->why[0] ? t->why : t->text[0] ? t->text : curl_easy_strerror(code));
	return r;
}

static int setup_failed(struct http_call *c, int r)
{
	snprintf(c->error, sizeof(c->error), "%s", strerror(-r));
	return r;
}

/* --- blocking -------------------------------------------------------------- */

struct http_client *http_client_new(const char *path)
{
	struct http_client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->path = strdup(path);
	if (!c->path || transfer_init(&c->t) < 0) {
		http_client_free(c);
		errno = ENOMEM;
		return NULL;
	}
	return c;
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	transfer_done(&c->t);
	free(c->path);
	free(c);
}

const char *http_client_path(const struct http_client *c)
{
	return c->path;
}

int http_client_perform(struct http_client *c, struct http_call *call)
{
	int r = setup(&c->t, c->path, call);

	if (r < 0)
		return setup_failed(call, r);
	return finish(&c->t, curl_easy_perform(c->t.easy));
}

const char *http_client_reply_header(struct http_client *c, const char *name)
{
	static _Thread_local char value[1024];
	const char *line = buf_cstr(&c->t.head);
	size_t n = strlen(name);

	for (; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		if (strncasecmp(line, name, n) != 0 || line[n] != ':')
			continue;
		line += n + 1;
		line += strspn(line, " \t");
		snprintf(value, sizeof(value), "%.*s", (int)strcspn(line, "\r\n"), line);
		return value;
	}
	return NULL;
}

/* --- on the event loop ------------------------------------------------------ */

struct multi_request {
	struct multi_request *next;
	struct http_multi *multi;
	struct transfer t;
	void (*done)(void *arg, struct http_call *call, int error);
	void *arg;
};

struct http_multi {
	struct loop *loop;
	CURLM *curl;
	struct loop_timer *timer;
	struct multi_request *list;
	unsigned count;
};

static void request_free(struct http_multi *m, struct multi_request *rq)
{
	for (struct multi_request **p = &m->list; *p; p = &(*p)->next) {
		if (*p == rq) {
			*p = rq->next;
			m->count--;
			break;
		}
	}
	if (rq->t.easy)
		curl_multi_remove_handle(m->curl, rq->t.easy);
	transfer_done(&rq->t);
	free(rq);
}

/* The user's done() may start new requests or even free others. */
static void collect(struct http_multi *m)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(m->curl, &left))) {
		struct multi_request *rq;
		struct http_call *call;
		void (*done)(void *arg, struct http_call *call, int error);
		void *arg;
		int r;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&rq);
		r = finish(&rq->t, msg->data.result);
		call = rq->t.call;
		done = rq->done;
		arg = rq->arg;
		request_free(m, rq);
		done(arg, call, r);
	}
}

static void on_timer(void *arg)
{
	struct http_multi *m = arg;
	int running;

	curl_multi_socket_action(m->curl, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(m);
}

static void on_socket(int fd, unsigned events, void *arg)
{
	struct http_multi *m = arg;
	int running, what = 0;

	what |= events & LOOP_READ ? CURL_CSELECT_IN : 0;
	what |= events & LOOP_WRITE ? CURL_CSELECT_OUT : 0;
	curl_multi_socket_action(m->curl, fd, what, &running);
	collect(m);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg,
		       void *socket_arg)
{
	struct http_multi *m = arg;
	struct loop_fd *src = socket_arg;
	unsigned events = 0;

	if (what == CURL_POLL_REMOVE) {
		loop_fd_free(src);
		curl_multi_assign(m->curl, fd, NULL);
		return 0;
	}
	events |= what & CURL_POLL_IN ? LOOP_READ : 0;
	events |= what & CURL_POLL_OUT ? LOOP_WRITE : 0;
	if (src)
		return loop_fd_set(src, events) < 0 ? -1 : 0;
	src = loop_fd_new(m->loop, fd, events, on_socket, m);
	if (!src)
		return -1;
	curl_multi_assign(m->curl, fd, src);
	return 0;
}

static int want_timer(CURLM *curl, long ms, void *arg)
{
	struct http_multi *m = arg;

	if (ms < 0)
		loop_timer_stop(m->timer);
	else
		loop_timer_in(m->timer, (uint64_t)ms * NSEC_PER_MSEC);
	return 0;
}

struct http_multi *http_multi_new(struct loop *loop)
{
	struct http_multi *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->loop = loop;
	m->curl = curl_multi_init();
	m->timer = loop_timer_new(loop, on_timer, m);
	if (!m->curl || !m->timer) {
		http_multi_free(m);
		errno = ENOMEM;
		return NULL;
	}
	curl_multi_setopt(m->curl, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt(m->curl, CURLMOPT_SOCKETDATA, m);
	curl_multi_setopt(m->curl, CURLMOPT_TIMERFUNCTION, want_timer);
	curl_multi_setopt(m->curl, CURLMOPT_TIMERDATA, m);
	return m;
}

void http_multi_free(struct http_multi *m)
{
	if (!m)
		return;
	while (m->list) {
		struct multi_request *rq = m->list;
		struct http_call *call = rq->t.call;
		void (*done)(void *arg, struct http_call *c, int error) = rq->done;
		void *arg = rq->arg;

		request_free(m, rq);
		done(arg, call, -ECANCELED);
	}
	curl_multi_cleanup(m->curl);
	loop_timer_free(m->timer);
	free(m);
}

int http_multi_start(struct http_multi *m, const char *path,
		     struct http_call *call,
		     void (*done)(void *arg, struct http_call *call, int error),
		     void *arg)
{
	struct multi_request *rq;
	int r;

	if (m->count >= MULTI_MAX)
		return setup_failed(call, -EAGAIN);
	rq = calloc(1, sizeof(*rq));
	if (!rq)
		return setup_failed(call, -ENOMEM);
	rq->multi = m;
	rq->done = done;
	rq->arg = arg;
	rq->next = m->list;
	m->list = rq;
	m->count++;
	r = transfer_init(&rq->t);
	if (r == 0)
		r = setup(&rq->t, path, call);
	if (r == 0) {
		curl_easy_setopt(rq->t.easy, CURLOPT_PRIVATE, rq);
		/* Connections are not kept: thousands of guests would hold
		 * thousands of streams open. */
		curl_easy_setopt(rq->t.easy, CURLOPT_FORBID_REUSE, 1L);
		if (curl_multi_add_handle(m->curl, rq->t.easy) != CURLM_OK)
			r = -ENOMEM;
	}
	if (r < 0) {
		request_free(m, rq);
		return setup_failed(call, r);
	}
	return 0;
}
