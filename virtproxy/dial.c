/*
 * dial.c - streams that the peer opens, and the local services that take them
 *
 * A unix socket is dialled from an abstract address that says who opened the
 * stream, so that the service learns it with getpeername() and not a byte of the
 * stream is needed for it.  A service whose backlog is full is tried again for a
 * while; what cannot be reached is a refusal that names address and reason.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/sock.h"
#include "virtproxy/forward.h"

#define DIAL_RETRY (10 * NSEC_PER_MSEC)
#define DIAL_MAX (5 * NSEC_PER_SEC)

static struct vp_iforward *find_iforward(struct vp_endpoint *ep, const char *service)
{
	struct vp_iforward *f = ep->iforwards;

	while (f && strcmp(f->spec.name, service) != 0)
		f = f->next;
	return f;
}

/* -EINPROGRESS is not an answer here: a TCP socket comes back at once. */
static int dial(const struct vp_iforward *f, const struct vp_meta *m)
{
	char name[108];

	if (strcmp(f->spec.port, "-") != 0)
		return sock_tcp_connect(f->spec.addr, f->spec.port);
	snprintf(name, sizeof(name), "virtproxy/%d/%u/%u/%u/%u", (int)getpid(), m->stream,
		 m->uid, m->gid, m->pid);
	return sock_unix_connect_as(f->spec.addr, name);
}

/* For the peer: without the address, which is none of its business. */
static void explain(char *why, const struct vp_iforward *f, int r)
{
	snprintf(why, VP_REASON_MAX + 1, "%s: %s", f->spec.name, strerror(-r));
	if (f->spec.addr[0])
		log_debug("service %s at %s: %s", f->spec.name, f->spec.addr,
			  strerror(-r));
}

static void dial_failed(struct vp_conn *c, int r)
{
	c->broken = c->ep->have_broken = true;
	explain(c->why, c->iforward, r);
	loop_fd_set(c->src, 0);
}

static void on_dial_timer(void *arg)
{
	struct vp_conn *c = arg;
	struct vp_endpoint *ep = c->ep;

	dial_continue(c);
	endpoint_pump(ep);
}

/* The backlog was full: the descriptor of c is a stand-in; dial again. */
static void dial_again(struct vp_conn *c)
{
	int fd = dial(c->iforward, &c->meta);

	if (fd == -EAGAIN && clock_now() < c->dial_until)
		loop_timer_in(c->dial_timer, DIAL_RETRY);
	else if (fd < 0)
		dial_failed(c, fd);
	else {
		/* Takes the stand-in's place, so that the watch stays. */
		dup3(fd, c->fd, O_CLOEXEC);
		close(fd);
		loop_timer_stop(c->dial_timer);
		loop_timer_free(c->dial_timer);
		c->dial_timer = NULL;
		dial_continue(c);
	}
}

void dial_continue(struct vp_conn *c)
{
	int r;

	if (c->broken)
		return;
	if (c->dial_timer) {
		dial_again(c);
		return;
	}
	r = sock_error(c->fd);
	if (r < 0) {
		dial_failed(c, r);
		return;
	}
	conn_start(c);
	vp_stream_drain(c->stream);
	if (c->eof_pending && !c->broken)
		shutdown(c->fd, SHUT_WR);
	vp_stream_ready(c->stream);
}

static int start_dial(struct vp_endpoint *ep, struct vp_iforward *f,
		      struct vp_stream *s, const struct vp_meta *meta, char *why)
{
	CLEANUP_CLOSE int fd = dial(f, meta);
	bool full = fd == -EAGAIN;
	struct vp_conn *c;

	if (full)
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		explain(why, f, full ? -errno : fd);
		return VP_RESET_REFUSED;
	}
	c = conn_new(ep, fd, f->spec.name);
	if (!c) {
		explain(why, f, -ENOMEM);
		return VP_RESET_REFUSED;
	}
	take_fd(fd);
	c->iforward = f;
	c->stream = s;
	c->meta = *meta;
	c->dialing = true;
	vp_stream_set_user(s, c);
	if (full) {
		c->dial_until = clock_now() + DIAL_MAX;
		c->dial_timer = loop_timer_new(ep->loop, on_dial_timer, c);
		if (c->dial_timer)
			loop_timer_in(c->dial_timer, DIAL_RETRY);
		else
			dial_failed(c, -ENOMEM);
	} else if (strcmp(f->spec.port, "-") != 0) {
		loop_fd_set(c->src, LOOP_WRITE); /* TCP: connected when writable */
	} else {
		conn_start(c);
	}
	return 0;
}

