/*
 * peer.h - the other end of a mux, by hand
 *
 * Speaks the protocol frame by frame, as a test tells it to: also wrongly.  What
 * the mux sends is kept as a list of frames.  The sequence, chain and ack it uses
 * next are plain fields.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_PEER_H
#define VA_PEER_H

#include "common/buf.h"
#include "virtproxy/counters.h"
#include "virtproxy/frame.h"
#include "virtproxy/mux.h"

#define PEER_FRAMES 512u
#define PEER_BODY 1024u

struct peer_frame {
	struct vp_frame f;
	uint8_t body[PEER_BODY]; /* its beginning */
};

struct peer {
	struct vp_mux *mux;
	uint64_t now, rng;
	uint8_t vr;
	enum vp_channel channel;
	struct vp_parser parser;
	uint64_t counters[VP_C_COUNT];
	struct peer_frame frames[PEER_FRAMES];
	unsigned n; /* frames heard; forgotten by peer_forget() */
	size_t bytes;
	unsigned writes;
	/* the session */
	struct vp_keys keys;
	uint64_t nonce, other;
	uint32_t seq, chain;	 /* of our next frame */
	uint32_t ack, ack_chain; /* what we say we have heard */
	uint32_t data_stream;	 /* of the last DATA heard */
	unsigned compact;	 /* frames heard that were */
	bool no_acks;		 /* ack stays as it is */
	bool lenient;		 /* it broke the rules first: check nothing */
	/* what HELLO says */
	uint8_t version;
	uint32_t features, payload, streams, window, credit, start;
	/* what the mux's owner saw */
	unsigned opened, closed, sessions, downs;
	int last_reason;
	char last_text[VP_REASON_MAX + 1];
	struct vp_stream *stream; /* opened last, by either side */
	size_t delivered, takes, eofs; /* takes: bytes the owner will take */
	size_t has;		       /* bytes the owner has to send */
	bool arena;		       /* the mux's memory is in the sim's arena */
};

/* A mux in the given role, and its peer; no byte has passed yet. */
void peer_init(struct peer *p, enum vp_role mux_role, enum vp_channel channel,
	       const struct vp_mux_config *cfg);
void peer_done(struct peer *p);
/* The whole handshake. */
void peer_connect(struct peer *p);
/* Hears what the mux has to say. */
void peer_pump(struct peer *p);
/* Lets time pass, tick by tick, hearing what comes. */
void peer_wait(struct peer *p, uint64_t ns);
void peer_forget(struct peer *p);
/* The i-th frame of that type heard, or NULL. */
const struct peer_frame *peer_heard(const struct peer *p, uint8_t type,
				    unsigned i);
/* Frames of that type heard. */
unsigned peer_count(const struct peer *p, uint8_t type);
/* The mux sends so many bytes on a new stream. */
void peer_have_sent(struct peer *p, size_t bytes);
void peer_say(struct peer *p, const struct vp_frame *f); /* as it is */
void peer_bytes(struct peer *p, const void *data, size_t n);
void peer_handshake(struct peer *p, uint8_t type, uint64_t mine, uint64_t yours,
		    size_t extra);
void peer_control(struct peer *p, uint8_t type, uint8_t flags, const void *body,
		  size_t len);
void peer_beacon(struct peer *p, uint32_t snd_nxt, uint64_t challenge,
		 uint64_t echo);
void peer_sequenced(struct peer *p, uint8_t type, uint8_t flags,
		    uint32_t stream, const void *body, size_t len);
void peer_open(struct peer *p, uint32_t stream, const char *service);
uint64_t peer_counter(const struct peer *p, const char *name);

#endif
