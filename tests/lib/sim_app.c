/*
 * sim_app.c - the applications of a simulated world, and the checker
 *
 * Each stream has a record, found by its service name "s.NUMBER".  The bytes
 * of a direction are a function of record, direction, offset and the salt of the
 * timeline they were made in.  A side that is set back goes on with a new salt,
 * so bytes of two timelines differ; what is received must match one timeline from
 * its beginning to its end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/sim_impl.h"

struct sim *sim_world;

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static uint8_t content(const struct sim *w, int rec, int side, uint32_t salt,
		       uint32_t off)
{
	uint64_t h = mix(((uint64_t)rec << 33 | (uint64_t)side << 32 | salt) *
				 UINT64_C(0x9e3779b97f4a7c15) +
			 off / 8);
	uint8_t b = (uint8_t)(h >> off % 8 * 8);

	return w->recs[rec].text ? (uint8_t)("<value> s"[b % 9]) : b;
}

static uint32_t salt_at(const struct sim_version *v, uint32_t off)
{
	uint32_t salt = 0;

	for (unsigned i = 0; i < v->n && v->seg[i].offset <= off; i++)
		salt = v->seg[i].salt;
	return salt;
}

static void note_sent(struct sim *w, struct sim_end *e, uint32_t off)
{
	struct sim_rec *r = &w->recs[e->rec];
	struct sim_version *v = &r->sent[e->side][r->versions[e->side] - 1];
	uint32_t salt = w->side[e->side].salt;

	if (v->n && v->seg[v->n - 1].salt == salt)
		return;
	if (v->n == SIM_SEGMENTS)
		sim_fail(w, "the simulator's segments ran out");
	v->seg[v->n++] = (struct sim_segment){ off, salt };
}

static void check_received(struct sim *w, struct sim_end *e,
			   const uint8_t *data, size_t n)
{
	struct sim_rec *r = &w->recs[e->rec];
	int from = !e->side;

	if (e->rx_off + n > r->len[from])
		sim_fail(w, "stream %d: more bytes than were sent", e->rec);
	for (unsigned i = 0; i < r->versions[from]; i++) {
		const struct sim_version *v = &r->sent[from][i];
		size_t k = 0;

		if (!(r->possible[e->side] & 1u << i))
			continue;
		while (k < n && data[k] == content(w, e->rec, from,
						   salt_at(v, e->rx_off + (uint32_t)k),
						   e->rx_off + (uint32_t)k))
			k++;
		if (k < n)
			r->possible[e->side] &= ~(1u << i);
	}
	if (!(r->possible[e->side] & ((1u << r->versions[from]) - 1)))
		sim_fail(w, "stream %d: side %d received wrong bytes at %u",
			 e->rec, e->side, e->rx_off);
}

static struct sim_end *end_new(struct sim *w, int side, int rec,
			       struct vp_stream *s)
{
	struct sim_end *e = malloc(sizeof(*e));

	*e = (struct sim_end){ .rec = rec, .side = side, .s = s,
			       .next = w->side[side].root->ends };
	w->side[side].root->ends = e;
	w->recs[rec].state[side] = SIM_OPEN;
	return e;
}

static void end_drop(struct sim *w, struct sim_end *e)
{
	struct sim_end **at = &w->side[e->side].root->ends;

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	free(e);
}

static int side_of(void *arg)
{
	return arg == &sim_world->side[SIM_GUEST] ? SIM_GUEST : SIM_HOST;
}

static int app_opened(void *arg, struct vp_stream *s, const char *service,
		      const struct vp_meta *meta, char *why)
{
	struct sim *w = sim_world;
	int side = side_of(arg), rec = atoi(service + 2);

	if (strcmp(service, "none") == 0) {
		snprintf(why, VP_REASON_MAX + 1, "nobody serves none");
		return VP_RESET_NO_SERVICE;
	}
	if (strncmp(service, "s.", 2) != 0 || rec >= w->n_recs)
		sim_fail(w, "side %d: unknown service %s", side, service);
	/* A side that was set back may accept what it had accepted before. */
	if (w->recs[rec].state[side] != SIM_NONE && !w->travelled)
		sim_fail(w, "stream %d was opened twice", rec);
	if (meta->uid != (uint32_t)rec || meta->stream != vp_stream_id(s))
		sim_fail(w, "stream %d: its meta is wrong", rec);
	w->recs[rec].possible[side] = UINT32_MAX;
	vp_stream_set_user(s, end_new(w, side, rec, s));
	vp_stream_ready(s);
	return 0;
}

