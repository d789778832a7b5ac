/*
 * transport_virtserial.c - virtserial-open: a virtio-serial port in the guest
 *
 * While no host is attached the port polls POLLHUP and reads as end-of-file.
 * That is not the end of the channel: it is kept open (closing it would throw
 * away half a megabyte of received data) and asked again a little later.  Only
 * an unplugged port is closed.  A write may take nothing, or fail with ENOMEM,
 * and mean no more than "later".
 *
 * The port is named by its device node, or by its name alone.  Without udev
 * there is no /dev/virtio-ports: the name is then looked for in
 * /sys/class/virtio-ports.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/transport.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"

#define PORTS_SYSFS "/sys/class/virtio-ports"
#define PORT_WRITE_MAX 32768 /* what the driver takes in one write() */

/* Does the sysfs entry (a port's directory) carry the name? */
static bool has_name(const char *entry, const char *name)
{
	CLEANUP_CLOSE int fd = -1;
	char path[512], got[128];
	ssize_t n;

	snprintf(path, sizeof(path), PORTS_SYSFS "/%s/name", entry);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, got, sizeof(got) - 1);
	if (n <= 0)
		return false;
	got[n] = 0;
	got[strcspn(got, "\n")] = 0;
	return strcmp(got, name) == 0;
}

/* The device node of the port of that name, as udev would have linked it. */
static int find_by_name(const char *name, char *path, size_t size)
{
	CLEANUP_CLOSEDIR DIR *d = opendir(PORTS_SYSFS);
	struct dirent *e;

	if (!d)
		return -ENOENT;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' || !has_name(e->d_name, name))
			continue;
		if ((size_t)snprintf(path, size, "/dev/%s", e->d_name) >= size)
			return -ENAMETOOLONG;
		return 0;
	}
	return -ENOENT;
}

static int port_open(struct vp_transport *t)
{
	const char *addr = t->spec->addr, *slash = strrchr(addr, '/');
	char path[300];
	int r;

	t->fd = open(addr, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (t->fd >= 0)
		return 0;
	if (errno != ENOENT)
		return -errno;
	r = find_by_name(slash ? slash + 1 : addr, path, sizeof(path));
	if (r < 0)
		return r;
	t->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	return t->fd < 0 ? -errno : 0;
}

static ssize_t port_read(struct vp_transport *t, void *buf, size_t n)
{
	ssize_t r;

	do
		r = read(t->fd, buf, n);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return -ENOTCONN;
	return r < 0 ? -errno : r;
}

static ssize_t port_write(struct vp_transport *t, const struct iovec *iov, size_t n)
{
	ssize_t r = vp_transport_write_flat(t, iov, n);

	return r == 0 || r == -ENOMEM || r == -ENOSPC ? -ENOBUFS : r;
}

static int port_present(struct vp_transport *t)
{
	struct pollfd p = { .fd = t->fd, .events = POLLIN | POLLOUT };
	char byte;

	if (poll(&p, 1, 0) < 0 || !(p.revents & POLLHUP))
		return 1;
	/* Asking for no bytes takes none, and tells an unplugged port from one
	 * whose host is away. */
	return read(t->fd, &byte, 0) < 0 ? -errno : 0;
}

const struct vp_transport_ops vp_transport_virtserial = {
	.kind = VP_CHANNEL_VIRTIO,
	.write_max = PORT_WRITE_MAX,
	.open = port_open,
	.read = port_read,
	.write = port_write,
	.present = port_present,
	.close = vp_transport_close,
};
