/*
 * forward.h - what forward.c (local connections), listen.c (local clients) and
 * dial.c (local services that the peer reaches) share
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_FORWARD_H
#define VP_FORWARD_H

#include "virtproxy/endpoint.h"

/* Bytes that may stand between a local side and us, each way: half a link window,
 * so that the two processes change places a few times a megabyte. */
#define VP_LOCAL_ROOM (512u << 10)

/* One local connection and its stream. */
struct vp_conn {
	struct vp_endpoint *ep;
	struct vp_conn *prev, *next;
	struct vp_stream *stream;
	int fd;
	struct loop_fd *src;
	const struct vp_iforward *iforward; /* of the dialled ones */
	struct loop_timer *dial_timer;
	uint64_t dial_until;
	bool opener;	  /* by a local client, not by the peer */
	bool dialing;	  /* the local service has not taken us yet */
	bool eof_pending; /* the peer's end came while dialling */
	bool readable;	  /* reported, and not read empty since */
	bool emptied;	  /* the last read took less than it asked for */
	bool broken;	  /* to be reset after the pump */
	struct vp_meta meta;
	char service[VP_SERVICE_MAX + 1];
	char why[VP_REASON_MAX + 1]; /* it broke */
};

/* A listening socket whose connections go to a service of the peer. */
struct vp_oforward {
	struct vp_endpoint *ep;
	struct vp_oforward *next;
	struct loop_fd *src;
	int fd;
	char *path; /* to be removed at the end, if it still is this one */
	dev_t dev;
	ino_t ino;
	char service[VP_SERVICE_MAX + 1];
};

/* A local service that the peer may reach: dialled, or handed to a callback. */
struct vp_iforward {
	struct vp_iforward *next;
	struct vp_spec spec;
	vp_accept_fn fn;
	void *arg;
};

/* A connection, not yet started, that owns fd; NULL on failure, fd is then the
 * caller's still. */
struct vp_conn *conn_new(struct vp_endpoint *ep, int fd, const char *service);
/* The stream is set and the local side is connected: let bytes flow. */
void conn_start(struct vp_conn *c);
void conn_free(struct vp_conn *c);

/* The dialled socket has become writable, or it is time to try again. */
void dial_continue(struct vp_conn *c);
void dial_free_all(struct vp_endpoint *ep);

void listen_free_all(struct vp_endpoint *ep);

#endif
