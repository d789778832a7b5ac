/*
 * link_ring.c - the retransmission ring
 *
 * Payload is pulled from the mux straight into the ring, where it stays until the
 * peer's daemon has it (R7).  A slot is laid out as a raw frame:
 *
 *	header 52 | payload | trailer 4 | next slot ...
 *
 * On virtio-serial the channel is written from the ring itself, several frames
 * to a piece.  A slot never wraps around; what is left at the end of the ring is
 * passed over when it is not worth a frame.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "virtproxy/link.h"

/* Less room than this in the ring is not worth a frame, bytes of payload. */
#define PAYLOAD_WORTH 4096u

/* Bytes a slot worth having takes. */
static size_t least_slot(const struct vp_link *l)
{
	return VP_SLOT_EXTRA + vp_min_u32(l->agreed.payload, PAYLOAD_WORTH);
}

/* Do calls go beside bulk?  On a serial line they always may: it is steered. */
static bool beside_calls(const struct vp_link *l)
{
	return l->channel == VP_CHANNEL_VIRTIO && l->now < l->calls_until;
}

static bool bulk_ok(const struct vp_link *l)
{
	return l->in_flight < l->bulk_window &&
	       (l->in_flight < VP_CALL_BULK || !beside_calls(l));
}

void vp_link_call_seen(struct vp_link *l)
{
	l->calls_until = l->now + VP_CALL_NS;
}

static uint32_t bulk_start(const struct vp_link *l)
{
	if (l->channel == VP_CHANNEL_SERIAL)
		return VP_BULK_START;
	return l->role == VP_HOST ? VP_HOST_BULK : UINT32_MAX;
}

int vp_link_tx_start(struct vp_link *l)
{
	/* What wrapping wastes is less than one slot worth having. */
	size_t size = l->agreed.window + l->agreed.payload + VP_SLOT_EXTRA;

	if (size != l->ring_size || !l->ring) {
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
	l->calls_until = 0;
	l->bulk_window = vp_min_u32(bulk_start(l), l->agreed.window);
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

bool vp_link_trim(struct vp_link *l)
{
	if (l->idle_nxt != l->nxt || l->idle_rcv != l->rcv_next) {
		l->idle_nxt = l->nxt;
		l->idle_rcv = l->rcv_next;
		return false;
	}
	if (l->nxt == l->released && !l->part) {
		free(l->ring);
		l->ring = NULL;
	}
	return true;
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
	size_t least = least_slot(l);
	size_t room = l->ring_size, tail;

	if (l->in_flight + least > l->agreed.window ||
	    l->nxt - l->released >= VP_TX_MAX)
		return 0;
	/* Not for the beacons of an idle link: they need no ring. */
	if (!l->ring && l->ops.ready(l->arg, bulk_ok(l)))
		l->ring = malloc(l->ring_size);
	if (!l->ring)
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
	return vp_min_u32((uint32_t)room - VP_SLOT_EXTRA, l->agreed.payload);
}

/* Should the frame that makes the slot bytes grow by size ask for an ack? */
static bool push_now(struct vp_link *l, size_t size)
{
	size_t every = l->params->push_bytes;
	size_t next = VP_SLOT_EXTRA + l->agreed.payload;

	if (every > l->bulk_window / 4)
		every = l->bulk_window / 4;
	if (every > VP_CALL_PUSH && beside_calls(l))
		every = VP_CALL_PUSH;
	l->since_push += size;
	if (l->since_push < every && l->in_flight + next <= l->agreed.window)
		return false;
	l->since_push = 0;
	return true;
}

bool vp_link_pull(struct vp_link *l, size_t limit)
{
	size_t max = ring_room(l);
	struct vp_pull p = { .max = max, .bulk_ok = bulk_ok(l) };
	struct vp_frame f = { .vr = l->vr, .epoch = l->keys.epoch };
	struct vp_tx *tx = vp_tx_of(l, l->nxt);
	uint8_t *slot;
	ssize_t len;

	if (!max)
		return false;
	slot = l->ring + l->head;
	p.buf = slot + VP_RAW_HEAD;
	/* Better whole frames in one write than the tail of one in the next. */
	if (limit < max + VP_SLOT_EXTRA && limit >= least_slot(l))
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
	vp_link_stir(l);
	return true;
}

bool vp_link_can_pull(const struct vp_link *l)
{
	return l->in_flight + least_slot(l) <= l->agreed.window &&
	       l->nxt - l->released < VP_TX_MAX &&
	       l->ops.ready(l->arg, bulk_ok(l));
}
