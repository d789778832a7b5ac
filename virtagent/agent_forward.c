/*
 * agent_forward.c - connections of this guest, carried by HTTP Upgrades
 * (PROTOCOL, "Forwarded connections")
 *
 * GET /connect?to=TARGET	connects, then the stream is that connection's.
 * GET /listen?at=[ADDR:]PORT	listens for as long as the stream lasts; one line
 *	tells the listener's number and address.
 * GET /accept?listener=N	waits for the listener's next connection.  Nobody
 *	accepts without somebody to take it: the kernel's queue holds the rest.
 *
 * A listener's end is its socket's shutdown(), which wakes those who wait for it;
 * the socket is closed when the last of them has left.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/sock.h"
#include "common/str.h"
#include "virtagent/agent_form.h"
#include "virtagent/fault.h"
#include "virtagent/guest/net.h"
#include "virtagent/limits.h"
#include "virtagent/stream.h"

struct listener {
	uint32_t id; /* 0 = a free place */
	int fd;
	unsigned refs; /* of the holder and of those who wait */
	bool over;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the listeners */
static struct listener listeners[VA_CONF_LISTENERS_MAX];
static uint32_t last_id;
static unsigned nlisteners, listeners_max = VA_LISTENERS_MAX;
static atomic_uint streams, streams_max = VA_STREAMS_MAX;
static atomic_uint stream_buffer = VA_STREAM_BUFFER;

/* One request's state, and then one stream's. */
struct forward {
	struct form form;
	struct listener *listener; /* a reference, or NULL */
	bool holder; /* the listener ends with this */
	int fd;	     /* the connection, -1 = none */
	bool counted; /* among the streams */
	int stop_fd;
	char line[120]; /* what is said first */
};

/* --- listeners ------------------------------------------------------------ */

static int listener_add(struct va_call *call, int fd, struct listener **ret)
{
	struct listener *l = NULL;
	unsigned max;

	pthread_mutex_lock(&lock);
	max = listeners_max;
	for (size_t i = 0; i < VA_CONF_LISTENERS_MAX && nlisteners < max && !l; i++)
		if (!listeners[i].id)
			l = &listeners[i];
	if (l) {
		*l = (struct listener){ .id = ++last_id, .fd = fd, .refs = 1 };
		nlisteners++;
	}
	pthread_mutex_unlock(&lock);
	if (!l)
		return va_fault(call, VA_FAULT_BUSY, EBUSY, "%s: %u listeners at once, the "
				"limit (listeners in agent.conf)", call->method->name, max);
	*ret = l;
	return 0;
}

static struct listener *listener_get(uint64_t id)
{
	struct listener *l = NULL;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < VA_CONF_LISTENERS_MAX && !l; i++)
		if (id && listeners[i].id == id && !listeners[i].over)
			l = &listeners[i];
	if (l)
		l->refs++;
	pthread_mutex_unlock(&lock);
	return l;
}

static void listener_put(struct listener *l, bool over)
{
	if (!l)
		return;
	pthread_mutex_lock(&lock);
	if (over && !l->over) {
		l->over = true;
		shutdown(l->fd, SHUT_RDWR);
	}
	if (--l->refs == 0) {
		close(l->fd);
		l->id = 0;
		nlisteners--;
	}
	pthread_mutex_unlock(&lock);
}

/* --- state -------------------------------------------------------------------- */

static void forward_done(struct forward *f)
{
	if (f->fd >= 0)
		close(f->fd);
	if (f->counted)
		atomic_fetch_sub(&streams, 1);
	free(f);
}

/* The request's end. */
static void request_free(void *data)
{
	struct forward *f = data;

	form_end(&f->form);
	listener_put(f->listener, f->holder);
	forward_done(f);
}

static struct forward *forward_new(struct http_request *rq)
{
	struct forward *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->fd = -1;
	f->stop_fd = http_request_stop_fd(rq);
	http_request_set_data(rq, f, request_free);
	return f;
}

/* Begins the call; 0, or a negative errno after it was answered. */
static int begin(struct forward *f, struct http_request *rq, void *context,
		 const char *method, const char *text, const char *token)
{
	struct va_value *params = va_array();
	int r;

	va_append(params, va_bytes(text ? text : "", text ? strlen(text) : 0));
	if (agent_form_begin(&f->form, rq, context, method, params) < 0)
		return -EALREADY;
	r = form_wants(&f->form, rq, token);
	if (r < 0)
		form_fail(&f->form, rq, r);
	return r;
}

static int take_place(struct forward *f)
{
	unsigned max = streams_max;

	f->counted = true;
	if (atomic_fetch_add(&streams, 1) < max)
		return 0;
	return va_fault(&f->form.call, VA_FAULT_BUSY, EBUSY,
			"%s: %u forwarded connections at once, the limit (streams in "
			"agent.conf)", f->form.call.method->name, max);
}