static int hand_over(struct vp_endpoint *ep, struct vp_iforward *f,
		     struct vp_stream *s, const struct vp_meta *meta, char *why)
{
	struct vp_incoming in = { .service = f->spec.name, .uid = meta->uid,
				  .gid = meta->gid, .pid = meta->pid,
				  .stream = meta->stream };
	struct vp_conn *c;
	int fds[2], r = sock_pair(SOCK_STREAM, fds);

	if (r < 0) {
		explain(why, f, r);
		return VP_RESET_REFUSED;
	}
	c = conn_new(ep, fds[0], f->spec.name);
	if (!c) {
		close(fds[0]);
		close(fds[1]);
		explain(why, f, -ENOMEM);
		return VP_RESET_REFUSED;
	}
	sock_set_room(fds[1], VP_LOCAL_ROOM);
	in.fd = fds[1];
	r = f->fn(f->arg, &in);
	if (r < 0) {
		close(fds[1]);
		conn_free(c);
		explain(why, f, r);
		return VP_RESET_REFUSED;
	}
	c->iforward = f;
	c->stream = s;
	c->meta = *meta;
	vp_stream_set_user(s, c);
	conn_start(c);
	return 0;
}

int forward_opened(void *arg, struct vp_stream *s, const char *service,
		   const struct vp_meta *meta, char *why)
{
	static struct log_limit limit = LOG_LIMIT_INIT;
	struct vp_endpoint *ep = arg;
	struct vp_iforward *f = find_iforward(ep, service);
	char shown[VP_SERVICE_MAX * 4 + 1];
	int r = VP_RESET_NO_SERVICE;

	log_escape(shown, sizeof(shown), service, strlen(service));
	if (!f)
		snprintf(why, VP_REASON_MAX + 1, "nobody serves %.*s", VP_SERVICE_MAX,
			 shown);
	else if (f->fn)
		r = hand_over(ep, f, s, meta, why);
	else
		r = start_dial(ep, f, s, meta, why);
	if (r == 0)
		return 0;
	ep->counts.refused_here++;
	log_ratelimited(&limit, LOG_LVL_WARNING, "%s: stream %u of the peer refused: %s",
			ep->label, meta->stream, why);
	return r;
}

static int add(struct vp_endpoint *ep, const struct vp_spec *spec, vp_accept_fn fn,
	       void *arg)
{
	struct vp_iforward *f;

	if (find_iforward(ep, spec->name))
		return -EEXIST;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->spec = *spec;
	f->fn = fn;
	f->arg = arg;
	f->next = ep->iforwards;
	ep->iforwards = f;
	return 0;
}

int vp_endpoint_add_iforward(struct vp_endpoint *ep, const struct vp_spec *spec,
			     char *err, size_t err_size)
{
	struct vp_spec numeric = *spec;
	int r = 0;

	/* A name is looked up now, once: later nothing may block. */
	if (strcmp(spec->port, "-") != 0)
		r = sock_tcp_resolve(spec->addr, spec->port, numeric.addr,
				     sizeof(numeric.addr));
	if (r == 0)
		r = add(ep, &numeric, NULL, NULL);
	if (r < 0)
		snprintf(err, err_size, "service %s at %s: %s", spec->name, spec->addr,
			 r == -EEXIST ? "the service is forwarded already" :
					strerror(-r));
	return r;
}

int vp_endpoint_add_acceptor(struct vp_endpoint *ep, const char *service,
			     vp_accept_fn fn, void *arg)
{
	struct vp_spec spec = { .port = "-" };

	if (strlen(service) > VP_SERVICE_MAX)
		return -EINVAL;
	snprintf(spec.name, sizeof(spec.name), "%s", service);
	return add(ep, &spec, fn, arg);
}

void dial_free_all(struct vp_endpoint *ep)
{
	while (ep->iforwards) {
		struct vp_iforward *f = ep->iforwards;

		ep->iforwards = f->next;
		free(f);
	}
}