static bool hesitates(const struct sim *w)
{
	return !w->calm && !w->cfg.steady;
}

static ssize_t app_fill(void *arg, struct vp_stream *s, uint8_t *buf, size_t max)
{
	struct sim *w = sim_world;
	struct sim_end *e = vp_stream_user(s);
	struct sim_rec *r = &w->recs[e->rec];
	uint32_t left = r->len[e->side] - e->tx_off;
	size_t n = max < left ? max : left;

	if (!left) {
		e->eof_sent = true;
		return VP_FILL_EOF;
	}
	if (hesitates(w) && sim_random(w, 8) == 0) {
		e->tx_waits = true;
		return VP_FILL_AGAIN;
	}
	if (hesitates(w) && sim_random(w, 3) == 0)
		n = 1 + sim_random(w, n);
	note_sent(w, e, e->tx_off);
	for (size_t i = 0; i < n; i++)
		buf[i] = content(w, e->rec, e->side, w->side[e->side].salt,
				 e->tx_off + (uint32_t)i);
	e->tx_off += (uint32_t)n;
	return (ssize_t)n;
}

static size_t app_deliver(void *arg, struct vp_stream *s, const uint8_t *data,
			  size_t len)
{
	struct sim *w = sim_world;
	struct sim_end *e = vp_stream_user(s);
	struct sim_rec *r = &w->recs[e->rec];
	size_t n = len;

	if (r->not_reading[e->side] || (hesitates(w) && sim_random(w, 16) == 0))
		n = 0;
	else if (hesitates(w) && sim_random(w, 4) == 0)
		n = sim_random(w, len + 1);
	if (n < len)
		e->rx_waits = true;
	check_received(w, e, data, n);
	e->rx_off += (uint32_t)n;
	r->received[e->side] = e->rx_off;
	return n;
}

static void app_eof(void *arg, struct vp_stream *s)
{
	struct sim *w = sim_world;
	struct sim_end *e = vp_stream_user(s);

	if (e->eof_seen || e->rx_off != w->recs[e->rec].len[!e->side])
		sim_fail(w, "stream %d: end of file at %u of %u", e->rec,
			 e->rx_off, w->recs[e->rec].len[!e->side]);
	e->eof_seen = true;
}

static void ended(struct sim *w, struct sim_end *e, enum sim_state state,
		  int reason)
{
	struct sim_rec *r = &w->recs[e->rec];

	r->state[e->side] = state;
	r->reason[e->side] = reason;
	r->ended_at[e->side] = w->now;
	end_drop(w, e);
}

static void app_closed(void *arg, struct vp_stream *s, int reason,
		       const char *text)
{
	struct sim *w = sim_world;
	struct sim_end *e = vp_stream_user(s);

	if (!e)
		return;
	if (!text || !text[0])
		sim_fail(w, "stream %d: closed without a reason", e->rec);
	if (reason == 0 && !(e->eof_sent && e->eof_seen))
		sim_fail(w, "stream %d: side %d closed before its ends", e->rec,
			 e->side);
	ended(w, e, reason ? SIM_RESET : SIM_DONE, reason);
}

static void app_session(void *arg, bool up, const char *why)
{
	struct sim *w = sim_world;

	if (!up)
		snprintf(w->side[side_of(arg)].why, sizeof(w->side[0].why), "%s",
			 why);
	if (w->side[side_of(arg)].root && w->side[side_of(arg)].root->ends)
		sim_fail(w, "session %s with streams left open",
			 up ? "up" : "down");
}

static void app_random(void *arg, void *buf, size_t n)
{
	uint8_t *p = buf;

	while (n--)
		*p++ = (uint8_t)sim_random(sim_world, 256);
}

const struct vp_mux_ops sim_app_ops = {
	.opened = app_opened,
	.fill = app_fill,
	.deliver = app_deliver,
	.eof = app_eof,
	.closed = app_closed,
	.session = app_session,
	.random = app_random,
};

