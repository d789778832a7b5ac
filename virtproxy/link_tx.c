/*
 * link_tx.c - what goes out next, and what of it has gone
 *
 * On virtio-serial the channel is written from the ring (link_ring.c).  On a serial
 * line frames are COBS encoded into the stage when they are due, a short burst
 * at a time, so that little waits in front of what becomes urgent.
 *
 * What is offered to the channel, in this order:
 *	part	the rest of a raw frame that was half written
 *	stage	control frames (serial: and encoded sequenced frames)
 *	raw	whole frames from the ring
 * Acks are renewed until a frame is under way, so that they never go back.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <string.h>

#include "virtproxy/link.h"

/* Room a control frame needs in the stage, bytes. */
#define CONTROL_ROOM (COBS_MAX(VP_CONTROL_HEAD + VP_CONTROL_BODY_MAX) + 2)

/* The frame at ptr goes out. */
static void mark_sent(struct vp_link *l)
{
	struct vp_tx *tx = vp_tx_of(l, l->ptr);

	tx->sent_at = l->now;
	if (vp_seq_before(l->ptr, l->sent)) {
		tx->resent = true;
		vp_count(l, VP_C_RETRANSMITS);
	} else {
		l->sent = l->ptr + 1;
	}
	vp_count(l, VP_C_FRAMES_OUT);
	if (l->rto_at == CLOCK_NEVER)
		l->rto_at = l->now + l->rto;
	l->ptr++;
}

static bool may_sequence(const struct vp_link *l)
{
	return l->up && !l->token && vp_link_may_talk(l);
}

static void stage_sequenced(struct vp_link *l)
{
	while (buf_len(&l->stage) < VP_SERIAL_BURST) {
		struct vp_frame f = { .vr = l->vr, .epoch = l->keys.epoch };
		struct vp_tx *tx = vp_tx_of(l, l->ptr);

		if (l->ptr == l->nxt && !vp_link_pull(l, SIZE_MAX))
			return;
		f.type = tx->type;
		f.flags = tx->flags;
		f.ack = l->rcv_next;
		f.ack_chain = l->chain_in;
		f.seq = l->ptr;
		f.chain = tx->chain;
		f.stream = tx->stream;
		f.body = l->ring + tx->off + VP_RAW_HEAD;
		f.len = tx->len;
		if (vp_link_put_sequenced(l, &f))
			return;
		mark_sent(l);
		vp_link_ack_carried(l);
	}
}

/* Frames from the ring, as pieces at iov; returns how many. */
static size_t offer_raw(struct vp_link *l, struct iovec *iov, size_t max,
			size_t limit)
{
	size_t pieces = 0;

	for (uint32_t seq = l->ptr; limit; seq++) {
		struct vp_tx *tx = vp_tx_of(l, seq);
		uint8_t *slot;
		size_t size;

		if (seq == l->nxt && (pieces == max || !vp_link_pull(l, limit)))
			break;
		slot = l->ring + tx->off;
		size = tx->len + VP_SLOT_EXTRA;
		if (size > limit) {
			if (l->plan_raw)
				break;
			size = limit; /* a caller with a small limit */
		}
		if (pieces && (uint8_t *)iov[pieces - 1].iov_base +
				      iov[pieces - 1].iov_len == slot)
			iov[pieces - 1].iov_len += size;
		else if (pieces < max)
			iov[pieces++] = (struct iovec){ slot, size };
		else
			break;
		vp_raw_stamp(slot, l->rcv_next, l->chain_in, l->keys.seed);
		l->plan_raw += size;
		limit -= size;
	}
	if (l->plan_raw)
		vp_link_ack_carried(l);
	return pieces;
}

static void put_control(struct vp_link *l, uint8_t type, uint8_t flags,
			const struct vp_keys *k, const uint8_t *body, size_t len)
{
	struct vp_frame f = { .vr = l->vr, .type = type, .flags = flags,
			      .epoch = k->epoch, .tag = k->tag,
			      .ack = l->rcv_next, .ack_chain = l->chain_in,
			      .body = body, .len = len };

	if (vp_frame_put(&l->stage, &f))
		return; /* no memory: control frames are repeated anyway */
	vp_count(l, VP_C_FRAMES_OUT);
}

static void put_reset(struct vp_link *l)
{
	uint8_t body[1 + VP_FAREWELL_MAX] = { l->why };
	size_t n = l->why == VP_RESET_SHUTDOWN ? strlen(l->farewell) : 0;

	memcpy(body + 1, l->farewell, n);
	put_control(l, VP_T_RESET, 0, &l->dead_keys, body, 1 + n);
}

static void put_beacon(struct vp_link *l)
{
	uint8_t body[20], flags = 0;
	size_t n = 4;

	put_le32(body, l->sent);
	if (l->challenge_due && l->token) {
		flags |= VP_B_CHALLENGE;
		put_le64(body + n, l->token);
		n += 8;
		vp_count(l, VP_C_PROBES);
	}
	if (l->echo_due) {
		flags |= VP_B_ECHO;
		put_le64(body + n, l->echo);
		n += 8;
	}
	if (l->quiesce)
		flags |= VP_B_QUIESCE;
	if (l->peer_quiesce && l->una == l->nxt)
		flags |= VP_B_IDLE;
	put_control(l, VP_T_BEACON, flags, &l->keys, body, n);
	l->beacon_due = l->challenge_due = l->echo_due = false;
	vp_count(l, VP_C_BEACONS_OUT);
	vp_link_ack_carried(l);
}

static bool stage_room(const struct vp_link *l)
{
	return buf_room(&l->stage) >= CONTROL_ROOM + VP_PAD_14;
}

