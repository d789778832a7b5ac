/*
 * link.h - sequenced frames over one bad channel (PROTOCOL 5 to 8)
 *
 * The link gives the mux a session: frames handed to it arrive at the peer once
 * and in order, or the session ends on both sides.  It owns the sessions, the
 * retransmission ring, acks, challenges and beacons.
 *
 * Where things are:  link.c life and incoming frames' dispatch, link_session.c
 * handshake, link_rx.c sequence numbers and acks, link_ring.c what is kept until it
 * is acknowledged, link_tx.c output, link_compact.c compact frames, link_timer.c
 * deadlines.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_LINK_H
#define VP_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/buf.h"
#include "common/clock.h"
#include "virtproxy/counters.h"
#include "virtproxy/frame.h"
#include "virtproxy/mux.h"

/*
 * Parameters, per kind of channel.  The first block goes into HELLO and is
 * negotiated downwards; the reasons stand in PROTOCOL 1.
 */
struct vp_params {
	uint32_t payload;      /* bytes of a frame */
	uint32_t window;       /* bytes unacknowledged, ring overhead included */
	uint32_t streams;      /* at once */
	uint32_t credit;       /* bytes, of a new stream */
	uint32_t credit_max;   /* bytes, of a stream, grown */
	uint32_t credit_pool;  /* bytes, all growth together */
	uint32_t ack_bytes;    /* received without an ack going out */
	uint32_t push_bytes;   /* sent without asking for an ack */
	uint64_t ack_delay;    /* ns */
	uint64_t rto_start, rto_min, rto_max;	/* ns */
	uint64_t hello_min, hello_max;		/* ns, between HELLOs */
};

const struct vp_params *vp_params_of(enum vp_channel channel);

#define VP_FEATURE_DEFLATE 0x1u
#define VP_FEATURE_TRIGGER_14 0x2u /* guest: its UART's; host: it pads to that */
#define VP_FEATURE_COMPACT 0x4u	   /* sequenced frames of PROTOCOL 3.4 */
#define VP_FEATURE_REST 0x8u	   /* beacons at rest are few: PROTOCOL 7.4 */
#define VP_FEATURE_LONG_REST 0x10u /* and fewer after a while */
#define VP_VERSION 1u

/* Floors for what a peer may announce: below, nothing useful would work. */
#define VP_PAYLOAD_MIN 128u  /* bytes: an OPEN and a RST fit with the longest text */
#define VP_WINDOW_MIN 1024u  /* bytes */
#define VP_CREDIT_MIN 256u   /* bytes */
/* Ceiling: what every kernel's tty holds for a reader that is stuck (R9). */
#define VP_SERIAL_WINDOW_CAP 49152u /* bytes */

#define VP_BEACON_EVERY NSEC_PER_SEC /* R17, also heals lost wakeups */
#define VP_BEACON_REST (2 * NSEC_PER_SEC) /* of a session at rest */
#define VP_BEACON_LONG_REST (16 * NSEC_PER_SEC)
#define VP_ALONE_AFTER (5 * NSEC_PER_SEC) /* of silence: a guest has no host */
#define VP_REST_BEACONS 10u /* without a sequenced frame between them: at rest */
#define VP_LONG_REST_BEACONS 30u /* at long rest, after 50 s */
#define VP_REST_LEAD 3u /* beacons by which the peer's count may be ahead */
#define VP_PROBE_HELLO_EVERY (5 * NSEC_PER_SEC) /* R23 */
#define VP_FOREIGN_EVERY (250 * NSEC_PER_MSEC)	/* HELLOs for foreign epochs */
#define VP_RECONNECT_MIN (3 * NSEC_PER_SEC)	/* R19 */
#define VP_RECONNECT_MAX (30 * NSEC_PER_SEC)
#define VP_LEAD_ZEROS 32u /* R5 */
#define VP_PAD 8u	  /* R24: the trigger level Linux sets on a 16550A */
#define VP_PAD_14 14u	  /* the level that a guest says it has set */

/* What a frame takes in the ring beside its payload (the raw header and
 * trailer; on serial lines about the same goes to framing on the wire). */
#define VP_SLOT_EXTRA (VP_RAW_HEAD + VP_RAW_TRAILER)

/* The bulk under way on a serial line: steered between these (PROTOCOL 7.5). */
#define VP_BULK_MIN 1024u /* bytes, two frames: 25 ms at 40 KB/s */
#define VP_BULK_START 4096u /* bytes */
#define VP_BULK_STEP 128u /* bytes a pushed frame: a frame per window */
#define VP_BULK_TARGET (15 * NSEC_PER_MSEC) /* push to ack: a call waits that
					      * long behind a file */
/* On virtio-serial the host's bulk under way: what the guest's ring holds.  More
 * would stand in front of it, where nothing can overtake it. */
#define VP_HOST_BULK 524288u /* bytes */
/* On virtio-serial the bulk under way while calls go beside it (PROTOCOL 7.7):
 * 1 ms at 130 MB/s; and the bytes after which it asks for an ack then. */