int sim_open(struct sim *w, int side, uint32_t bytes, uint32_t bytes_back)
{
	struct vp_meta meta = { .uid = (uint32_t)w->n_recs, .gid = 2, .pid = 3 };
	struct sim_rec *r = &w->recs[w->n_recs];
	struct vp_stream *s;
	char name[32];

	if (w->n_recs == SIM_RECS)
		return -1;
	memset(r, 0, sizeof(*r));
	r->opener = side;
	r->len[side] = bytes;
	r->len[!side] = bytes_back;
	r->text = w->n_recs % 2;
	r->versions[0] = r->versions[1] = 1;
	r->possible[0] = r->possible[1] = UINT32_MAX;
	snprintf(name, sizeof(name), "s.%d", w->n_recs);
	sim_enter(w, side);
	s = vp_stream_open(w->side[side].root->mux, name, &meta, NULL);
	if (s) {
		vp_stream_set_user(s, end_new(w, side, w->n_recs, s));
		vp_stream_ready(s);
	}
	sim_exit(w);
	return s ? w->n_recs++ : -1;
}

void sim_app_poke(struct sim *w, int side)
{
	struct sim_end *e, *next;
	unsigned n = 0, count = 0;

	sim_enter(w, side);
	for (e = w->side[side].root->ends; e; e = e->next)
		count++;
	/* Draining may end a stream: look the rest up again each time. */
	while (n++ <= count) {
		for (e = w->side[side].root->ends; e; e = next) {
			next = e->next;
			if (e->tx_waits) {
				e->tx_waits = false;
				vp_stream_ready(e->s);
			}
			if (e->rx_waits && !w->recs[e->rec].not_reading[side]) {
				e->rx_waits = false;
				vp_stream_drain(e->s);
				break;
			}
		}
		if (!e)
			break;
	}
	sim_exit(w);
}

void sim_app_reset_one(struct sim *w, int side)
{
	struct sim_end *e = w->side[side].root->ends;

	for (uint64_t n = sim_random(w, 8); n && e; n--)
		e = e->next;
	if (!e)
		return;
	sim_enter(w, side);
	vp_stream_reset(e->s, VP_RESET_BY_PEER, "the application said so");
	ended(w, e, SIM_RESET, VP_RESET_BY_PEER);
	sim_exit(w);
}

/* The process is gone: so are its sockets. */
void sim_app_killed(struct sim *w, int side)
{
	for (int i = 0; i < w->n_recs; i++)
		if (w->recs[i].state[side] == SIM_OPEN) {
			w->recs[i].state[side] = SIM_RESET;
			w->recs[i].reason[side] = VP_RESET_PEER_RESTARTED;
		}
}

/* The guest was set back: its streams are those of then, its bytes new. */
void sim_app_restored(struct sim *w)
{
	const int g = SIM_GUEST;

	sim_app_killed(w, g);
	w->side[g].salt = ++w->salts;
	for (struct sim_end *e = w->side[g].root->ends; e; e = e->next) {
		struct sim_rec *r = &w->recs[e->rec];
		struct sim_version *v, *was = &r->sent[g][r->versions[g] - 1];

		r->state[g] = SIM_OPEN;
		r->received[g] = e->rx_off;
		if (r->versions[g] == SIM_VERSIONS)
			sim_fail(w, "the simulator's versions ran out");
		v = &r->sent[g][r->versions[g]++];
		v->n = 0;
		while (v->n < was->n && was->seg[v->n].offset < e->tx_off) {
			v->seg[v->n] = was->seg[v->n];
			v->n++;
		}
		/* The new version shares the old one's bytes up to tx_off, so
		 * whoever has received no more than those may go on with it. */
		if (r->received[SIM_HOST] > e->tx_off)
			r->possible[SIM_HOST] &= ~(1u << (r->versions[g] - 1));
		else if (!(r->possible[SIM_HOST] & 1u << (r->versions[g] - 2)))
			r->possible[SIM_HOST] &= ~(1u << (r->versions[g] - 1));
	}
}

bool sim_app_all_ended(const struct sim *w)
{
	return !w->side[0].root->ends && !w->side[1].root->ends;
}

void sim_check_all(struct sim *w)
{
	for (int i = 0; i < w->n_recs; i++) {
		const struct sim_rec *r = &w->recs[i];

		for (int side = 0; side < 2; side++) {
			if (r->state[side] == SIM_OPEN)
				sim_fail(w, "stream %d: side %d never ended", i,
					 side);
			if (r->state[side] == SIM_DONE &&
			    r->state[!side] == SIM_NONE)
				sim_fail(w, "stream %d: done, unheard of", i);
		}
		if (w->travelled || (w->cfg.faults & SIM_APP_RESET))
			continue;
		if (r->state[0] != SIM_DONE || r->state[1] != SIM_DONE)
			sim_fail(w, "stream %d: states %d %d, reasons %d %d", i,
				 (int)r->state[0], (int)r->state[1],
				 r->reason[0], r->reason[1]);
	}
}
