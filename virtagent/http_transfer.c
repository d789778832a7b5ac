/*
 * http_transfer.c - one request and its reply by libcurl
 *
 * The same for the blocking client and for http_multi: an easy handle is filled from
 * a struct http_call, and libcurl's result turned into ours.  The request's target
 * goes out as given (CURLOPT_REQUEST_TARGET); no proxy, no redirect, no other
 * protocol, no signal.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/http_transfer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"

#define HEAD_MAX (32u << 10)   /* bytes of a reply's head */
#define BUFFER_SIZE (256L << 10) /* libcurl's default of 16 KiB halves the speed */

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

int http_transfer_init(struct transfer *t)
{
	t->easy = curl_easy_init();
	buf_init(&t->head, HEAD_MAX);
	return t->easy ? 0 : -ENOMEM;
}

void http_transfer_done(struct transfer *t)
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
int http_transfer_begin(struct transfer *t, const char *path, struct http_call *c)
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

int http_transfer_end(struct transfer *t, CURLcode code)
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

int http_transfer_refuse(struct http_call *c, int r)
{
	snprintf(c->error, sizeof(c->error), "%s", strerror(-r));
	return r;
}
