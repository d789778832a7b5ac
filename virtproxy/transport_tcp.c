/*
 * transport_tcp.c - tcp-connect and tcp-listen
 *
 * For a QEMU whose chardev is a TCP socket, and for guests reached over a
 * network.  Nothing is encrypted and nobody is authenticated: loopback and
 * trusted networks only.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/transport.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "common/loop.h"
#include "common/sock.h"

#define SOCKET_WRITE_MAX 65536

/* A peer that vanished without a word is noticed within about a minute. */
static void set_options(int fd)
{
	int on = 1, idle = 30, interval = 10, count = 3;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static int connect_open(struct vp_transport *t)
{
	struct pollfd p = { .fd = t->fd, .events = POLLOUT };
	int r;

	if (t->fd < 0) {
		r = sock_tcp_connect(t->spec->addr, t->spec->port);
		if (r < 0)
			return r;
		t->fd = p.fd = r;
		set_options(t->fd);
	}
	if (poll(&p, 1, 0) <= 0) {
		t->wait_fd = t->fd;
		t->wait_events = LOOP_WRITE;
		return -EINPROGRESS;
	}
	return sock_error(t->fd);
}

static int listen_open(struct vp_transport *t)
{
	int r;

	if (t->listen_fd < 0) {
		r = sock_tcp_listen(t->spec->addr, t->spec->port);
		if (r < 0)
			return r;
		t->listen_fd = r;
	}
	r = vp_transport_accept(t);
	if (r == 0)
		set_options(t->fd);
	return r;
}

const struct vp_transport_ops vp_transport_tcp_connect = {
	.kind = VP_CHANNEL_VIRTIO,
	.write_max = SOCKET_WRITE_MAX,
	.open = connect_open,
	.read = vp_transport_read,
	.write = vp_transport_writev,
	.tune = vp_transport_tune_socket,
	.close = vp_transport_close,
};

const struct vp_transport_ops vp_transport_tcp_listen = {
	.kind = VP_CHANNEL_VIRTIO,
	.write_max = SOCKET_WRITE_MAX,
	.open = listen_open,
	.read = vp_transport_read,
	.write = vp_transport_writev,
	.tune = vp_transport_tune_socket,
	.close = vp_transport_close,
	.done = vp_transport_close_listener,
};
