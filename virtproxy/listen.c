/*
 * listen.c - local clients: listening sockets whose connections open streams
 *
 * A client that connects while there is no session is let in and closed at once:
 * waiting for a peer that may never come is what hung callers for ever.  One that
 * connects while the peer is silent waits with it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/seal.h"
#include "common/sock.h"
#include "virtproxy/forward.h"

#define SILENT_AFTER (3 * NSEC_PER_SEC)

static struct log_limit client_limit = LOG_LIMIT_INIT;

/* A local client has connected: open a stream for it, or hang up. */
static void take_client(struct vp_oforward *f, int fd)
{
	struct vp_endpoint *ep = f->ep;
	struct peer_cred cred = PEER_CRED_UNKNOWN;
	struct vp_conn *c;

	if (!vp_mux_session_up(ep->mux) || ep->goodbye) {
		ep->counts.refused_absent++;
		log_ratelimited(&client_limit, LOG_LVL_INFO,
				"%s: a client of %s was closed at once: no session with "
				"the peer", ep->label, f->service);
		endpoint_note_refused(ep, 0, f->service, "no session with the peer");
		close(fd);
		return;
	}
	c = conn_new(ep, fd, f->service);
	if (!c) {
		close(fd);
		return;
	}
	sock_peer_cred(fd, &cred);
	c->opener = true;
	c->meta = (struct vp_meta){ cred.uid, cred.gid, (uint32_t)cred.pid, 0 };
	c->stream = vp_stream_open(ep->mux, f->service, &c->meta, c);
	if (!c->stream) {
		int r = errno;

		ep->counts.refused_here++;
		log_ratelimited(&client_limit, LOG_LVL_WARNING,
				"%s: no stream for a client of %s: %s", ep->label,
				f->service, strerror(r));
		endpoint_note_refused(ep, 0, f->service, strerror(r));
		conn_free(c);
		return;
	}
	c->meta.stream = vp_stream_id(c->stream);
	if (clock_now() - vp_mux_last_heard(ep->mux) >
	    SILENT_AFTER + vp_mux_grace(ep->mux))
		ep->counts.open_while_silent++;
	conn_start(c);
	vp_stream_ready(c->stream);
}

static void on_listener(int listen_fd, unsigned events, void *arg)
{
	struct vp_oforward *f = arg;
	struct vp_endpoint *ep = f->ep;
	int fd;

	while ((fd = sock_accept(listen_fd)) >= 0)
		take_client(f, fd);
	if (fd != -EAGAIN) {
		log_ratelimited(&client_limit, LOG_LVL_WARNING, "%s: accept for %s: %s",
				ep->label, f->service, strerror(-fd));
		loop_fd_pause(f->src, LOOP_ACCEPT_PAUSE);
	}
	endpoint_pump(ep);
}

static void oforward_free(struct vp_oforward *f)
{
	struct stat st;

	/* Only the name that we made: it may be another's by now. */
	if (f->path && stat(f->path, &st) == 0 && st.st_ino == f->ino &&
	    st.st_dev == f->dev)
		unlink(seal_path(f->path));
	loop_fd_free(f->src);
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	free(f);
}

int vp_endpoint_add_oforward_fd(struct vp_endpoint *ep, const char *service,
				int listen_fd)
{
	struct vp_oforward *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->ep = ep;
	f->fd = -1;
	snprintf(f->service, sizeof(f->service), "%s", service);
	r = fd_set_nonblock(listen_fd, true);
	if (r == 0) {
		f->src = loop_fd_new(ep->loop, listen_fd, LOOP_READ, on_listener, f);
		r = f->src ? 0 : -errno;
	}
	if (r < 0) {
		oforward_free(f);
		return r;
	}
	f->fd = listen_fd;
	f->next = ep->oforwards;
	ep->oforwards = f;
	return 0;
}

int vp_endpoint_add_oforward(struct vp_endpoint *ep, const struct vp_spec *spec,
			     gid_t gid, char *err, size_t err_size)
{
	bool is_path = strcmp(spec->port, "-") == 0;
	CLEANUP_CLOSE int fd = is_path ? sock_unix_listen(spec->addr, gid) :
					 sock_tcp_listen(spec->addr, spec->port);
	struct stat st;
	int r = fd < 0 ? fd : vp_endpoint_add_oforward_fd(ep, spec->name, fd);

	if (r < 0) {
		snprintf(err, err_size, "%s%s%s: %s", spec->addr, is_path ? "" : ":",
			 is_path ? "" : spec->port,
			 r == -EADDRINUSE ? "somebody listens there already" :
			 r == -EEXIST	  ? "exists and is no socket" :
					    strerror(-r));
		return r;
	}
	take_fd(fd);
	if (is_path && stat(spec->addr, &st) == 0) {
		ep->oforwards->path = strdup(spec->addr);
		ep->oforwards->ino = st.st_ino;
		ep->oforwards->dev = st.st_dev;
	}
	return 0;
}

void listen_free_all(struct vp_endpoint *ep)
{
	while (ep->oforwards) {
		struct vp_oforward *f = ep->oforwards;

		ep->oforwards = f->next;
		oforward_free(f);
	}
}