#define VP_CALL_BULK 131072u /* bytes */
#define VP_CALL_PUSH 65536u /* bytes */
/* For so long after a call: longer than between the calls of a dialogue. */
#define VP_CALL_NS (200 * NSEC_PER_MSEC)
/* Encoded ahead of the channel on a serial line, so that what becomes urgent
 * does not wait behind it: 7 ms at 300 KB/s. */
#define VP_SERIAL_BURST 2048u /* bytes */

struct vp_limits {
	enum vp_channel channel;
	uint32_t features, payload, streams, window, credit, start;
	uint8_t why;
};

struct vp_tx {		   /* a sequenced frame in the ring */
	uint32_t off, len; /* of the slot; of the payload */
	uint32_t chain;	   /* before it */
	uint32_t stream;
	uint64_t sent_at;  /* 0 = not yet */
	uint8_t type, flags;
	bool resent;
};

#define VP_TX_MAX 1024u /* frames in the ring, a power of 2 */

/* The link asks the mux for the next frame's payload. */
struct vp_pull {
	uint8_t *buf;
	size_t max;
	bool bulk_ok; /* a stream that always has bytes may be asked */
	/* answer */
	uint8_t type, flags;
	uint32_t stream;
};

struct vp_link_ops {
	/* Payload length, or -1: nothing to send. */
	ssize_t (*pull)(void *arg, struct vp_pull *p);
	/* Would pull have something? */
	bool (*ready)(void *arg, bool bulk_ok);
	/* A sequenced frame, once and in order. */
	void (*frame)(void *arg, const struct vp_frame *f);
	/* The peer has a frame of ours. */
	void (*acked)(void *arg, const struct vp_tx *tx);
	void (*up)(void *arg);
	void (*down)(void *arg, enum vp_reset reason);
	void (*random)(void *arg, void *buf, size_t n);
};

struct vp_offer { /* host: what was offered and not yet accepted */
	bool valid;
	uint64_t host, guest;
	struct vp_keys keys;
	struct vp_limits peer;
};

struct vp_link {
	enum vp_role role;
	enum vp_channel channel;
	uint8_t vr;
	bool may_probe, compress, long_rest;
	bool trigger_14; /* guest: the UART's level is 14 */
	uint32_t start_seq, max_streams;
	const struct vp_params *params;
	struct vp_link_ops ops;
	void *arg;
	uint64_t now;
	uint64_t counters[VP_C_COUNT];
	struct vp_parser parser;

	/* the attachment */
	bool attached, heard;
	bool lead;		    /* zeros are due */
	uint64_t attached_at, last_heard;
	uint64_t reconnect_after;   /* ns of silence */
	size_t unsent;

	/* the session */
	bool up;
	uint32_t generation;	    /* tells that a callback changed the session */
	uint64_t guest_nonce;	    /* the session's */
	uint64_t host_nonce;	    /* the session's */
	uint64_t attempt;	    /* guest: for the next session */
	struct vp_keys keys, dead_keys;
	struct vp_offer offer;
	struct vp_limits agreed;    /* minimum of both; credit and start: peer's */
	uint8_t why;		    /* why the last one ended */
	char farewell[VP_FAREWELL_MAX + 1]; /* told with VP_RESET_SHUTDOWN */
	uint8_t heard_farewell[VP_FAREWELL_MAX]; /* the peer's, as it came */
	size_t heard_farewell_len;

	/* frames that are due; made from state when they go out */
	bool hello_due, offer_due, accept_due, reset_due;
	bool ack_due, nak_due, beacon_due, echo_due, challenge_due;
	uint64_t hello_at, hello_gap, foreign_at, beacon_at, last_beacon;
	unsigned quiet_beacons;	    /* of ours, up to VP_LONG_REST_BEACONS */
	bool stirred;		    /* a sequenced frame was made or came since the last */
	uint64_t stirred_at;	    /* when its last rest ended; 0 = not yet */

	/* sending */
	uint8_t *ring;		    /* NULL while idle */
	uint32_t idle_nxt, idle_rcv; /* nxt, rcv_next at the last trim */
	size_t ring_size, head;	    /* head: where the next slot goes */
	struct vp_tx tx[VP_TX_MAX]; /* by seq modulo VP_TX_MAX */
	uint32_t released;	    /* first whose memory is held */
	uint32_t una;		    /* first not acknowledged */
	uint32_t ptr;		    /* next to write */
	uint32_t sent;		    /* one past the highest ever written */
	uint32_t nxt;		    /* next number */
	uint32_t chain_out;	    /* before nxt */
	uint32_t data_out;	    /* stream of the last DATA first sent */
	size_t in_flight;	    /* slot bytes from una to nxt */
	size_t since_push, bulk_window;
	uint64_t calls_until;	    /* bulk is kept small for calls until then */
	bool part;		    /* a raw frame is half written: */
	uint32_t part_seq;
	size_t part_done;
	struct buf stage;	    /* encoded frames, partly written perhaps */
	size_t plan_part, plan_stage, plan_raw; /* what was offered */
	uint64_t srtt, rttvar, rto, rto_at;
	uint64_t token;		    /* of the challenge out; 0 = none */
	uint64_t token_at, token_gap;
	uint32_t token_una, token_rcv; /* una, rcv_next when it was drawn */

