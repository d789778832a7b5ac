/*
 * http_multi.c - many HTTP requests on an event loop (http_client.h)
 *
 * libcurl says which descriptors and what time it waits for, and is called when one is
 * ready.  That a wait cannot be had (no memory) it must not be told: it would never
 * do anything again.  The request fails instead, once libcurl has returned.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "virtagent/http_transfer.h"

#define MULTI_MAX 4096u /* requests at once: the guests of a big host */

struct multi_request {
	struct multi_request *next;
	struct http_multi *multi;
	struct transfer t;
	void (*done)(void *arg, struct http_call *call, int error);
	void *arg;
	bool failed; /* nobody would wake it */
};

struct http_multi {
	struct loop *loop;
	CURLM *curl;
	struct loop_timer *timer;
	struct multi_request *list;
	unsigned count;
	bool no_timer; /* it could not be armed */
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
	http_transfer_done(&rq->t);
	free(rq);
}

/* The user's done() may start new requests or even free others. */
static void end(struct http_multi *m, struct multi_request *rq, CURLcode code)
{
	int r = http_transfer_end(&rq->t, code);
	struct http_call *call = rq->t.call;
	void (*done)(void *arg, struct http_call *c, int error) = rq->done;
	void *arg = rq->arg;

	request_free(m, rq);
	done(arg, call, r);
}

static void end_failed(struct http_multi *m)
{
	struct multi_request *rq = m->list;

	while (rq) {
		if (!rq->failed) {
			rq = rq->next;
			continue;
		}
		end(m, rq, CURLE_OUT_OF_MEMORY);
		rq = m->list; /* may be another one now */
	}
}

/* After each call of libcurl's; what it returned. */
static void collect(struct http_multi *m, CURLMcode code)
{
	struct multi_request *rq;
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(m->curl, &left))) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&rq);
		end(m, rq, msg->data.result);
	}
	/* Which of them waits in vain then nobody says. */
	if (code != CURLM_OK || m->no_timer)
		for (rq = m->list; rq; rq = rq->next)
			rq->failed = true;
	m->no_timer = false;
	end_failed(m);
}

static void on_timer(void *arg)
{
	struct http_multi *m = arg;
	int running;

	collect(m, curl_multi_socket_action(m->curl, CURL_SOCKET_TIMEOUT, 0, &running));
}

static void on_socket(int fd, unsigned events, void *arg)
{
	struct http_multi *m = arg;
	int running, what = 0;

	what |= events & LOOP_READ ? CURL_CSELECT_IN : 0;
	what |= events & LOOP_WRITE ? CURL_CSELECT_OUT : 0;
	collect(m, curl_multi_socket_action(m->curl, fd, what, &running));
}

static int socket_failed(CURL *easy)
{
	struct multi_request *rq;

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&rq);
	rq->failed = true;
	return 0;
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
		return loop_fd_set(src, events) < 0 ? socket_failed(easy) : 0;
	src = loop_fd_new(m->loop, fd, events, on_socket, m);
	if (!src)
		return socket_failed(easy);
	curl_multi_assign(m->curl, fd, src);
	return 0;
}

static int want_timer(CURLM *curl, long ms, void *arg)
{
	struct http_multi *m = arg;

	if (ms < 0)
		loop_timer_stop(m->timer);
	else if (loop_timer_in(m->timer, (uint64_t)ms * NSEC_PER_MSEC) < 0)
		m->no_timer = true;
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
		return http_transfer_refuse(call, -EAGAIN);
	rq = calloc(1, sizeof(*rq));
	if (!rq)
		return http_transfer_refuse(call, -ENOMEM);
	rq->multi = m;
	rq->done = done;
	rq->arg = arg;
	rq->next = m->list;
	m->list = rq;
	m->count++;
	r = http_transfer_init(&rq->t);
	if (r == 0)
		r = http_transfer_begin(&rq->t, path, call);
	if (r == 0) {
		curl_easy_setopt(rq->t.easy, CURLOPT_PRIVATE, rq);
		/* Connections are not kept: thousands of guests would hold
		 * thousands of streams open. */
		curl_easy_setopt(rq->t.easy, CURLOPT_FORBID_REUSE, 1L);
		if (curl_multi_add_handle(m->curl, rq->t.easy) != CURLM_OK || m->no_timer)
			r = -ENOMEM;
		m->no_timer = false; /* the others have what they had */
	}
	if (r < 0) {
		request_free(m, rq);
		return http_transfer_refuse(call, r);
	}
	return 0;
}