/* What is due and concerns no session, or its start. */
static void stage_handshake(struct vp_link *l)
{
	static const uint8_t zeros[VP_LEAD_ZEROS];
	struct {
		bool *due;
		uint8_t type;
	} const frames[] = { { &l->hello_due, VP_T_HELLO },
			     { &l->offer_due, VP_T_OFFER },
			     { &l->accept_due, VP_T_ACCEPT } };

	if (l->lead && !buf_put(&l->stage, zeros, sizeof(zeros)))
		l->lead = false;
	if (l->reset_due && stage_room(l)) {
		l->reset_due = false;
		put_reset(l);
	}
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		if (!*frames[i].due || !stage_room(l))
			continue;
		*frames[i].due = false;
		if (!vp_link_put_handshake(l, frames[i].type))
			vp_count(l, VP_C_FRAMES_OUT);
	}
}

static void stage_control(struct vp_link *l)
{
	if (!l->up || !vp_link_may_talk(l))
		return;
	if (l->nak_due && stage_room(l)) {
		l->nak_due = false;
		put_control(l, VP_T_NAK, 0, &l->keys, NULL, 0);
		vp_count(l, VP_C_NAKS_OUT);
		vp_link_ack_carried(l);
	}
	if (l->beacon_due && stage_room(l))
		put_beacon(l);
}

static bool handshake_due(const struct vp_link *l)
{
	return l->hello_due || l->offer_due || l->accept_due || l->reset_due;
}

static bool control_due(const struct vp_link *l)
{
	return l->up && vp_link_may_talk(l) &&
	       (l->nak_due || l->beacon_due || l->ack_due);
}

static void stage_ack(struct vp_link *l)
{
	if (!l->ack_due || !control_due(l) || !stage_room(l))
		return;
	put_control(l, VP_T_ACK, 0, &l->keys, NULL, 0);
	vp_count(l, VP_C_ACKS_OUT);
	vp_link_ack_carried(l);
}

/* R24: bursts of the host end at a multiple of the UART's trigger. */
static void pad_stage(struct vp_link *l)
{
	static const uint8_t zeros[VP_PAD_14];
	size_t level = l->up && l->agreed.features & VP_FEATURE_TRIGGER_14 ?
			       VP_PAD_14 : VP_PAD;
	size_t over = (l->counters[VP_C_BYTES_OUT] + buf_len(&l->stage)) % level;

	if (l->role == VP_HOST && l->channel != VP_CHANNEL_VIRTIO && over)
		buf_put(&l->stage, zeros, level - over);
}

bool vp_link_may_talk(const struct vp_link *l)
{
	return l->attached && (l->role == VP_GUEST || l->heard);
}

size_t vp_link_output(struct vp_link *l, struct iovec *iov, size_t max,
		      size_t limit)
{
	bool virtio = l->channel == VP_CHANNEL_VIRTIO;
	struct vp_tx *tx = vp_tx_of(l, l->part_seq);
	size_t n = 0, kept = buf_len(&l->stage), pieces = 0;

	l->plan_part = l->plan_stage = l->plan_raw = 0;
	if (!l->attached || !max || !limit)
		return 0;
	if (l->part) {
		l->plan_part = tx->len + VP_SLOT_EXTRA - l->part_done;
		if (l->plan_part > limit)
			l->plan_part = limit;
		iov[n++] = (struct iovec){ l->ring + tx->off + l->part_done,
					   l->plan_part };
		limit -= l->plan_part;
	}
	if (handshake_due(l))
		stage_handshake(l);
	stage_control(l);
	if (!virtio && may_sequence(l) && !kept)
		stage_sequenced(l);
	kept = buf_len(&l->stage);
	if (virtio && may_sequence(l) && limit > kept && n + 1 < max)
		pieces = offer_raw(l, iov + n + (kept > 0),
				   max - n - (kept > 0), limit - kept);
	if (!pieces)
		stage_ack(l);
	if (buf_len(&l->stage) && n < max && limit) {
		pad_stage(l);
		l->plan_stage = buf_len(&l->stage);
		if (l->plan_stage > limit)
			l->plan_stage = limit;
		iov[n++] = (struct iovec){ (void *)buf_data(&l->stage),
					   l->plan_stage };
	}
	return n + pieces;
}

void vp_link_written(struct vp_link *l, size_t n)
{
	size_t step = n < l->plan_part ? n : l->plan_part;

	l->counters[VP_C_BYTES_OUT] += n;
	n -= step;
	if (l->part && step) {
		l->part_done += step;
		if (l->part_done == vp_tx_of(l, l->part_seq)->len + VP_SLOT_EXTRA) {
			l->part = false;
			vp_link_release(l);
		}
	}
	step = n < l->plan_stage ? n : l->plan_stage;
	buf_consume(&l->stage, step);
	n -= step;
	if (n > l->plan_raw)
		n = l->plan_raw;
	while (n) {
		size_t size = vp_tx_of(l, l->ptr)->len + VP_SLOT_EXTRA;

		if (n < size) {
			l->part = true;
			l->part_seq = l->ptr;
			l->part_done = n;
			n = size;
		}
		mark_sent(l);
		n -= size;
	}
	l->plan_part = l->plan_stage = l->plan_raw = 0;
}

bool vp_link_wants_write(const struct vp_link *l)
{
	if (!l->attached)
		return false;
	if (l->part || buf_len(&l->stage) || handshake_due(l) || control_due(l))
		return true;
	if (!may_sequence(l))
		return false;
	return l->ptr != l->nxt || vp_link_can_pull(l);
}
