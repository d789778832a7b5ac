/*
 * transport_fd.c - fd: a channel that was inherited
 *
 * A connected stream socket, or a pair of the kind, opened by who started this
 * process.  Once it has ended there is no other: the endpoint says so and stays
 * without a channel.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/sock.h"

#define FD_WRITE_MAX 65536

static int fd_open(struct vp_transport *t)
{
	int fd = atoi(t->spec->addr); /* the grammar let digits through only */
	struct stat st;
	int r;

	if (t->used)
		return -ENOTCONN;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode) && !S_ISCHR(st.st_mode))
		return -ENOTSOCK;
	r = fd_set_nonblock(fd, true);
	if (r == 0)
		r = fd_set_cloexec(fd, true);
	if (r < 0)
		return r;
	t->used = true; /* the number is good for one opening */
	t->fd = fd;
	return 0;
}

const struct vp_transport_ops vp_transport_fd = {
	.kind = VP_CHANNEL_VIRTIO,
	.write_max = FD_WRITE_MAX,
	.open = fd_open,
	.read = vp_transport_read,
	.write = vp_transport_writev,
	.tune = vp_transport_tune_socket,
	.close = vp_transport_close,
};
