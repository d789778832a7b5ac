/*
 * link_timer.c - what happens when time passes
 *
 * Nothing ends because of it (R20): time only brings beacons, acks that were put
 * off, HELLOs, and challenges.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/link.h"

static uint64_t clamp(uint64_t v, uint64_t low, uint64_t high)
{
	return v < low ? low : v > high ? high : v;
}

/* Do bytes of ours still wait for the channel?  Then nothing was lost yet, and
 * more of them would only pile up in front of a guest that is paused (R10). */
static bool backed_up(const struct vp_link *l)
{
	return l->unsent || l->part || buf_len(&l->stage);
}

void vp_link_probe(struct vp_link *l)
{
	if (l->token || !l->up)
		return;
	while (!l->token)
		l->ops.random(l->arg, &l->token, sizeof(l->token));
	l->token_una = l->una;
	l->token_rcv = l->rcv_next;
	l->challenge_due = l->beacon_due = true;
	l->token_gap = l->rto;
	l->token_at = l->now + l->token_gap;
}

/* A peer that was away is heard again, but its beacon does not answer: what was
 * asked meanwhile is lost, and asked at once, not when its long interval is over. */
void vp_link_ask_again(struct vp_link *l)
{
	uint64_t asked = l->token_at - l->token_gap;

	if (!l->token || l->now - asked < l->params->rto_min || backed_up(l))
		return;
	l->challenge_due = l->beacon_due = true;
	l->token_gap = l->params->rto_start;
	l->token_at = l->now + l->token_gap;
}

void vp_link_reset_rto(struct vp_link *l)
{
	l->rto = l->srtt ? clamp(l->srtt + 4 * l->rttvar + l->params->ack_delay,
				 l->params->rto_min, l->params->rto_max) :
			   l->params->rto_start;
}

/* RFC 6298, in integers. */
void vp_link_rtt_sample(struct vp_link *l, uint64_t rtt)
{
	if (!l->srtt) {
		l->srtt = rtt ? rtt : 1;
		l->rttvar = rtt / 2;
	} else {
		uint64_t diff = l->srtt > rtt ? l->srtt - rtt : rtt - l->srtt;

		l->rttvar += diff / 4;
		l->rttvar -= l->rttvar / 4;
		l->srtt += rtt / 8;
		l->srtt -= l->srtt / 8;
	}
	vp_link_reset_rto(l);
}

static uint64_t silent_since(const struct vp_link *l)
{
	return l->last_heard > l->attached_at ? l->last_heard : l->attached_at;
}

/*
 * Of a session in which nothing has gone either way for a while fewer beacons do, if
 * the peer knows of that: an idle link costs wake-ups and nothing else.  Where a
 * host has very many links, it offers to rest longer still.
 */
static uint64_t pace_after(const struct vp_link *l, unsigned quiet)
{
	uint32_t both = l->up ? l->agreed.features : 0;

	if (both & VP_FEATURE_LONG_REST && quiet >= VP_LONG_REST_BEACONS)
		return VP_BEACON_LONG_REST;
	return both & VP_FEATURE_REST && quiet >= VP_REST_BEACONS ? VP_BEACON_REST :
								    VP_BEACON_EVERY;
}

/* The peer counts its beacons, we ours: it may be some ahead. */
uint64_t vp_link_grace(const struct vp_link *l)
{
	uint64_t pace = pace_after(l, l->quiet_beacons + VP_REST_LEAD);

	if (pace > VP_BEACON_EVERY)
		return pace - VP_BEACON_EVERY;
	return l->stirred_at > silent_since(l) ? l->stirred_at - silent_since(l) : 0;
}

/* A guest whose host is away need not call it often, nor with more than HELLO. */
static bool alone(const struct vp_link *l)
{
	return l->role == VP_GUEST &&
	       l->now >= silent_since(l) + VP_ALONE_AFTER + vp_link_grace(l);
}

uint64_t vp_link_pace(const struct vp_link *l)
{
	uint64_t pace = pace_after(l, l->quiet_beacons);

	return l->up && alone(l) && pace < VP_BEACON_REST ? VP_BEACON_REST : pace;
}

/* The host is the one with very many links: it waits a little longer, so that its
 * beacon goes out when the guest's came in, and an idle link wakes it once. */
