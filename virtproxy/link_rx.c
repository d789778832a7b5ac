/*
 * link_rx.c - sequence numbers, acks, beacons, and going back in time
 *
 * A guest may be set back to an earlier state at any moment (loadvm) and goes on
 * from there in good faith.  What gives it away (R27): it has not heard what it
 * acknowledged, not sent what was received, or the chain of what it says it has
 * heard or sent is not ours.  Because the channel may also repeat old bytes, a
 * state that merely went back is only a suspicion: it is settled by a challenge,
 * which no old byte can answer.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/link.h"

enum ack_state { ACK_TAKEN, ACK_STALE, ACK_DEAD };

static void rolled_back(struct vp_link *l)
{
	vp_count(l, VP_C_ROLLBACKS);
	vp_link_drop(l, VP_RESET_ROLLED_BACK, true);
}

static void suspect(struct vp_link *l)
{
	vp_count(l, VP_C_SUSPICIONS);
	vp_link_probe(l);
}

/* Steers the bulk under way on a serial line (PROTOCOL 7.5). */
static void steer_bulk(struct vp_link *l, uint64_t took, size_t was_in_flight)
{
	if (l->channel != VP_CHANNEL_SERIAL)
		return;
	if (took > VP_BULK_TARGET)
		l->bulk_window -= l->bulk_window / 8;
	else if (was_in_flight + VP_SERIAL_PAYLOAD >= l->bulk_window)
		l->bulk_window += VP_BULK_STEP;
	if (l->bulk_window < VP_BULK_MIN)
		l->bulk_window = VP_BULK_MIN;
	if (l->bulk_window > l->agreed.window)
		l->bulk_window = l->agreed.window;
}

/* Under QUIESCE the peer wants to hear when nothing of ours is under way. */
static void tell_idle(struct vp_link *l)
{
	if (l->peer_quiesce && l->una == l->nxt)
		l->beacon_due = true;
}

static enum ack_state advance(struct vp_link *l, uint32_t ack)
{
	uint32_t generation = l->generation, seq = l->una;
	struct vp_tx last = *vp_tx_of(l, ack - 1);
	size_t was = l->in_flight;

	/* First the state, then the callbacks: they may use the link. */
	for (; seq != ack; seq++)
		l->in_flight -= vp_tx_of(l, seq)->len + VP_SLOT_EXTRA;
	seq = l->una;
	l->una = ack;
	if (vp_seq_before(l->ptr, ack))
		l->ptr = ack;
	if (last.sent_at && !last.resent) {
		vp_link_rtt_sample(l, l->now - last.sent_at);
		if (last.flags & VP_F_PUSH)
			steer_bulk(l, l->now - last.sent_at, was);
	}
	l->rto_at = l->una == l->sent ? CLOCK_NEVER : l->now + l->rto;
	tell_idle(l);
	for (; seq != ack; seq++) {
		struct vp_tx tx = *vp_tx_of(l, seq);

		l->ops.acked(l->arg, &tx);
		if (l->generation != generation)
			return ACK_DEAD;
	}
	vp_link_release(l);
	return ACK_TAKEN;
}

uint32_t vp_link_chain_at(struct vp_link *l, uint32_t seq)
{
	return seq == l->nxt ? l->chain_out : vp_tx_of(l, seq)->chain;
}

/*
 * An ack counts only with the chain of what is acknowledged: a peer that heard
 * what we sent before we were set back acknowledges other bytes of the same
 * numbers.
 */
static enum ack_state take_ack(struct vp_link *l, const struct vp_frame *f)
{
	if (vp_seq_before(f->ack, l->una))
		return ACK_STALE;
	if (vp_seq_before(l->sent, f->ack) ||
	    f->ack_chain != vp_link_chain_at(l, f->ack)) {
		rolled_back(l);
		return ACK_DEAD;
	}
	return f->ack == l->una ? ACK_TAKEN : advance(l, f->ack);
}

struct beacon {
	uint32_t snd_nxt;
	uint64_t challenge, echo; /* 0 = none */
};

static bool get_beacon(const struct vp_frame *f, struct beacon *b)
{
	size_t need = 4 + (f->flags & VP_B_CHALLENGE ? 8 : 0) +
		      (f->flags & VP_B_ECHO ? 8 : 0), at = 4;

	if (f->len < need)
		return false;
	*b = (struct beacon){ .snd_nxt = get_le32(f->body) };
	if (f->flags & VP_B_CHALLENGE) {
		b->challenge = get_le64(f->body + at);
		at += 8;
	}
	if (f->flags & VP_B_ECHO)
		b->echo = get_le64(f->body + at);
	return true;
}

