/*
 * frame.h - the codec of PROTOCOL, sections 2 to 4
 *
 * Encoders for the three kinds of frames and the parser that finds frames in
 * what a channel delivers.  Neither knows of sessions beyond the keys it is
 * given.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_FRAME_H
#define VP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "virtproxy/cobs.h"
#include "virtproxy/mux.h"

#define VP_VR_HOST 0x10u /* version 1, from the host */
#define VP_VR_GUEST 0x18u

enum vp_type {
	VP_T_HELLO = 0x01,
	VP_T_OFFER = 0x02,
	VP_T_ACCEPT = 0x03,
	VP_T_CONTROL = 0x04, /* the first control type */
	VP_T_RESET = 0x04,
	VP_T_ACK = 0x05,
	VP_T_NAK = 0x06,
	VP_T_BEACON = 0x07,
	VP_T_SEQUENCED = 0x10, /* the first sequenced type */
	VP_T_OPEN = 0x10,
	VP_T_DATA = 0x11,
	VP_T_RST = 0x12,
	VP_T_CREDIT = 0x13,
	VP_T_GOAWAY = 0x14,
	VP_T_END = 0x20, /* one past the last that version 1 can read */
};

#define VP_F_FIN 0x01u	   /* DATA: end of file follows */
#define VP_F_DEFLATE 0x02u /* DATA: bytes of the deflate stream */
#define VP_F_PUSH 0x80u	   /* sequenced: ack at once */

#define VP_B_CHALLENGE 0x01u /* BEACON */
#define VP_B_ECHO 0x02u
#define VP_B_QUIESCE 0x04u
#define VP_B_IDLE 0x08u

#define VP_CRC_LEN 4u
#define VP_CONTENT_MAX 640u /* of a COBS frame, bytes, CRC included: HD 6 to 655 */
#define VP_COBS_FRAME_MAX COBS_MAX(VP_CONTENT_MAX)
#define VP_CONTROL_HEAD 19u
#define VP_CONTROL_BODY_MAX 64u
#define VP_SERIAL_HEAD 27u
#define VP_SERIAL_PAYLOAD 512u
#define VP_RAW_HEAD 52u
#define VP_RAW_TRAILER 4u
/* So that a frame is one 32 KiB write of the guest's driver. */
#define VP_RAW_PAYLOAD (32768u - VP_RAW_HEAD - VP_RAW_TRAILER)
#define VP_RAW_SUMMED 64u /* payload bytes under the head CRC */
/* The part of a raw header that the chain covers. */
#define VP_RAW_CHAINED_AT 20u
#define VP_RAW_CHAINED_LEN 28u

/* A raw frame that gets no byte for this long, or is not whole after that long,
 * was cut: hundreds of times what the slowest guest needs for 32 KiB. */
#define VP_CUT_SILENCE (UINT64_C(250) * 1000000) /* ns */
#define VP_CUT_AFTER (UINT64_C(1000) * 1000000)	 /* ns */

/* What makes a session, out of its two nonces (PROTOCOL 5). */
struct vp_keys {
	uint32_t epoch, tag, seed;
};

struct vp_keys vp_keys_of(uint64_t host_nonce, uint64_t guest_nonce);

struct vp_frame {
	uint8_t vr, type, flags;
	bool raw;
	uint32_t epoch, tag;	     /* tag: control frames only */
	uint32_t ack, ack_chain;     /* next expected; chain before it */
	uint32_t seq, chain, stream; /* sequenced frames only */
	uint64_t time;		     /* raw frames only */
	const uint8_t *chained;	     /* raw frames: their 28 bytes */
	bool compact;		     /* came so; then */
	uint32_t next;		     /* is the chain after it */
	const uint8_t *body;	     /* after the fields above */
	size_t len;
};

static inline bool vp_frame_sequenced(const struct vp_frame *f)
{
	return f->type >= VP_T_SEQUENCED && f->type < VP_T_END;
}

/* The chain after f, from the one before it. */
uint32_t vp_chain_next(uint32_t chain, const struct vp_frame *f);

/*
 * Appends 00 COBS(content, crc) 00 to out, the fields of f as its type asks
 * for.  0 or -EMSGSIZE / -ENOMEM, and then out is as before.
 */
int vp_frame_put(struct buf *out, const struct vp_frame *f);
/* A COBS frame of these pieces; open: with the 00 in front.  As above. */
int vp_content_put(struct buf *out, bool open, const uint8_t *head, size_t n,
		   const uint8_t *body, size_t len, uint32_t crc);

/*
 * A raw frame in place: slot has VP_RAW_HEAD bytes, then f->len payload bytes,
 * then room for the trailer.  f->chained is set to the slot's.
 */
void vp_raw_make(uint8_t *slot, struct vp_frame *f, uint32_t seed);
/* Renews the ack of one that was made before. */
void vp_raw_stamp(uint8_t *slot, uint32_t ack, uint32_t ack_chain,
		  uint32_t seed);

struct vp_parser {
	/* The owner sets these. */
	void (*frame)(void *arg, const struct vp_frame *f);
	/* A COBS frame's content that begins as a compact frame does: was it a
	 * valid one?  NULL = there are none. */
	bool (*compact)(void *arg, const uint8_t *content, size_t n);
	void *arg;
	uint64_t *counters;
	uint8_t own_vr;	   /* frames of this role are echoes */
	bool raw;	   /* raw frames may come, with this seed: */
	uint32_t seed;
	uint32_t max_payload;

	uint64_t cut_since; /* a raw frame is incomplete since; 0 = none */
	uint64_t cut_at;    /* when it will be given up; UINT64_MAX = not */
	uint32_t resets;    /* tells a call that a callback has reset it */
	struct buf acc;	    /* an incomplete frame */
	size_t want;	    /* bytes of it that allow the next step */
	uint8_t content[VP_CONTENT_MAX];
};

void vp_parser_init(struct vp_parser *p);
void vp_parser_done(struct vp_parser *p);
/* Forgets an incomplete frame (the channel was reopened). */
void vp_parser_reset(struct vp_parser *p);
void vp_parser_input(struct vp_parser *p, const uint8_t *data, size_t len,
		     uint64_t now);
/* To be called at p->cut_at. */
void vp_parser_tick(struct vp_parser *p, uint64_t now);

#endif