void agent_forward_set_max(unsigned connections, unsigned max_listeners,
			   unsigned buffer)
{
	stream_buffer = buffer;
	streams_max = connections;
	pthread_mutex_lock(&lock);
	listeners_max = max_listeners;
	pthread_mutex_unlock(&lock);
}

/* What outlives the request moves into a state of its own. */
static struct forward *detach(struct forward *f)
{
	struct forward *own = calloc(1, sizeof(*own));

	if (!own)
		return NULL;
	*own = *f;
	memset(&own->form, 0, sizeof(own->form));
	f->fd = -1;
	f->listener = NULL;
	f->counted = false;
	return own;
}

static int upgrade(struct forward *f, struct http_request *rq, const char *token,
		   void (*run)(void *, int, const void *, size_t))
{
	struct forward *own = detach(f);
	int r = own ? http_respond_upgrade(rq, token, run, own) : -ENOMEM;

	if (r < 0 && own) {
		listener_put(own->listener, own->holder);
		forward_done(own);
	}
	return r;
}

/* --- a connection --------------------------------------------------------------- */

static void run_stream(void *arg, int fd, const void *extra, size_t extra_len)
{
	struct forward *f = arg;

	if (fd >= 0)
		(void)stream_pump(fd, f->fd, extra, extra_len, stream_buffer, f->stop_fd);
	forward_done(f);
}

int agent_connect_get(struct http_request *rq, void *context)
{
	const char *target = http_request_query(rq, "to");
	CLEANUP_FREE struct connect_to *to = malloc(sizeof(*to));
	struct forward *f = forward_new(rq);
	int r;

	if (!f || !to)
		return -ENOMEM;
	if (begin(f, rq, context, "guest.connect", target, STREAM_TOKEN) < 0)
		return 0;
	r = take_place(f);
	if (r == 0)
		r = guest_connect(&f->form.call, target ? target : "", to, &f->fd);
	if (r < 0)
		return form_fail(&f->form, rq, r);
	return upgrade(f, rq, STREAM_TOKEN, run_stream);
}

/* --- listening ---------------------------------------------------------------------- */

/* Until the client closes or the server ends; what it sends is passed over. */
static void run_listen(void *arg, int fd, const void *extra, size_t extra_len)
{
	struct forward *f = arg;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char drop[256];
	bool go_on = fd >= 0 && send(fd, f->line, strlen(f->line), MSG_NOSIGNAL) > 0;

	while (go_on) {
		ssize_t n;

		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			break;
		n = recv(fd, drop, sizeof(drop), MSG_DONTWAIT);
		go_on = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
	}
	listener_put(f->listener, f->holder);
	forward_done(f);
}

int agent_listen_get(struct http_request *rq, void *context)
{
	const char *at = http_request_query(rq, "at");
	struct forward *f = forward_new(rq);
	char address[80];
	int fd, r;

	if (!f)
		return -ENOMEM;
	if (begin(f, rq, context, "guest.listen", at, LISTEN_TOKEN) < 0)
		return 0;
	r = guest_listen(&f->form.call, at ? at : "", address, sizeof(address), &fd);
	if (r == 0) {
		r = listener_add(&f->form.call, fd, &f->listener);
		if (r < 0)
			close(fd);
	}
	if (r < 0)
		return form_fail(&f->form, rq, r);
	f->holder = true;
	snprintf(f->line, sizeof(f->line), "listener %u at %s\n", f->listener->id, address);
	return upgrade(f, rq, LISTEN_TOKEN, run_listen);
}

static int wait_accept(struct forward *f)
{
	struct va_call *call = &f->form.call;

	for (;;) {
		struct pollfd p[] = { { .fd = f->listener->fd, .events = POLLIN },
				      { .fd = call->cancel_fd, .events = POLLIN } };

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if (p[1].revents)
			return va_fail(call, ECANCELED, "the caller left");
		if (!p[0].revents)
			continue;
		f->fd = sock_accept(f->listener->fd);
		if (f->fd >= 0)
			return 0;
		if (f->fd == -EMFILE || f->fd == -ENFILE || f->fd == -ENOMEM)
			return f->fd;
		if (f->fd != -EAGAIN)
			return va_fail(call, ENOENT, "the listener has ended");
	}
}

int agent_accept_get(struct http_request *rq, void *context)
{
	const char *number = http_request_query(rq, "listener");
	struct forward *f = forward_new(rq);
	uint64_t id = 0;
	int r = 0;

	if (!f)
		return -ENOMEM;
	if (begin(f, rq, context, "guest.listen", number, STREAM_TOKEN) < 0)
		return 0;
	if (!number || str_to_u64(number, UINT32_MAX, &id) < 0 ||
	    !(f->listener = listener_get(id)))
		r = va_fail(&f->form.call, ENOENT, "there is no listener %.20s",
			    number ? number : "");
	if (r == 0)
		r = take_place(f);
	if (r == 0)
		r = wait_accept(f);
	if (r < 0)
		return form_fail(&f->form, rq, r);
	listener_put(f->listener, false);
	f->listener = NULL;
	return upgrade(f, rq, STREAM_TOKEN, run_stream);
}