	/* receiving */
	uint32_t rcv_next, chain_in;
	bool gap;
	uint32_t gap_seq;	    /* highest seen past the gap */
	bool blind;		    /* a compact frame was not valid, since the
				     * last that was taken */
	uint32_t data_in;	    /* stream of the last DATA taken */
	size_t unacked;		    /* bytes received since an ack went out */
	uint64_t ack_at;
	uint64_t echo;

	bool quiesce, peer_quiesce, peer_idle;
};

void vp_link_init(struct vp_link *l, const struct vp_mux_config *cfg,
		  const struct vp_link_ops *ops, void *arg, uint64_t now);
void vp_link_done(struct vp_link *l);
void vp_link_attach(struct vp_link *l, uint64_t now);
void vp_link_detach(struct vp_link *l, uint64_t now);
/* A valid frame from the parser. */
void vp_link_frame(void *arg, const struct vp_frame *f);
static inline void vp_count(struct vp_link *l, enum vp_counter c)
{
	l->counters[c]++;
}

/* link_session.c */
void vp_link_handshake(struct vp_link *l, const struct vp_frame *f);
/* Ends the session, if any; tell: the peer hears RESET. */
void vp_link_drop(struct vp_link *l, enum vp_reset reason, bool tell);
void vp_link_reset_heard(struct vp_link *l, const struct vp_frame *f);
/* A frame of another session: asks who is there. */
void vp_link_foreign(struct vp_link *l);
/* Is f of this session?  May start the one that was offered. */
bool vp_link_ours(struct vp_link *l, const struct vp_frame *f);
int vp_link_put_handshake(struct vp_link *l, uint8_t type);

/* link_rx.c */
void vp_link_control(struct vp_link *l, const struct vp_frame *f);
void vp_link_sequenced(struct vp_link *l, const struct vp_frame *f);
/* Forgets what is due: an ack goes out with something else. */
void vp_link_ack_carried(struct vp_link *l);
/* The chain before that frame of ours; seq is from una to nxt. */
uint32_t vp_link_chain_at(struct vp_link *l, uint32_t seq);

/* link_compact.c */
/* Encodes a sequenced frame into the stage. */
int vp_link_put_sequenced(struct vp_link *l, const struct vp_frame *f);
/* For the parser: content that may be a compact frame. */
bool vp_link_compact(void *arg, const uint8_t *content, size_t n);

/* link_ring.c */
/* Sets up the ring for a new session. */
int vp_link_tx_start(struct vp_link *l);
/* Before the session ends: what is half written must still go out whole. */
void vp_link_tx_stop(struct vp_link *l);
void vp_link_tx_done(struct vp_link *l);
/* Frees the ring if no sequenced frame went or came since the last call: true. */
bool vp_link_trim(struct vp_link *l);
void vp_link_release(struct vp_link *l);
/* Sends again from the first frame not acknowledged. */
void vp_link_rewind(struct vp_link *l);
/* Gets the next new frame from the mux into the ring, in limit bytes if that is
 * worth it: false, there is none or no room. */
bool vp_link_pull(struct vp_link *l, size_t limit);
bool vp_link_can_pull(const struct vp_link *l);
/* A call goes beside bulk. */
void vp_link_call_seen(struct vp_link *l);

/* link_tx.c */
size_t vp_link_output(struct vp_link *l, struct iovec *iov, size_t max,
		      size_t limit);
void vp_link_written(struct vp_link *l, size_t n);
bool vp_link_wants_write(const struct vp_link *l);
/* May the link write at all (R23)? */
bool vp_link_may_talk(const struct vp_link *l);

/* link_timer.c */
/* Asks the peer for its state, and sends no sequenced frame until it comes. */
void vp_link_probe(struct vp_link *l);
/* A beacon came without the answer to that challenge. */
void vp_link_ask_again(struct vp_link *l);
void vp_link_rtt_sample(struct vp_link *l, uint64_t rtt);
/* What the silence made of the retransmission timer is forgotten. */
void vp_link_reset_rto(struct vp_link *l);
uint64_t vp_link_deadline(const struct vp_link *l);
void vp_link_tick(struct vp_link *l);
/* Time between beacons: longer on the host's side (link_timer.c). */
uint64_t vp_link_beacon_every(const struct vp_link *l);
/* ns between two beacons of a guest that sees what this side sees: 1 s, at rest 2,
 * at long rest 16. */
uint64_t vp_link_pace(const struct vp_link *l);
/* To be told of each sequenced frame that was made or came: a rest ends with it. */
void vp_link_stir(struct vp_link *l);
/* ns of silence that the rest explains, beyond what a peer that beacons each second
 * may take. */
uint64_t vp_link_grace(const struct vp_link *l);
/* One came in. */
void vp_link_answer_beacon(struct vp_link *l);
bool vp_link_wants_reconnect(const struct vp_link *l, uint64_t now);

static inline uint32_t vp_min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static inline bool vp_seq_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline struct vp_tx *vp_tx_of(struct vp_link *l, uint32_t seq)
{
	return &l->tx[seq % VP_TX_MAX];
}

#endif
