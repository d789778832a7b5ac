/*
 * link_session.c - who is at the other end: HELLO, OFFER, ACCEPT, RESET
 *
 * A session is dropped for a new one only after the other side has echoed a
 * number that was drawn for the occasion and used for nothing else: the guest's
 * nonce in an OFFER, the host's in an ACCEPT (or the epoch made of both).
 * Whatever stale, repeated or recorded bytes may say in a HELLO leads to an
 * offer and no further; a stale OFFER echoes a nonce that is used up.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <string.h>

#include "virtproxy/link.h"

#define HANDSHAKE_LEN 39u

static struct vp_limits own_limits(const struct vp_link *l)
{
	const struct vp_params *p = l->params;
	bool serial = l->channel == VP_CHANNEL_SERIAL;
	bool long_rest = !serial && (l->role == VP_GUEST || l->long_rest);
	bool pad_14 = serial && (l->role == VP_HOST || l->trigger_14);

	return (struct vp_limits){
		.channel = l->channel,
		.features = (l->compress && serial ? VP_FEATURE_DEFLATE : 0) |
			    (pad_14 ? VP_FEATURE_TRIGGER_14 : 0) |
			    (serial ? VP_FEATURE_COMPACT : 0) | VP_FEATURE_REST |
			    (long_rest ? VP_FEATURE_LONG_REST : 0),
		.payload = p->payload,
		.streams = l->max_streams && l->max_streams < p->streams ?
				   l->max_streams :
				   p->streams,
		.window = p->window,
		.credit = p->credit,
		.start = l->start_seq,
		.why = l->why,
	};
}

/* How a HELLO names the session its sender is in. */
static uint64_t session_id(const struct vp_keys *k)
{
	return (uint64_t)k->tag << 32 | k->epoch;
}

int vp_link_put_handshake(struct vp_link *l, uint8_t type)
{
	struct vp_limits own = own_limits(l);
	uint8_t body[HANDSHAKE_LEN];
	struct vp_frame f = { .vr = l->vr, .type = type, .body = body,
			      .len = sizeof(body) };
	uint64_t mine = l->role == VP_GUEST ? l->attempt : 0;
	uint64_t yours = l->up ? session_id(&l->keys) : 0;

	if (type == VP_T_OFFER) {
		mine = l->offer.host;
		yours = l->offer.guest;
	} else if (type == VP_T_ACCEPT) {
		mine = l->guest_nonce;
		yours = l->host_nonce;
	}
	body[0] = (uint8_t)own.channel;
	body[1] = own.why;
	body[2] = VP_VERSION;
	put_le32(body + 3, own.features);
	put_le64(body + 7, mine);
	put_le64(body + 15, yours);
	put_le16(body + 23, (uint16_t)own.payload);
	put_le16(body + 25, (uint16_t)own.streams);
	put_le32(body + 27, own.window);
	put_le32(body + 31, own.credit);
	put_le32(body + 35, own.start);
	return vp_frame_put(&l->stage, &f);
}

/* False: it asks for what nobody can give. */
static bool get_handshake(const struct vp_frame *f, struct vp_limits *ret,
			  uint64_t *mine, uint64_t *yours)
{
	const uint8_t *b = f->body;

	if (f->len < HANDSHAKE_LEN || b[0] > VP_CHANNEL_VIRTIO || b[2] < 1)
		return false;
	*ret = (struct vp_limits){
		.channel = b[0],
		.why = b[1],
		.features = get_le32(b + 3),
		.payload = get_le16(b + 23),
		.streams = get_le16(b + 25),
		.window = get_le32(b + 27),
		.credit = get_le32(b + 31),
		.start = get_le32(b + 35),
	};
	*mine = get_le64(b + 7);
	*yours = get_le64(b + 15);
	return ret->payload >= VP_PAYLOAD_MIN && ret->streams >= 1 &&
	       ret->window >= VP_WINDOW_MIN && ret->credit >= VP_CREDIT_MIN;
}

