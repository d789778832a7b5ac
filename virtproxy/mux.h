/*
 * mux.h - byte streams over one lossy, cutting, replaying serial channel
 *
 * The top of the pure layers (frame, link, mux): bytes, events and a time go
 * in; bytes and the next deadline come out.  No descriptors, no clock, no log.
 * The wire is virtproxy/PROTOCOL.
 *
 * Use: the owner feeds what it read from the channel to vp_mux_input(), writes
 * what vp_mux_output() offers, calls vp_mux_tick() at vp_mux_deadline(), and
 * tells of the transport's coming and going.  The mux pulls stream bytes with
 * ops->fill straight into its retransmission buffer and pushes received ones
 * with ops->deliver straight out of the receive buffer, so that a byte is
 * copied at most once each way.
 *
 * Calls into the mux from within an ops callback are allowed unless noted,
 * vp_mux_free() and vp_mux_input() excepted.  Times are nanoseconds of any
 * monotonic clock.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_MUX_H
#define VP_MUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct vp_mux;
struct vp_stream;

enum vp_role { VP_HOST, VP_GUEST };

/* What the channel is.  The host side is told VP_CHANNEL_UNKNOWN (a unix socket
 * does not say) and learns it from the guest's HELLO. */
enum vp_channel {
	VP_CHANNEL_UNKNOWN,
	VP_CHANNEL_SERIAL, /* isa-serial, pci-serial, a pty: corrupts, 8-bit raw */
	VP_CHANNEL_VIRTIO, /* virtio-serial: cuts, replays, duplicates */
};

#define VP_SERVICE_MAX 63u /* bytes in a service name */
#define VP_REASON_MAX 120u /* bytes in a reason text, printable ASCII */
#define VP_FAREWELL_MAX 60u /* bytes of it in a RESET, a short control frame */

/* Who opened a stream, as the opener's side vouches for it. */
struct vp_meta {
	uint32_t uid, gid, pid; /* UINT32_MAX = unknown */
	uint32_t stream;	/* number, unique within the session */
};

/* Why a stream ended other than by both ends' end-of-file. */
enum vp_reset {
	VP_RESET_BY_PEER = 1,	/* the far local socket was reset */
	VP_RESET_NO_SERVICE,	/* nobody serves that name over there */
	VP_RESET_REFUSED,	/* the service could not be reached, or a limit */
	VP_RESET_PEER_RESTARTED, /* new session: outcome unknown */
	VP_RESET_ROLLED_BACK,	/* the peer went back in time: outcome unknown */
	VP_RESET_PROTOCOL,	/* the peer broke the rules */
	VP_RESET_SHUTDOWN,	/* this or the other side ends in an orderly way */
};

const char *vp_reset_text(enum vp_reset reason);

/* ops->fill: no bytes now (vp_stream_ready() will say when) / end of file /
 * the local side is broken: reset the stream. */
#define VP_FILL_AGAIN 0
#define VP_FILL_EOF (-1)
#define VP_FILL_RESET (-2)

struct vp_mux_ops {
	/*
	 * The peer opened a stream.  0 to take it, or a vp_reset to refuse it,
	 * with the reason in why (VP_REASON_MAX + 1 bytes).  May set the user
	 * pointer.
	 */
	int (*opened)(void *arg, struct vp_stream *s, const char *service,
		      const struct vp_meta *meta, char *why);
	/* Up to max bytes of the local side into buf: the count, or VP_FILL_*.
	 * Must not call back into the mux. */
	ssize_t (*fill)(void *arg, struct vp_stream *s, uint8_t *buf, size_t max);
	/*
	 * Received bytes, in order.  Returns how many were consumed; the rest
	 * is kept (within the credit the peer was given) until
	 * vp_stream_drain().  Consumed means: handed to the local socket.
	 */
	size_t (*deliver)(void *arg, struct vp_stream *s, const uint8_t *data,
			  size_t len);
	/* The peer will send no more; all its bytes have been delivered. */
	void (*eof)(void *arg, struct vp_stream *s);
	/*
	 * The stream is over, and freed when this returns.  reason 0: both ends
	 * had their end-of-file and every byte was acknowledged; else it was
	 * reset, text says why (printable, from this side or the other).
	 */
	void (*closed)(void *arg, struct vp_stream *s, int reason,
		       const char *text);
	/* A session began (up) or ended; all streams of the old one have been
	 * closed before.  why as in vp_reset_text(), or what the peer said in
	 * its farewell (printable). */
	void (*session)(void *arg, bool up, const char *why);
	/* n random bytes; the host's nonce decides identity (R26). */
	void (*random)(void *arg, void *buf, size_t n);
};

struct vp_mux_config {
	enum vp_role role;
	enum vp_channel channel; /* guest: must be known; host: UNKNOWN allowed */
	uint32_t start_seq;	 /* tests of wrap-around; 0 otherwise */
	uint32_t max_streams;	 /* 0 = PROTOCOL's default for the channel */
	bool compress;		 /* offer compression on serial channels */
	bool probe; /* host: may send a HELLO before the guest spoke (R23) */
	bool long_rest; /* host: offers the beacons of PROTOCOL 7.4's long rest */
};