uint64_t vp_link_beacon_every(const struct vp_link *l)
{
	return l->role == VP_HOST ? vp_link_pace(l) + vp_link_pace(l) / 4 : vp_link_pace(l);
}

void vp_link_stir(struct vp_link *l)
{
	uint64_t soon;

	l->stirred = true;
	if (l->quiet_beacons < VP_REST_BEACONS)
		return;
	l->quiet_beacons = 0;
	l->stirred_at = l->now;
	soon = l->now + vp_link_beacon_every(l);
	if (l->beacon_at > soon)
		l->beacon_at = soon;
}

/* A beacon of ours goes out: was there anything else since the last?  A peer that
 * does not speak is not at rest. */
static void beacon(struct vp_link *l)
{
	if (l->stirred)
		l->quiet_beacons = 0;
	else if (l->quiet_beacons < VP_LONG_REST_BEACONS && l->last_heard >= l->last_beacon)
		l->quiet_beacons++;
	l->stirred = false;
	/* HELLO names the session, too; on a serial line each byte is an interrupt. */
	l->beacon_due |= !alone(l);
	l->last_beacon = l->now;
}

void vp_link_answer_beacon(struct vp_link *l)
{
	if (l->role != VP_HOST || l->beacon_at > l->now + vp_link_pace(l) / 2 || backed_up(l))
		return;
	beacon(l);
	l->beacon_at = l->now + vp_link_beacon_every(l);
}

static void tick_session(struct vp_link *l)
{
	if (l->now >= l->ack_at) {
		l->ack_at = CLOCK_NEVER;
		l->ack_due = true;
	}
	if (l->now >= l->rto_at) {
		l->rto_at = CLOCK_NEVER;
		if (l->una == l->sent) {
			; /* nothing is out */
		} else if (backed_up(l)) {
			l->rto_at = l->now + l->rto;
		} else if (!l->token) {
			vp_count(l, VP_C_TIMEOUTS);
			l->rto = clamp(l->rto * 2, 0, l->params->rto_max);
			vp_link_probe(l);
		}
	}
	if (l->now >= l->token_at) {
		if (!backed_up(l)) {
			l->challenge_due = l->beacon_due = true;
			l->token_gap = clamp(l->token_gap * 2, 0,
					     l->params->rto_max);
		}
		l->token_at = l->now + l->token_gap;
	}
	if (l->now >= l->beacon_at) {
		if (!backed_up(l)) {
			l->hello_due |= l->role == VP_GUEST &&
					l->last_heard < l->last_beacon;
			beacon(l);
		}
		l->beacon_at = l->now + vp_link_beacon_every(l);
	}
}

void vp_link_tick(struct vp_link *l)
{
	vp_parser_tick(&l->parser, l->now);
	if (!l->attached)
		return;
	if (l->up && vp_link_may_talk(l))
		tick_session(l);
	if (l->now < l->hello_at)
		return;
	if (l->role == VP_GUEST) {
		l->hello_gap = clamp(l->hello_gap * 2, l->params->hello_min,
				     l->params->hello_max);
		l->hello_at = l->up ? CLOCK_NEVER : l->now + l->hello_gap;
		l->hello_due |= !l->up && !backed_up(l);
	} else {
		l->hello_at = l->heard ? CLOCK_NEVER :
					 l->now + VP_PROBE_HELLO_EVERY;
		l->hello_due |= !l->heard && !backed_up(l);
	}
}

/* How much silence is too much (R19). */
static uint64_t patience(const struct vp_link *l)
{
	return l->reconnect_after + vp_link_grace(l);
}

uint64_t vp_link_deadline(const struct vp_link *l)
{
	uint64_t silent = silent_since(l) + patience(l);
	const uint64_t session[] = { l->ack_at, l->rto_at, l->token_at,
				     l->beacon_at };
	uint64_t at = l->parser.cut_at;

	if (!l->attached)
		return CLOCK_NEVER;
	if (l->hello_at < at)
		at = l->hello_at;
	if (l->role == VP_HOST && silent > l->now && silent < at)
		at = silent;
	if (l->up && vp_link_may_talk(l))
		for (size_t i = 0; i < sizeof(session) / sizeof(*session); i++)
			if (session[i] < at)
				at = session[i];
	return at;
}

bool vp_link_wants_reconnect(const struct vp_link *l, uint64_t now)
{
	return l->role == VP_HOST && l->attached &&
	       now >= silent_since(l) + patience(l);
}