static void agree(struct vp_link *l, const struct vp_limits *peer)
{
	struct vp_limits own = own_limits(l);

	l->agreed = *peer;
	l->agreed.channel = l->channel;
	l->agreed.features = own.features & peer->features;
	l->agreed.payload = vp_min_u32(own.payload, peer->payload);
	l->agreed.streams = vp_min_u32(own.streams, peer->streams);
	l->agreed.window = vp_min_u32(own.window, peer->window);
	/* Two frames fit at least, or the line would stand still in between. */
	l->agreed.payload = vp_min_u32(l->agreed.payload,
				    l->agreed.window / 2 - VP_SLOT_EXTRA);
}

static void set_channel(struct vp_link *l, enum vp_channel channel)
{
	l->channel = channel;
	l->params = vp_params_of(channel);
}

void vp_link_drop(struct vp_link *l, enum vp_reset reason, bool tell)
{
	if (!l->up)
		return;
	l->up = false;
	l->generation++;
	l->why = (uint8_t)reason;
	l->dead_keys = l->keys;
	l->parser.raw = false;
	l->token = 0;
	l->token_at = l->rto_at = l->ack_at = l->beacon_at = CLOCK_NEVER;
	l->ack_due = l->nak_due = l->beacon_due = false;
	l->echo_due = l->challenge_due = l->accept_due = false;
	l->peer_quiesce = l->peer_idle = false;
	vp_link_tx_stop(l);
	if (tell) {
		l->reset_due = vp_link_may_talk(l);
		vp_count(l, VP_C_RESETS_OUT);
	}
	if (l->attached) {
		l->hello_due = l->role == VP_GUEST || l->heard;
		if (l->role == VP_GUEST) {
			l->hello_gap = l->params->hello_min;
			l->hello_at = l->now + l->hello_gap;
		}
	}
	l->ops.down(l->arg, reason);
}

static void establish(struct vp_link *l, uint64_t host, uint64_t guest,
		      struct vp_keys keys, const struct vp_limits *peer)
{
	enum vp_reset why = VP_RESET_PEER_RESTARTED;

	if (peer->why == VP_RESET_ROLLED_BACK)
		why = VP_RESET_ROLLED_BACK;
	vp_link_drop(l, why, false);
	agree(l, peer);
	l->keys = keys;
	l->host_nonce = host;
	l->guest_nonce = guest;
	l->offer.valid = false;
	/* Used up: no second session comes of the same HELLO. */
	do
		l->ops.random(l->arg, &l->attempt, sizeof(l->attempt));
	while (!l->attempt || l->attempt == guest);
	if (vp_link_tx_start(l))
		return; /* no memory: the peer's next HELLO tries again */
	l->rcv_next = peer->start;
	l->chain_in = keys.epoch;
	l->gap = l->blind = false;
	l->data_in = l->data_out = 0;
	l->unacked = 0;
	l->parser.raw = l->channel == VP_CHANNEL_VIRTIO;
	l->parser.seed = keys.seed;
	l->parser.max_payload = l->params->payload;
	l->srtt = l->rttvar = 0;
	l->rto = l->params->rto_start;
	l->quiet_beacons = 0;
	l->stirred_at = 0;
	l->beacon_at = l->now + vp_link_beacon_every(l);
	l->last_beacon = l->now;
	l->hello_at = CLOCK_NEVER;
	l->hello_due = l->reset_due = false;
	l->up = true;
	l->generation++;
	vp_count(l, VP_C_SESSIONS);
	l->ops.up(l->arg);
	l->why = 0;
}

static void accept_offer(struct vp_link *l)
{
	struct vp_offer o = l->offer;

	/* The channel may have changed under a session that still stood. */
	vp_link_drop(l, o.peer.why == VP_RESET_ROLLED_BACK ?
			       VP_RESET_ROLLED_BACK :
			       VP_RESET_PEER_RESTARTED, false);
	set_channel(l, o.peer.channel);
	establish(l, o.host, o.guest, o.keys, &o.peer);
}

