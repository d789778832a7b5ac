/*
 * transport.h - how bytes get to the channel and back
 *
 * One transport is one channel that may come and go: a socket that is dialled or
 * accepted, a virtio port, a tty, an inherited descriptor.  The endpoint drives
 * it: open, read and write while it is open, close, open again.  A transport
 * never blocks and holds no bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_TRANSPORT_H
#define VP_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "virtproxy/mux.h"
#include "virtproxy/virtproxy.h"

struct vp_transport;

struct vp_transport_ops {
	/* What the guest's end knows the channel to be. */
	enum vp_channel kind;
	/* Bytes per write, and most that may be read in one call. */
	size_t write_max;
	/*
	 * Gets the channel: 0 (fd is open), -EINPROGRESS (call again when
	 * wait_fd has wait_events) or another negative errno (try later).
	 */
	int (*open)(struct vp_transport *t);
	/*
	 * Bytes, -EAGAIN, -ENOTCONN (the other side is away; the channel stays
	 * open and is asked again later), or another negative errno: lost, to be
	 * closed and opened again.  Write may also answer -ENOBUFS: try again in
	 * some milliseconds, although poll says writable.
	 */
	ssize_t (*read)(struct vp_transport *t, void *buf, size_t n);
	ssize_t (*write)(struct vp_transport *t, const struct iovec *iov, size_t n);
	/* Is the other side there?  1, 0, or a negative errno: lost.  NULL = it is
	 * whenever the channel is open. */
	int (*present)(struct vp_transport *t);
	/* Called once a second while open.  NULL = nothing to look after. */
	void (*check)(struct vp_transport *t);
	/* The mux has learnt what the channel is.  NULL = nothing to set. */
	void (*tune)(struct vp_transport *t, enum vp_channel kind);
	/* Ends the channel; a listener is kept. */
	void (*close)(struct vp_transport *t);
	/* Frees what else there is. */
	void (*done)(struct vp_transport *t);
};

struct vp_transport {
	const struct vp_transport_ops *ops;
	const struct vp_spec *spec;
	const char *label;
	int fd;	      /* the channel; -1 = not open */
	int wait_fd;  /* while opening */
	unsigned wait_events; /* LOOP_READ, LOOP_WRITE */
	int listen_fd;
	unsigned trigger;  /* of the UART, bytes; 0 = none or not known */
	uint64_t overruns; /* R35: bytes the guest's kernel dropped */
	bool complained; /* about the tty being a console */
	bool used;	 /* fd: was opened once */
	uint8_t *flat; /* where a gathered write is made one */
};

extern const struct vp_transport_ops vp_transport_unix_connect;
extern const struct vp_transport_ops vp_transport_unix_listen;
extern const struct vp_transport_ops vp_transport_tcp_connect;
extern const struct vp_transport_ops vp_transport_tcp_listen;
extern const struct vp_transport_ops vp_transport_virtserial;
extern const struct vp_transport_ops vp_transport_isaserial;
extern const struct vp_transport_ops vp_transport_pty;
extern const struct vp_transport_ops vp_transport_fd;

/* Sets t up, closed, for a channel; spec and label must outlive it. */
void vp_transport_init(struct vp_transport *t, const struct vp_spec *spec,
		       const char *label);
void vp_transport_done(struct vp_transport *t);

/* Parts that transports share. */
ssize_t vp_transport_read(struct vp_transport *t, void *buf, size_t n);
ssize_t vp_transport_writev(struct vp_transport *t, const struct iovec *iov, size_t n);
/* One write() of at most write_max bytes, whatever the pieces: a character
 * device would see each piece as a write of its own. */
ssize_t vp_transport_write_flat(struct vp_transport *t, const struct iovec *iov,
				size_t n);
void vp_transport_close(struct vp_transport *t);
void vp_transport_close_listener(struct vp_transport *t);
/* A listener's part of open(): accepts one, or waits. */
int vp_transport_accept(struct vp_transport *t);
void vp_transport_tune_socket(struct vp_transport *t, enum vp_channel kind);

#endif
