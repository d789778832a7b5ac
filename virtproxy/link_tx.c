/*
 * link_tx.c - the retransmission ring, and what goes out next
 *
 * Payload is pulled straight into the ring, where it stays until the peer's
 * daemon has it (R7).  A slot is laid out as a raw frame:
 *
 *	header 52 | payload | trailer 4 | next slot ...
 *
 * On virtio-serial the channel is written from the ring itself, several frames
 * to a piece.  On a serial line frames are COBS encoded into the stage when
 * they are due, a short burst at a time, so that little waits in front of what
 * becomes urgent.
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

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtproxy/link.h"

/* Less room than this in the ring is not worth a frame, bytes of payload. */
#define PAYLOAD_WORTH 4096u
/* Room a control frame needs in the stage, bytes. */
#define CONTROL_ROOM (COBS_MAX(VP_CONTROL_HEAD + VP_CONTROL_BODY_MAX) + 2)

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

int vp_link_tx_start(struct vp_link *l)
{
	/* What wrapping wastes is less than one slot worth having. */
	size_t size = l->agreed.window + l->agreed.payload + VP_SLOT_EXTRA;

	if (size != l->ring_size) {
		free(l->ring);
		l->ring_size = 0;
		l->ring = malloc(size);
		if (!l->ring)
			return -ENOMEM;
		l->ring_size = size;
	}
	l->head = 0;
	l->released = l->una = l->ptr = l->sent = l->nxt = l->start_seq;
	l->chain_out = l->keys.epoch;
	l->in_flight = l->since_push = 0;
	l->bulk_window = l->channel == VP_CHANNEL_SERIAL ?
				 min_u32(VP_BULK_START, l->agreed.window) :
				 l->agreed.window;
	return 0;
}

void vp_link_tx_stop(struct vp_link *l)
{
	struct vp_tx *tx = vp_tx_of(l, l->part_seq);
	struct buf whole;
	size_t size;

	l->plan_part = l->plan_stage = l->plan_raw = 0;
	if (!l->part)
		return;
	/* In front of the stage: it is what the channel is in the middle of. */
	l->part = false;
	size = tx->len + VP_SLOT_EXTRA;
	buf_init(&whole, l->stage.cap);
	if (buf_put(&whole, l->ring + tx->off + l->part_done,
		    size - l->part_done) ||
	    buf_put(&whole, buf_data(&l->stage), buf_len(&l->stage))) {
		buf_done(&whole); /* the peer sees a cut frame */
		return;
	}
	buf_done(&l->stage);
	l->stage = whole;
}

void vp_link_tx_done(struct vp_link *l)
{
	buf_done(&l->stage);
	free(l->ring);
	l->ring = NULL;
	l->ring_size = 0;
}

void vp_link_release(struct vp_link *l)
{
	while (l->released != l->una &&
	       !(l->part && l->released == l->part_seq))
		l->released++;
}

void vp_link_rewind(struct vp_link *l)
{
	l->ptr = l->una;
}

/*
 * Finds room for a slot at l->head; returns how long its payload may be, 0 when
 * there is not enough to be worth it.
 */
static size_t ring_room(struct vp_link *l)
{
	size_t least = VP_SLOT_EXTRA + min_u32(l->agreed.payload, PAYLOAD_WORTH);
	size_t room = l->ring_size, tail;

	if (l->in_flight + least > l->agreed.window ||
	    l->nxt - l->released >= VP_TX_MAX)
		return 0;
	if (l->nxt == l->released) {
		l->head = 0;
	} else {
		tail = vp_tx_of(l, l->released)->off;
		if (l->head <= tail) {
			room = tail - l->head;
		} else if (l->ring_size - l->head >= least) {
			room = l->ring_size - l->head;
		} else {
			room = tail;
			if (room >= least)
				l->head = 0;
		}
	}
	if (room < least)
		return 0;
	if (room > l->agreed.window - l->in_flight)
		room = l->agreed.window - l->in_flight;
	return min_u32((uint32_t)room - VP_SLOT_EXTRA, l->agreed.payload);
}

static bool bulk_ok(const struct vp_link *l)
{
	return l->in_flight < l->bulk_window;
}

/* Should the frame that makes the slot bytes grow by size ask for an ack? */
static bool push_now(struct vp_link *l, size_t size)
{
	size_t every = l->params->push_bytes;
	size_t next = VP_SLOT_EXTRA + l->agreed.payload;

	if (every > l->bulk_window / 4)
		every = l->bulk_window / 4;
	l->since_push += size;
	if (l->since_push < every && l->in_flight + next <= l->agreed.window)
		return false;
	l->since_push = 0;
	return true;
}

/* Gets the next new frame from the mux into the ring: false, there is none. */
static bool pull(struct vp_link *l, size_t limit)
{
	size_t max = ring_room(l);
	uint8_t *slot = l->ring + l->head;
	struct vp_pull p = { .buf = slot + VP_RAW_HEAD, .max = max,
			     .bulk_ok = bulk_ok(l) };
	struct vp_frame f = { .vr = l->vr, .epoch = l->keys.epoch };
	struct vp_tx *tx = vp_tx_of(l, l->nxt);
	ssize_t len;

	if (!max)
		return false;
	/* Better whole frames in one write than the tail of one in the next. */
	if (limit < max + VP_SLOT_EXTRA &&
	    limit >= VP_SLOT_EXTRA + min_u32(l->agreed.payload, PAYLOAD_WORTH))
		p.max = limit - VP_SLOT_EXTRA;
	len = l->ops.pull(l->arg, &p);
	if (len < 0)
		return false;
	l->in_flight += (size_t)len + VP_SLOT_EXTRA;
	if (push_now(l, (size_t)len + VP_SLOT_EXTRA))
		p.flags |= VP_F_PUSH;
	*tx = (struct vp_tx){ .off = (uint32_t)l->head, .len = (uint32_t)len,
			      .chain = l->chain_out, .stream = p.stream,
			      .type = p.type, .flags = p.flags };
	f.type = p.type;
	f.flags = p.flags;
	f.ack = l->rcv_next;
	f.ack_chain = l->chain_in;
	f.seq = l->nxt;
	f.chain = l->chain_out;
	f.stream = p.stream;
	f.body = p.buf;
	f.len = (size_t)len;
	f.time = l->now;
	if (l->channel == VP_CHANNEL_VIRTIO)
		vp_raw_make(slot, &f, l->keys.seed);
	l->chain_out = vp_chain_next(l->chain_out, &f);
	l->head += (size_t)len + VP_SLOT_EXTRA;
	l->nxt++;
	return true;
}

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

		if (l->ptr == l->nxt && !pull(l, SIZE_MAX))
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
		if (vp_frame_put(&l->stage, &f))
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

		if (seq == l->nxt && (pieces == max || !pull(l, limit)))
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
	return buf_room(&l->stage) >= CONTROL_ROOM + VP_PAD;
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
		put_control(l, VP_T_RESET, 0, &l->dead_keys, &l->why, 1);
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
	static const uint8_t zeros[VP_PAD];
	size_t over = (l->counters[VP_C_BYTES_OUT] + buf_len(&l->stage)) % VP_PAD;

	if (l->role == VP_HOST && l->channel != VP_CHANNEL_VIRTIO && over)
		buf_put(&l->stage, zeros, VP_PAD - over);
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
	return l->ptr != l->nxt ||
	       (l->in_flight + VP_SLOT_EXTRA +
			min_u32(l->agreed.payload, PAYLOAD_WORTH) <=
		l->agreed.window && l->nxt - l->released < VP_TX_MAX &&
		l->ops.ready(l->arg, bulk_ok(l)));
}