static void host_hello(struct vp_link *l, const struct vp_limits *peer,
		       uint64_t guest, uint64_t yours)
{
	struct vp_offer *o = &l->offer;

	if (!guest || peer->channel == VP_CHANNEL_UNKNOWN) {
		vp_count(l, VP_C_PROTOCOL);
		return;
	}
	/* In the session that was offered: its ACCEPT was lost. */
	if (o->valid && yours == session_id(&o->keys))
		accept_offer(l);
	if (l->up && yours == session_id(&l->keys)) {
		l->beacon_due = true;
		return;
	}
	if (!l->up)
		set_channel(l, peer->channel);
	if (!o->valid || o->guest != guest) {
		o->valid = true;
		o->guest = guest;
		do {
			l->ops.random(l->arg, &o->host, sizeof(o->host));
			o->keys = vp_keys_of(o->host, guest);
		} while (!o->host || !o->keys.epoch ||
			 o->keys.epoch == l->keys.epoch);
	}
	o->peer = *peer;
	l->offer_due = true;
}

void vp_link_handshake(struct vp_link *l, const struct vp_frame *f)
{
	struct vp_limits peer;
	uint64_t mine, yours;

	if (!get_handshake(f, &peer, &mine, &yours)) {
		vp_count(l, VP_C_PROTOCOL);
	} else if (f->type == VP_T_HELLO && l->role == VP_HOST) {
		host_hello(l, &peer, mine, yours);
	} else if (f->type == VP_T_HELLO) {
		vp_link_foreign(l); /* who are you: as for a foreign frame */
	} else if (f->type == VP_T_ACCEPT && l->role == VP_HOST) {
		if (l->offer.valid && mine == l->offer.guest &&
		    yours == l->offer.host)
			accept_offer(l);
		else if (!l->up || mine != l->guest_nonce ||
			 yours != l->host_nonce)
			vp_link_foreign(l);
	} else if (f->type == VP_T_OFFER && l->role == VP_GUEST && mine) {
		if (yours == l->attempt)
			establish(l, mine, yours, vp_keys_of(mine, yours),
				  &peer);
		else if (!l->up || mine != l->host_nonce ||
			 yours != l->guest_nonce)
			return;
		l->accept_due = l->up;
	}
}

static bool keys_match(const struct vp_keys *k, const struct vp_frame *f)
{
	return f->epoch == k->epoch &&
	       (vp_frame_sequenced(f) || f->tag == k->tag);
}

bool vp_link_ours(struct vp_link *l, const struct vp_frame *f)
{
	if (l->up && keys_match(&l->keys, f))
		return true;
	if (!l->offer.valid || !keys_match(&l->offer.keys, f))
		return false;
	accept_offer(l);
	return l->up;
}

void vp_link_foreign(struct vp_link *l)
{
	vp_count(l, VP_C_FOREIGN);
	if (l->now < l->foreign_at)
		return;
	l->foreign_at = l->now + VP_FOREIGN_EVERY;
	l->hello_due = true;
}

void vp_link_reset_heard(struct vp_link *l, const struct vp_frame *f)
{
	enum vp_reset reason = VP_RESET_PEER_RESTARTED;

	if (f->len && f->body[0] >= VP_RESET_BY_PEER &&
	    f->body[0] <= VP_RESET_SHUTDOWN)
		reason = f->body[0];
	if (reason == VP_RESET_SHUTDOWN) {
		l->heard_farewell_len =
			vp_min_u32((uint32_t)f->len - 1, VP_FAREWELL_MAX);
		memcpy(l->heard_farewell, f->body + 1, l->heard_farewell_len);
	}
	vp_count(l, VP_C_RESETS_IN);
	vp_link_drop(l, reason, false);
	l->heard_farewell_len = 0;
}
