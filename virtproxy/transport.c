/*
 * transport.c - what transports share, and which one serves a method
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/loop.h"
#include "common/sock.h"

static const struct vp_transport_ops *const by_method[] = {
	[VP_UNIX_CONNECT] = &vp_transport_unix_connect,
	[VP_UNIX_LISTEN] = &vp_transport_unix_listen,
	[VP_TCP_CONNECT] = &vp_transport_tcp_connect,
	[VP_TCP_LISTEN] = &vp_transport_tcp_listen,
	[VP_VIRTSERIAL_OPEN] = &vp_transport_virtserial,
	[VP_ISASERIAL_OPEN] = &vp_transport_isaserial,
	[VP_PTY_OPEN] = &vp_transport_pty,
	[VP_FD] = &vp_transport_fd,
};

void vp_transport_init(struct vp_transport *t, const struct vp_spec *spec,
		       const char *label)
{
	*t = (struct vp_transport){
		.ops = by_method[spec->method],
		.spec = spec,
		.label = label,
		.fd = -1,
		.wait_fd = -1,
		.listen_fd = -1,
	};
}

void vp_transport_done(struct vp_transport *t)
{
	t->ops->close(t);
	if (t->ops->done)
		t->ops->done(t);
	free(t->flat);
	t->flat = NULL;
}

ssize_t vp_transport_read(struct vp_transport *t, void *buf, size_t n)
{
	ssize_t r;

	do
		r = read(t->fd, buf, n);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return -ECONNRESET;
	return r < 0 ? -errno : r;
}

ssize_t vp_transport_writev(struct vp_transport *t, const struct iovec *iov, size_t n)
{
	ssize_t r;

	do
		r = writev(t->fd, iov, (int)n);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

ssize_t vp_transport_write_flat(struct vp_transport *t, const struct iovec *iov,
				size_t n)
{
	const void *from = iov[0].iov_base;
	size_t len = 0, max = t->ops->write_max;
	ssize_t r;

	if (n > 1) {
		if (!t->flat)
			t->flat = malloc(max);
		if (!t->flat)
			return -ENOBUFS;
		for (size_t i = 0; i < n && len < max; i++) {
			size_t take = iov[i].iov_len;

			if (take > max - len)
				take = max - len;
			memcpy(t->flat + len, iov[i].iov_base, take);
			len += take;
		}
		from = t->flat;
	} else {
		len = iov[0].iov_len < max ? iov[0].iov_len : max;
	}
	do
		r = write(t->fd, from, len);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

void vp_transport_close(struct vp_transport *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = t->wait_fd = -1;
}

void vp_transport_close_listener(struct vp_transport *t)
{
	if (t->listen_fd >= 0)
		close(t->listen_fd);
	t->listen_fd = -1;
}

int vp_transport_accept(struct vp_transport *t)
{
	int fd = sock_accept(t->listen_fd);

	if (fd == -EAGAIN) {
		t->wait_fd = t->listen_fd;
		t->wait_events = LOOP_READ;
		return -EINPROGRESS;
	}
	if (fd < 0)
		return fd;
	t->fd = fd;
	return 0;
}

/*
 * Towards a 16550A a byte takes microseconds, and what stands in the socket's
 * buffer cannot be overtaken by a more urgent frame: keep that buffer small.
 */
#define SERIAL_SNDBUF 8192

void vp_transport_tune_socket(struct vp_transport *t, enum vp_channel kind)
{
	int size = SERIAL_SNDBUF;

	if (kind == VP_CHANNEL_SERIAL && t->fd >= 0)
		setsockopt(t->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}