/* Frames up to next are on their way or lost; what comes now is after them. */
static void gap_seen(struct vp_link *l, uint32_t seq)
{
	/* One NAK per gap; another when the sender has gone back (its numbers
	 * fell) and the first one missing is missing again. */
	if (!l->gap || !vp_seq_before(l->gap_seq, seq))
		l->nak_due = true;
	l->gap = true;
	l->gap_seq = seq;
}

static void take_beacon(struct vp_link *l, const struct vp_frame *f,
			enum ack_state ack)
{
	struct beacon b;
	bool echoed, behind;

	if (!get_beacon(f, &b)) {
		vp_count(l, VP_C_PROTOCOL);
		return;
	}
	vp_count(l, VP_C_BEACONS_IN);
	echoed = l->token && b.echo == l->token;
	behind = vp_seq_before(b.snd_nxt, l->rcv_next);
	/* Even a repeated answer was made after the challenge, so by a peer
	 * that knew what we knew of it then: unless it has forgotten. */
	if (echoed && (vp_seq_before(f->ack, l->token_una) ||
		       vp_seq_before(b.snd_nxt, l->token_rcv))) {
		rolled_back(l);
		return;
	}
	if (ack == ACK_STALE || behind) {
		if (!echoed)
			suspect(l);
	} else if (b.snd_nxt != l->rcv_next) {
		gap_seen(l, b.snd_nxt - 1);
	}
	vp_link_answer_beacon(l);
	if (b.challenge) {
		l->echo = b.challenge;
		l->echo_due = l->beacon_due = true;
	}
	if (echoed) {
		l->token = 0;
		l->token_at = CLOCK_NEVER;
		l->challenge_due = false;
		l->rto_at = CLOCK_NEVER;
		vp_link_reset_rto(l);
		vp_link_rewind(l);
	} else {
		vp_link_ask_again(l);
	}
	l->peer_idle = !l->token && (f->flags & VP_B_IDLE);
	if (l->peer_quiesce != !!(f->flags & VP_B_QUIESCE)) {
		l->peer_quiesce = !l->peer_quiesce;
		tell_idle(l);
	}
}

void vp_link_control(struct vp_link *l, const struct vp_frame *f)
{
	enum ack_state ack;

	if (f->type == VP_T_RESET) {
		vp_link_reset_heard(l, f);
		return;
	}
	ack = take_ack(l, f);
	if (ack == ACK_DEAD)
		return;
	if (f->type == VP_T_BEACON) {
		take_beacon(l, f, ack);
	} else if (ack == ACK_STALE) {
		suspect(l);
	} else if (f->type == VP_T_NAK) {
		vp_count(l, VP_C_NAKS_IN);
		if (!l->token)
			vp_link_rewind(l);
	}
}

static void note_received(struct vp_link *l, const struct vp_frame *f)
{
	l->unacked += f->len + VP_SLOT_EXTRA;
	if (f->flags & VP_F_PUSH || l->unacked >= l->params->ack_bytes)
		l->ack_due = true;
	else if (l->ack_at == CLOCK_NEVER)
		l->ack_at = l->now + l->params->ack_delay;
}

void vp_link_ack_carried(struct vp_link *l)
{
	l->ack_due = false;
	l->unacked = 0;
	l->ack_at = CLOCK_NEVER;
}

void vp_link_sequenced(struct vp_link *l, const struct vp_frame *f)
{
	enum ack_state ack = take_ack(l, f);

	if (ack == ACK_DEAD)
		return;
	if (ack == ACK_STALE)
		suspect(l);
	if (vp_seq_before(f->seq, l->rcv_next)) {
		vp_count(l, VP_C_DUPLICATES);
		l->ack_due = true;
		return;
	}
	if (f->seq != l->rcv_next) {
		vp_count(l, VP_C_GAPS);
		gap_seen(l, f->seq);
		return;
	}
	if (f->chain != l->chain_in) {
		rolled_back(l);
		return;
	}
	/* New, but from someone who has not heard what he had heard: if he was
	 * set back, it does not belong to the streams it names. */
	if (ack == ACK_STALE)
		return;
	l->chain_in = f->compact ? f->next : vp_chain_next(l->chain_in, f);
	l->rcv_next++;
	vp_link_stir(l);
	l->gap = l->blind = l->nak_due = false;
	if (f->type == VP_T_DATA)
		l->data_in = f->stream;
	note_received(l, f);
	l->ops.frame(l->arg, f);
}
