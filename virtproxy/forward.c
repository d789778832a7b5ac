/*
 * forward.c - local sockets at both ends of a stream
 *
 * A local connection and a stream end separately in each direction: the local
 * end-of-file becomes the stream's and the other way round (shutdown), so that
 * half-closed dialogues work.  No byte is kept here: the mux takes them straight
 * from the socket when it can send them and hands them to the socket when they
 * come; what the socket does not take stays in the mux, within the credit.
 *
 * A socket is watched for reading as long as each wake-up is followed by reading
 * it empty; only when the mux could not take everything is the watch turned off,
 * until it has.  So a dialogue of small messages costs no epoll_ctl().
 *
 * A local side that breaks is marked, and its stream reset after the pump: the
 * mux is not called back from within its own calls.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/forward.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/sock.h"

static struct log_limit stream_limit = LOG_LIMIT_INIT;

static void watch_more(struct vp_conn *c, unsigned events)
{
	unsigned now = loop_fd_events(c->src);

	if ((now & events) != events)
		loop_fd_set(c->src, now | events);
}

static void watch_less(struct vp_conn *c, unsigned events)
{
	unsigned now = loop_fd_events(c->src);

	if (now & events)
		loop_fd_set(c->src, now & ~events);
}

static void mark_broken(struct vp_conn *c, const char *why)
{
	if (c->broken)
		return;
	c->broken = true;
	snprintf(c->why, sizeof(c->why), "%s", why);
	c->ep->have_broken = true;
	watch_less(c, LOOP_READ | LOOP_WRITE);
}

void conn_free(struct vp_conn *c)
{
	struct vp_endpoint *ep = c->ep;

	if (ep->current == c)
		ep->current = NULL;
	if (c->prev)
		c->prev->next = c->next;
	else
		ep->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	loop_timer_free(c->dial_timer);
	loop_fd_free(c->src);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

/* What local clients do is always logged, what the peer does within limits. */
__attribute__((format(printf, 2, 3)))
static void log_stream(const struct vp_conn *c, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c->opener)
		log_info("%s: stream %u %s %s", c->ep->label, c->meta.stream, c->service,
			 text);
	else
		log_ratelimited(&stream_limit, LOG_LVL_INFO, "%s: stream %u %s %s",
				c->ep->label, c->meta.stream, c->service, text);
}

static void log_end(const struct vp_conn *c, int reason, const char *text)
{
	char why[VP_REASON_MAX * 4 + 1] = "";

	if (reason)
		log_escape(why, sizeof(why), text ? text : "", text ? strlen(text) : 0);
	log_stream(c, "closed%s%s%s%s, %llu bytes sent, %llu received",
		   reason ? ": " : "", reason ? vp_reset_text(reason) : "",
		   *why ? ": " : "", why,
		   (unsigned long long)vp_stream_tx_bytes(c->stream),
		   (unsigned long long)vp_stream_rx_bytes(c->stream));
}

static void log_start(const struct vp_conn *c)
{
	log_stream(c, "opened by %s, uid %d gid %d pid %d",
		   c->opener ? "a local client" : "the peer", (int)c->meta.uid,
		   (int)c->meta.gid, (int)c->meta.pid);
}

static void on_local(int fd, unsigned events, void *arg)
{
	struct vp_conn *c = arg;
	struct vp_endpoint *ep = c->ep;

	if (c->dialing) {
		dial_continue(c);
		endpoint_pump(ep);
		return;
	}
	ep->current = c;
	if (events & LOOP_READ) {
		c->readable = true;
		vp_stream_ready(c->stream);
	}
	if ((events & LOOP_WRITE) && ep->current) {
		watch_less(c, LOOP_WRITE);
		vp_stream_drain(c->stream);
	}
	endpoint_pump(ep);
	/* Still there and not read empty: the mux takes no more for now. */
	if (ep->current && c->readable)
		watch_less(c, LOOP_READ);
	ep->current = NULL;
}

struct vp_conn *conn_new(struct vp_endpoint *ep, int fd, const char *service)
{
	struct vp_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->ep = ep;
	c->fd = -1;
	snprintf(c->service, sizeof(c->service), "%s", service);
	c->src = loop_fd_new(ep->loop, fd, 0, on_local, c);
	if (!c->src) {
		free(c);
		return NULL;
	}
	c->fd = fd;
	c->next = ep->conns;
	if (c->next)
		c->next->prev = c;
	ep->conns = c;
	return c;
}

void conn_start(struct vp_conn *c)
{
	int on = 1;

	/* Fails on a unix socket, where it is not needed. */
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	sock_set_room(c->fd, VP_LOCAL_ROOM);
	c->dialing = false;
	log_start(c);
	loop_fd_set(c->src, LOOP_READ);
}

