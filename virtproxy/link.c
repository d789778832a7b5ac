/*
 * link.c - life of a link, its parameters, and where frames go
 *
 * The link is pure: it is told the time, is handed bytes and hands out bytes.
 * Everything that goes out beside sequenced frames is a flag ("due") that is
 * turned into a frame when there is room, from the state of that moment (R8):
 * so nothing queues up behind a channel that does not move.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KIB 1024u
#define MIB 1048576u
#define MSEC NSEC_PER_MSEC

static const struct vp_params virtio_params = {
	.payload = VP_RAW_PAYLOAD,
	.window = 1024 * KIB,
	.streams = 256,
	.credit = 32 * KIB,
	.credit_max = 1024 * KIB,
	.credit_pool = 8 * MIB,
	.ack_bytes = 256 * KIB,
	.push_bytes = 256 * KIB,
	.ack_delay = 2 * MSEC,
	.rto_start = 200 * MSEC,
	.rto_min = 20 * MSEC,
	.rto_max = 2000 * MSEC,
	.hello_min = 250 * MSEC,
	.hello_max = 2000 * MSEC,
};

static const struct vp_params serial_params = {
	.payload = VP_SERIAL_PAYLOAD,
	.window = 16 * KIB,
	.streams = 64,
	.credit = 4 * KIB,
	.credit_max = 16 * KIB,
	.credit_pool = 192 * KIB,
	.ack_bytes = 4 * KIB,
	.push_bytes = 4 * KIB,
	.ack_delay = 20 * MSEC,
	.rto_start = 1000 * MSEC,
	.rto_min = 300 * MSEC,
	.rto_max = 5000 * MSEC,
	.hello_min = 1000 * MSEC,
	.hello_max = 2000 * MSEC,
};

_Static_assert(16 * KIB <= VP_SERIAL_WINDOW_CAP, "R9");
_Static_assert(VP_SERIAL_HEAD + VP_SERIAL_PAYLOAD + VP_CRC_LEN <=
		       VP_CONTENT_MAX,
	       "a serial frame keeps Hamming distance 6");

const struct vp_params *vp_params_of(enum vp_channel channel)
{
	/* Unknown: what holds everywhere. */
	return channel == VP_CHANNEL_VIRTIO ? &virtio_params : &serial_params;
}

void vp_link_init(struct vp_link *l, const struct vp_mux_config *cfg,
		  const struct vp_link_ops *ops, void *arg, uint64_t now)
{
	l->role = cfg->role;
	l->channel = cfg->channel;
	l->vr = cfg->role == VP_HOST ? VP_VR_HOST : VP_VR_GUEST;
	l->may_probe = cfg->probe;
	l->long_rest = cfg->long_rest;
	l->compress = cfg->compress;
	l->start_seq = cfg->start_seq;
	l->max_streams = cfg->max_streams;
	l->params = vp_params_of(l->channel);
	l->ops = *ops;
	l->arg = arg;
	l->now = now;
	l->reconnect_after = VP_RECONNECT_MIN;
	l->hello_at = l->beacon_at = l->ack_at = CLOCK_NEVER;
	l->rto_at = l->token_at = CLOCK_NEVER;

	vp_parser_init(&l->parser);
	l->parser.frame = vp_link_frame;
	l->parser.compact = vp_link_compact;
	l->parser.arg = l;
	l->parser.counters = l->counters;
	l->parser.own_vr = l->vr;
	while (!l->attempt)
		ops->random(arg, &l->attempt, sizeof(l->attempt));
	/* The rest of a raw frame may have to be kept across a session's end,
	 * beside control frames and a burst. */
	buf_init(&l->stage, VP_RAW_HEAD + VP_RAW_PAYLOAD + VP_RAW_TRAILER +
				    2 * VP_SERIAL_BURST);
}

void vp_link_done(struct vp_link *l)
{
	vp_parser_done(&l->parser);
	vp_link_tx_done(l);
}

void vp_link_attach(struct vp_link *l, uint64_t now)
{
	if (l->attached)
		vp_link_detach(l, now);
	l->now = now;
	l->attached = true;
	l->heard = false;
	l->lead = true;
	l->attached_at = now;
	l->last_heard = 0;
	l->quiet_beacons = 0;
	l->stirred_at = 0;
	l->unsent = 0;
	vp_count(l, VP_C_ATTACHES);
	l->hello_gap = l->params->hello_min;
	if (l->role == VP_GUEST) {
		l->hello_due = true;
		l->hello_at = l->up ? CLOCK_NEVER : now + l->hello_gap;
		l->last_beacon = now;
		l->beacon_at = l->up ? now + vp_link_beacon_every(l) : CLOCK_NEVER;
		if (l->up)
			vp_link_probe(l);
	} else if (l->may_probe) {
		l->hello_due = true;
		l->hello_at = now + VP_PROBE_HELLO_EVERY;
	}
}

void vp_link_detach(struct vp_link *l, uint64_t now)
{
	l->now = now;
	if (l->attached && !l->heard) {
		l->reconnect_after *= 2;
		if (l->reconnect_after > VP_RECONNECT_MAX)
			l->reconnect_after = VP_RECONNECT_MAX;
	}
	l->attached = false;
	l->heard = false;
	vp_parser_reset(&l->parser);
	buf_reset(&l->stage);
	l->part = false;
	l->plan_part = l->plan_stage = l->plan_raw = 0;
	vp_link_release(l);
	l->hello_due = l->offer_due = l->accept_due = l->reset_due = false;
	l->ack_due = l->nak_due = l->beacon_due = false;
	l->echo_due = l->challenge_due = false;
	l->token = 0;
	l->hello_at = l->beacon_at = l->ack_at = CLOCK_NEVER;
	l->rto_at = l->token_at = CLOCK_NEVER;
}

void vp_link_frame(void *arg, const struct vp_frame *f)
{
	struct vp_link *l = arg;
	bool first = !l->heard;

	l->heard = true;
	l->last_heard = l->now;
	l->reconnect_after = VP_RECONNECT_MIN;
	if (f->type < VP_T_CONTROL)
		vp_link_handshake(l, f);
	else if (!vp_link_ours(l, f))
		vp_link_foreign(l);
	else if (vp_frame_sequenced(f))
		vp_link_sequenced(l, f);
	else
		vp_link_control(l, f);
	/* The host takes up an old session where the guest lets it (R28). */
	if (first && l->up && l->attached && l->role == VP_HOST) {
		l->beacon_at = l->now + vp_link_beacon_every(l);
		vp_link_probe(l);
	}
}
