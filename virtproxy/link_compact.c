/*
 * link_compact.c - compact frames in a session (PROTOCOL 3.4)
 *
 * A frame that goes out for the first time is compact, one that goes out again is
 * not: so a compact frame can only be the next one, and a reader who cannot prove
 * that it is has missed something.  He says so by NAK, once, and then hears frames
 * that name their number.  Nothing else is done about a frame that is not proved.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/compact.h"
#include "virtproxy/link.h"

static bool agreed(const struct vp_link *l)
{
	return l->up && l->channel == VP_CHANNEL_SERIAL &&
	       l->agreed.features & VP_FEATURE_COMPACT;
}

int vp_link_put_sequenced(struct vp_link *l, const struct vp_frame *f)
{
	bool first = !vp_seq_before(f->seq, l->sent);
	int r;

	if (first && agreed(l))
		/* What the host writes ends in 00, always; behind a guest's frame
		 * there may be the text of a console. */
		r = vp_compact_put(&l->stage, f, vp_link_chain_at(l, f->seq + 1),
				   l->data_out, l->role == VP_GUEST);
	else
		r = vp_frame_put(&l->stage, f);
	if (!r && first && f->type == VP_T_DATA)
		l->data_out = f->stream;
	return r;
}

/* Something of the peer's that cannot be proved. */
static void unproved(struct vp_link *l)
{
	if (!vp_link_may_talk(l))
		return;
	if (!l->up) {
		vp_link_foreign(l);
		return;
	}
	vp_count(l, VP_C_GAPS);
	if (l->blind)
		return;
	l->blind = true;
	l->nak_due = true;
}

/* The ack of c, out of 8 bits of it; false: none makes the check right. */
static bool find_ack(struct vp_link *l, const struct vp_compact *c, uint32_t next,
		     uint32_t *ret)
{
	uint32_t ack = l->una + (uint8_t)(c->ack - l->una);

	for (; !vp_seq_before(l->sent, ack); ack += 256) {
		if (!vp_compact_valid(c, next, ack, vp_link_chain_at(l, ack)))
			continue;
		*ret = ack;
		return true;
	}
	return false;
}

bool vp_link_compact(void *arg, const uint8_t *content, size_t n)
{
	struct vp_link *l = arg;
	struct vp_compact c;
	struct vp_frame f;

	if (l->up && !agreed(l))
		return false;
	if (!vp_compact_get(&c, content, n, l->data_in) || c.vr == l->vr)
		return false;
	f = (struct vp_frame){ .vr = c.vr, .type = c.type, .flags = c.flags,
			       .compact = true, .epoch = l->keys.epoch,
			       .seq = l->rcv_next, .chain = l->chain_in,
			       .stream = c.stream, .body = c.body, .len = c.len };
	f.next = vp_chain_next(f.chain, &f);
	if (!l->up || !find_ack(l, &c, f.next, &f.ack)) {
		unproved(l);
		return false;
	}
	f.ack_chain = vp_link_chain_at(l, f.ack);
	vp_count(l, VP_C_FRAMES_IN);
	vp_link_frame(l, &f);
	return true;
}