ssize_t forward_fill(void *arg, struct vp_stream *s, uint8_t *buf, size_t max)
{
	struct vp_conn *c = vp_stream_user(s);
	ssize_t n;

	if (!c || c->broken)
		return VP_FILL_RESET;
	if (c->dialing)
		return VP_FILL_AGAIN;
	if (c->emptied) {
		/* The last read took less than it asked for. */
		c->emptied = c->readable = false;
		watch_more(c, LOOP_READ);
		return VP_FILL_AGAIN;
	}
	do
		n = recv(c->fd, buf, max, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		c->emptied = (size_t)n < max;
		return n;
	}
	if (n == 0) {
		c->readable = false;
		watch_less(c, LOOP_READ);
		return VP_FILL_EOF;
	}
	if (errno == EAGAIN) {
		c->readable = false;
		watch_more(c, LOOP_READ);
		return VP_FILL_AGAIN;
	}
	mark_broken(c, strerror(errno));
	return VP_FILL_AGAIN;
}

size_t forward_deliver(void *arg, struct vp_stream *s, const uint8_t *data,
		       size_t len)
{
	struct vp_conn *c = vp_stream_user(s);
	size_t done = 0;

	if (!c || c->broken)
		return len;
	if (c->dialing)
		return 0;
	while (done < len) {
		ssize_t n = send(c->fd, data + done, len - done, MSG_NOSIGNAL);

		if (n >= 0) {
			done += (size_t)n;
		} else if (errno == EAGAIN) {
			watch_more(c, LOOP_WRITE);
			break;
		} else if (errno != EINTR) {
			mark_broken(c, strerror(errno));
			return len;
		}
	}
	return done;
}

void forward_eof(void *arg, struct vp_stream *s)
{
	struct vp_conn *c = vp_stream_user(s);

	if (!c || c->broken)
		return;
	if (c->dialing)
		c->eof_pending = true;
	else
		shutdown(c->fd, SHUT_WR);
}

void forward_closed(void *arg, struct vp_stream *s, int reason, const char *text)
{
	struct vp_endpoint *ep = arg;
	struct vp_conn *c = vp_stream_user(s);
	struct linger abort = { .l_onoff = 1 };

	if (!c)
		return;
	/* TCP can tell the local side; a unix socket just ends. */
	if (reason)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
	if (c->opener && (reason == VP_RESET_NO_SERVICE || reason == VP_RESET_REFUSED)) {
		ep->counts.refused_there++;
		endpoint_note_refused(ep, c->meta.stream, c->service,
				      text && *text ? text : vp_reset_text(reason));
	}
	log_end(c, reason, text);
	conn_free(c);
}

bool forward_reap(struct vp_endpoint *ep)
{
	struct vp_conn *c, *next;

	if (!ep->have_broken)
		return false;
	ep->have_broken = false;
	for (c = ep->conns; c; c = next) {
		enum vp_reset reason = c->dialing ? VP_RESET_REFUSED : VP_RESET_BY_PEER;

		next = c->next;
		if (!c->broken)
			continue;
		if (c->dialing) {
			ep->counts.refused_here++;
			endpoint_note_refused(ep, c->meta.stream, c->service, c->why);
		}
		log_end(c, reason, c->why);
		vp_stream_reset(c->stream, reason, c->why);
		conn_free(c);
	}
	return true;
}

void vp_endpoint_reset_accepted(struct vp_endpoint *ep, const char *service,
				bool (*spare)(void *arg, uint32_t stream),
				void *arg, const char *why)
{
	for (struct vp_conn *c = ep->conns; c; c = c->next)
		if (!c->opener && !c->dialing && strcmp(c->service, service) == 0 &&
		    !(spare && spare(arg, c->meta.stream)))
			mark_broken(c, why);
	endpoint_pump(ep);
}

bool vp_endpoint_serves(const struct vp_endpoint *ep)
{
	const struct vp_conn *c = ep->conns;

	while (c && c->opener)
		c = c->next;
	return c;
}

int forward_list(const struct vp_endpoint *ep, struct buf *answer)
{
	int r = 0;

	for (const struct vp_conn *c = ep->conns; c && r == 0; c = c->next)
		r = buf_printf(answer, "%u %s %s uid %d gid %d pid %d sent %llu received "
			       "%llu%s\n", c->meta.stream, c->service,
			       c->opener ? "out" : "in", (int)c->meta.uid,
			       (int)c->meta.gid, (int)c->meta.pid,
			       (unsigned long long)vp_stream_tx_bytes(c->stream),
			       (unsigned long long)vp_stream_rx_bytes(c->stream),
			       c->dialing ? " dialing" : "");
	return r;
}

void forward_free_all(struct vp_endpoint *ep)
{
	while (ep->conns)
		conn_free(ep->conns);
	listen_free_all(ep);
	dial_free_all(ep);
}