/* NULL on -ENOMEM.  cfg and ops are copied; arg goes to every callback. */
struct vp_mux *vp_mux_new(const struct vp_mux_config *cfg,
			  const struct vp_mux_ops *ops, void *arg, uint64_t now);
/* Closes all streams (VP_RESET_SHUTDOWN) without telling the peer. */
void vp_mux_free(struct vp_mux *m);

/* The channel opened (bytes can flow; for a guest on virtio: the host may still
 * be absent) or closed.  What was in flight is unknown; the session is kept and
 * resumed when the peer still has it (R28). */
void vp_mux_attach(struct vp_mux *m, uint64_t now);
/* Guest on a serial line, before attaching: at how many bytes its UART interrupts
 * (0 = not known).  The host ends its bursts there, if it is 14. */
void vp_mux_set_trigger(struct vp_mux *m, unsigned bytes);
void vp_mux_detach(struct vp_mux *m, uint64_t now);

/* Bytes from the channel.  Never fails: what is wrong is counted. */
void vp_mux_input(struct vp_mux *m, const uint8_t *data, size_t len,
		  uint64_t now);
/*
 * What to write next, as up to max pieces of at most limit bytes in all (0
 * pieces: nothing).  Valid until the next call into the mux; vp_mux_written()
 * takes what the channel accepted (any count up to what was offered).  unsent
 * is what the kernel still holds of earlier writes (fd_unsent(), or 0 when
 * unknown): no retransmission is timed out while it does (R10).
 */
size_t vp_mux_output(struct vp_mux *m, struct iovec *iov, size_t max,
		     size_t limit, uint64_t now);
void vp_mux_written(struct vp_mux *m, size_t n, uint64_t now);
void vp_mux_set_unsent(struct vp_mux *m, size_t unsent);
/* Is there anything to write now? */
bool vp_mux_wants_write(const struct vp_mux *m);
/* When to call vp_mux_tick() next; UINT64_MAX = not. */
uint64_t vp_mux_deadline(const struct vp_mux *m);
void vp_mux_tick(struct vp_mux *m, uint64_t now);

/* Host side, R19: the channel is attached but the peer's silence says that only
 * a reconnect can help.  The owner then closes and reopens its transport. */
bool vp_mux_wants_reconnect(const struct vp_mux *m, uint64_t now);

/* R32: stop pulling stream bytes, so that all becomes acknowledged; idle says
 * when nothing is in flight in either direction. */
void vp_mux_quiesce(struct vp_mux *m, bool on);
bool vp_mux_quiesced(const struct vp_mux *m);
bool vp_mux_is_idle(const struct vp_mux *m);
/* Tells the peer that no further streams will be taken (GOAWAY). */
void vp_mux_goaway(struct vp_mux *m, const char *why);
/* Drops the session with the peer: every stream is reset on both sides. */
void vp_mux_reset_session(struct vp_mux *m, enum vp_reset why, uint64_t now);

/* To be called about once a second: when nothing but beacons went since the last
 * call, buffers are freed (and made again when needed) and the answer is true. */
bool vp_mux_release(struct vp_mux *m);

bool vp_mux_session_up(const struct vp_mux *m);
/* When the last valid frame came; 0 = never on this attachment. */
uint64_t vp_mux_last_heard(const struct vp_mux *m);
/* How often something should be done about the channel, in ns. */
uint64_t vp_mux_pace(const struct vp_mux *m);
/* ns of silence that its rest explains (vp_link_grace()). */
uint64_t vp_mux_grace(const struct vp_mux *m);
enum vp_channel vp_mux_channel(const struct vp_mux *m);

/*
 * Opens a stream to a service of the peer.  NULL with errno: ENOTCONN (no
 * session), EMFILE (the peer's limit of streams), EINVAL (name), ENOMEM.  Bytes
 * may follow at once; a refusal arrives as ops->closed.
 */
struct vp_stream *vp_stream_open(struct vp_mux *m, const char *service,
				 const struct vp_meta *meta, void *user);
/* The local side has bytes (or its end) for ops->fill. */
void vp_stream_ready(struct vp_stream *s);
/* The local side takes bytes again: ops->deliver is called with what is kept. */
void vp_stream_drain(struct vp_stream *s);
/* Ends the stream now, both directions; ops->closed is NOT called. */
void vp_stream_reset(struct vp_stream *s, enum vp_reset reason,
		     const char *text);

void *vp_stream_user(const struct vp_stream *s);
void vp_stream_set_user(struct vp_stream *s, void *user);
uint32_t vp_stream_id(const struct vp_stream *s);
uint64_t vp_stream_rx_bytes(const struct vp_stream *s);
uint64_t vp_stream_tx_bytes(const struct vp_stream *s);

/* Counters (R35), as a table: names are PROTOCOL's, stable, for people and
 * tests.  i from 0; NULL past the end. */
const char *vp_mux_counter(const struct vp_mux *m, size_t i, uint64_t *value);

#endif
