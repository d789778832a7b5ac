/*
 * transport_unix.c - unix-connect and unix-listen: QEMU's chardev socket
 *
 * A connected socket proves nothing (QEMU parks a second client in its backlog,
 * and connects are accepted by the kernel): the link above finds out whether
 * anybody is there.  A listener takes one peer at a time; the next one waits in
 * the backlog until the first has left.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/transport.h"

#include <errno.h>
#include <unistd.h>

#include "common/seal.h"
#include "common/sock.h"

#define SOCKET_WRITE_MAX 65536

static int connect_open(struct vp_transport *t)
{
	int fd = sock_unix_connect(t->spec->addr);

	if (fd < 0)
		return fd;
	t->fd = fd;
	return 0;
}

static int listen_open(struct vp_transport *t)
{
	if (t->listen_fd < 0) {
		int fd = sock_unix_listen(t->spec->addr, (gid_t)-1);

		if (fd < 0)
			return fd;
		t->listen_fd = fd;
	}
	return vp_transport_accept(t);
}

static void listen_done(struct vp_transport *t)
{
	/* The channel's lock is held, so the name is still ours. */
	if (t->listen_fd >= 0)
		unlink(seal_path(t->spec->addr));
	vp_transport_close_listener(t);
}

const struct vp_transport_ops vp_transport_unix_connect = {
	.kind = VP_CHANNEL_VIRTIO,
	.write_max = SOCKET_WRITE_MAX,
	.open = connect_open,
	.read = vp_transport_read,
	.write = vp_transport_writev,
	.tune = vp_transport_tune_socket,
	.close = vp_transport_close,
};

const struct vp_transport_ops vp_transport_unix_listen = {
	.kind = VP_CHANNEL_VIRTIO,
	.write_max = SOCKET_WRITE_MAX,
	.open = listen_open,
	.read = vp_transport_read,
	.write = vp_transport_writev,
	.tune = vp_transport_tune_socket,
	.close = vp_transport_close,
	.done = listen_done,
};
