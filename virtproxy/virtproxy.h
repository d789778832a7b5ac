/*
 * virtproxy.h - the one public header of virtproxy
 *
 * An endpoint is one channel and what is forwarded over it.  It runs on the
 * caller's event loop and never blocks.  virtproxy(8) is a thin program over
 * this; va-agent embeds it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VIRTPROXY_H
#define VIRTPROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/loop.h"
#include "common/sock.h"

struct vp_endpoint;

enum vp_method {
	VP_UNIX_CONNECT,
	VP_UNIX_LISTEN,
	VP_TCP_CONNECT,
	VP_TCP_LISTEN,
	VP_VIRTSERIAL_OPEN,
	VP_ISASERIAL_OPEN,
	VP_PTY_OPEN,
	VP_FD,
};

/* METHOD:ADDR:PORT[:ID], SERVICE:ADDR:PORT[:ID]; PORT "-" = ADDR is a path.
 * IPv6 addresses stand in square brackets. */
struct vp_spec {
	enum vp_method method; /* of a channel */
	char name[64];	       /* service of a forward; method's word of a channel */
	char addr[256];
	char port[32];
	unsigned id;
};

/* 0, or -EINVAL with the reason in err. */
int vp_parse_channel(const char *text, struct vp_spec *ret, char *err,
		     size_t err_size);
int vp_parse_forward(const char *text, struct vp_spec *ret, char *err,
		     size_t err_size);

struct vp_endpoint_config {
	struct loop *loop;
	struct vp_spec channel;
	const char *label;  /* in log lines: the guest's name, or the channel */
	bool guest;	    /* this is the guest's end */
	bool probe_serial;  /* host: a HELLO may be sent before the guest spoke (R23) */
	bool long_rest;	    /* host: one of very many (PROTOCOL 7.4) */
	const char *qmp_path; /* host: QMP socket for hints (R30, R33), or NULL */
	bool compress;
	uint32_t start_seq; /* tests */
};

/* A stream that the peer opened, as a connected socket. */
struct vp_incoming {
	int fd; /* AF_UNIX SOCK_STREAM, the receiver's to close */
	const char *service;
	uint32_t uid, gid, pid, stream; /* as the opener's virtproxy vouches */
};

/* 0 when fd was taken over; a negative errno refuses the stream. */
typedef int (*vp_accept_fn)(void *arg, const struct vp_incoming *in);

/* NULL with errno; the reason is in err.  Locks the channel against a second
 * process (-EBUSY, the holder named). */
struct vp_endpoint *vp_endpoint_new(const struct vp_endpoint_config *cfg,
				    char *err, size_t err_size);
void vp_endpoint_free(struct vp_endpoint *ep);

/* Local connections to a listening socket open streams to the peer's SERVICE.
 * gid: as sock_unix_listen(). */
int vp_endpoint_add_oforward(struct vp_endpoint *ep, const struct vp_spec *spec,
			     gid_t gid, char *err, size_t err_size);
/* The same for a socket that already listens (taken over). */
int vp_endpoint_add_oforward_fd(struct vp_endpoint *ep, const char *service,
				int listen_fd);
/*
 * Streams that the peer opens to SERVICE dial a local socket.  A unix socket is
 * dialled from an abstract address that carries the opener's identity:
 * "virtproxy/PID/STREAM/UID/GID/PID" (this process's pid; then the stream's
 * number and the opener's credentials), readable with sock_peer_name().
 */
int vp_endpoint_add_iforward(struct vp_endpoint *ep, const struct vp_spec *spec,
			     char *err, size_t err_size);
/* The same, handed to a callback as a connected socket. */
int vp_endpoint_add_acceptor(struct vp_endpoint *ep, const char *service,
			     vp_accept_fn fn, void *arg);

/*
 * Resets the streams to SERVICE that were handed to its acceptor, but those for
 * which spare(arg, number) is true (NULL: all); why is told to both sides.  For
 * an acceptor whose process hangs and will never close what it has.
 */
void vp_endpoint_reset_accepted(struct vp_endpoint *ep, const char *service,
				bool (*spare)(void *arg, uint32_t stream),
				void *arg, const char *why);

/*
 * A control socket: one command per line, an answer ending in an empty line.
 *   ping           answers "ok"
 *   status         "key value" lines: session, channel, peer, counters
 *   status json    the same as one JSON object
 *   streams        one line per stream
 *   refused        the last 16 refused streams: number (0: there was no session
 *                  to open one in), service, reason
 *   quiesce [SECONDS]   holds everything back, both sides, for so long at most
 *                  (60): "idle" when nothing is under way any more, else "busy"
 *   resume         goes on
 *   release-qmp SECONDS   leaves the QMP socket to others for so long (0: takes
 *                  it again now)
 *   reconnect      close and reopen the transport
 *   adopt          marks this connection as the supervisor's: events follow as
 *                  lines "event session up|down WHY", "event channel
 *                  up|down|closed WHY" (closed: by virtproxy itself; the
 *                  machine did not end), "event refused NUMBER SERVICE REASON",
 *                  "event peer silent|heard" (nothing came for 5 s; something
 *                  came again)
 *   shutdown       ends the process after streams were told
 */
int vp_endpoint_add_ctl(struct vp_endpoint *ep, const char *path, gid_t gid,
			char *err, size_t err_size);
/* Handles one such command line without a socket. */
int vp_endpoint_command(struct vp_endpoint *ep, const char *line,
			struct buf *answer);

bool vp_endpoint_session_up(const struct vp_endpoint *ep);
/* Are streams open that the peer opened? */
bool vp_endpoint_serves(const struct vp_endpoint *ep);
/* Bytes that all streams have moved so far, both ways. */
uint64_t vp_endpoint_bytes(const struct vp_endpoint *ep);
/* Called when the session comes or goes. */
void vp_endpoint_on_session(struct vp_endpoint *ep,
			    void (*fn)(void *arg, bool up, const char *why),
			    void *arg);
/* Tells the peer goodbye and why (printable, up to 60 bytes; the peer's "session
 * down" event repeats it; NULL = "shutdown"); done is called when it was sent or
 * after 500 ms. */
void vp_endpoint_shutdown(struct vp_endpoint *ep, const char *why, loop_fn done,
			  void *arg);

#endif
