/*
 * mux_tx.c - what goes out, and in which turn
 *
 * The link asks for one frame at a time.  In this order: resets, credit, opens,
 * goodbye; then streams in two lines.  "fresh" holds those that had nothing and now
 * have something, or send less than a frame at a time: calls and their answers.  A
 * stream that fills a whole frame goes to "bulk".  Each line is served round
 * robin; after some fresh frames in a row one bulk frame goes, so that neither
 * starves.  The link admits bulk only while little is under way: always on serial
 * lines, on virtio-serial while calls go beside it.  Many files at once send short
 * frames too, so a call is told by the stream's bytes over time, not by its frames.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "virtproxy/mux_impl.h"

#define CREDIT_ENTRY 8u /* bytes: stream, limit */

void vp_mux_unqueue(struct vp_stream *s)
{
	vp_list_del(&s->turn);
	s->turn_of = TURN_NONE;
}

static void line_up(struct vp_stream *s, enum vp_turn turn)
{
	struct vp_mux *m = s->mux;

	vp_list_del(&s->turn);
	s->turn_of = turn;
	vp_list_add_tail(turn == TURN_FRESH ? &m->fresh : &m->bulk, &s->turn);
}

/* Bytes the peer takes now. */
static uint32_t credit_of(const struct vp_stream *s)
{
	return s->tx_max - s->tx_off;
}

void vp_mux_queue(struct vp_stream *s)
{
	if (s->turn_of != TURN_NONE || s->fin_out || s->dead || s->broken)
		return;
	if (s->ready || buf_len(&s->tx))
		line_up(s, s->filled_full ? TURN_BULK : TURN_FRESH);
}

void vp_mux_queue_reset(struct vp_mux *m, uint32_t id, int reason,
			const char *text)
{
	struct vp_reset_due *r;

	if (!m->link.up)
		return;
	r = m->resets_count < VP_RESETS_FACTOR * m->link.agreed.streams ?
		    malloc(sizeof(*r)) :
		    NULL;
	if (!r) {
		/* A reset that is not told would leave the peer's end open. */
		vp_count(&m->link, VP_C_PROTOCOL);
		m->overrun = true;
		return;
	}
	r->next = NULL;
	r->id = id;
	r->reason = (uint8_t)reason;
	vp_reason_copy(r->text, text, text ? strlen(text) : 0, reason);
	*m->resets_end = r;
	m->resets_end = &r->next;
	m->resets_count++;
}

static struct vp_reset_due *take_reset(struct vp_mux *m)
{
	struct vp_reset_due *r = m->resets;

	m->resets = r->next;
	if (!m->resets)
		m->resets_end = &m->resets;
	m->resets_count--;
	return r;
}

void vp_mux_clear_resets(struct vp_mux *m)
{
	while (m->resets)
		free(take_reset(m));
}

/* The sizes below all fit: a payload has VP_PAYLOAD_MIN bytes at least. */

static size_t pull_reset(struct vp_mux *m, struct vp_pull *p)
{
	struct vp_reset_due *r = take_reset(m);
	size_t n = strlen(r->text);

	p->type = VP_T_RST;
	p->stream = r->id;
	p->buf[0] = r->reason;
	memcpy(p->buf + 1, r->text, n);
	free(r);
	return 1 + n;
}

static size_t pull_credit(struct vp_mux *m, struct vp_pull *p)
{
	size_t n = 0;

	p->type = VP_T_CREDIT;
	p->stream = 0;
	while (!vp_list_empty(&m->credit) && n + CREDIT_ENTRY <= p->max) {
		struct vp_stream *s = VP_CONTAINER(m->credit.next,
						   struct vp_stream, credit);

		vp_list_del(&s->credit);
		s->credit_due = false;
		s->rx_max = s->rx_used + s->rx_window;
		put_le32(p->buf + n, s->id);
		put_le32(p->buf + n + 4, s->rx_max);
		n += CREDIT_ENTRY;
	}
	return n;
}

static size_t pull_open(struct vp_mux *m, struct vp_pull *p)
{
	struct vp_stream *s = VP_CONTAINER(m->opens.next, struct vp_stream,
					   opens);
	size_t n = strlen(s->service);

	vp_list_del(&s->opens);
	s->open_due = false;
	p->type = VP_T_OPEN;
	p->stream = s->id;
	put_le32(p->buf, s->meta.uid);
	put_le32(p->buf + 4, s->meta.gid);
	put_le32(p->buf + 8, s->meta.pid);
	p->buf[12] = (uint8_t)n;
	memcpy(p->buf + 13, s->service, n);
	vp_mux_queue(s);
	return 13 + n;
}

static size_t pull_goaway(struct vp_mux *m, struct vp_pull *p)
{
	size_t n = strlen(m->goaway_text);

	m->goaway_due = false;
	p->type = VP_T_GOAWAY;
	p->stream = 0;
	put_le32(p->buf, m->peer_high);
	memcpy(p->buf + 4, m->goaway_text, n);
	return 4 + n;
}

static ssize_t fill(struct vp_stream *s, uint8_t *to, size_t max)
{
	struct vp_mux *m = s->mux;
	ssize_t n = m->ops.fill(m->arg, s, to, max);

	s->filled_full = n == (ssize_t)max;
	if (n > 0) {
		s->tx_bytes += (uint64_t)n;
		m->link.counters[VP_C_STREAM_BYTES_OUT] += (uint64_t)n;
	}
	return n;
}

/* Local bytes into s->tx, compressed; the result as of fill. */
static ssize_t fill_deflated(struct vp_stream *s)
{
	uint64_t *c = s->mux->link.counters;
	uint8_t chunk[VP_DEFLATE_CHUNK];
	ssize_t n = fill(s, chunk, sizeof(chunk));

	if (n <= 0)
		return n;
	if (!s->deflate)
		s->deflate = vp_deflate_new();
	if (!s->deflate || vp_deflate_run(s->deflate, chunk, (size_t)n, &s->tx))
		return VP_FILL_RESET;
	c[VP_C_DEFLATE_IN] += (uint64_t)n;
	c[VP_C_DEFLATE_OUT] += buf_len(&s->tx);
	if (!vp_deflate_worth(s->deflate)) {
		s->deflate_off = true;
		vp_deflate_free(s->deflate);
		s->deflate = NULL;
	}
	return n;
}

/* Payload of the next DATA frame: its length, or VP_FILL_*. */
static ssize_t stream_bytes(struct vp_stream *s, struct vp_pull *p, size_t max)
{
	ssize_t n;

	if (!buf_len(&s->tx)) {
		if (s->deflate_off)
			return fill(s, p->buf, max);
		n = fill_deflated(s);
		if (n <= 0)
			return n;
	}
	p->flags |= VP_F_DEFLATE;
	n = (ssize_t)(buf_len(&s->tx) < max ? buf_len(&s->tx) : max);
	buf_get(&s->tx, p->buf, (size_t)n);
	return n;
}

/* n bytes go out: is this a call's answer, and bulk of other streams beside it? */
static void note_pace(struct vp_stream *s, size_t n)
{
	struct vp_mux *m = s->mux;
	uint64_t now = m->link.now, age = now - s->pace_at;

	if (age >= VP_PACE_SPAN) {
		s->pace_before = age < 2 * VP_PACE_SPAN ? s->pace : 0;
		s->pace = 0;
		s->pace_at = now;
	}
	s->pace = (uint32_t)n < UINT32_MAX - s->pace ? s->pace + (uint32_t)n :
							UINT32_MAX;
	if ((uint64_t)s->pace + s->pace_before > VP_PACE_BYTES)
		m->bulk_until = now + VP_PACE_SPAN;
	else if (now < m->bulk_until)
		vp_link_call_seen(&m->link);
}

/* -1: it has nothing, and left the line. */
static ssize_t pull_stream(struct vp_stream *s, struct vp_pull *p)
{
	size_t max = p->max < credit_of(s) ? p->max : credit_of(s);
	ssize_t n = VP_FILL_AGAIN;

	p->type = VP_T_DATA;
	p->flags = 0;
	p->stream = s->id;
	if (max)
		n = stream_bytes(s, p, max);
	if (n > 0) {
		s->tx_off += (uint32_t)n;
		note_pace(s, (size_t)n);
		line_up(s, s->filled_full || buf_len(&s->tx) ? TURN_BULK :
							       TURN_FRESH);
		return n;
	}
	vp_mux_unqueue(s);
	if (!max)
		return -1; /* until CREDIT comes */
	s->ready = false;
	if (n == VP_FILL_EOF) {
		s->fin_out = true;
		p->flags = VP_F_FIN;
		return 0;
	}
	if (n == VP_FILL_RESET) {
		s->broken = true;
		vp_list_add_tail(&s->mux->broken, &s->turn);
	}
	return -1;
}

/* R32: not even credit or a reset, or what is idle now would not stay so. */
static bool held_still(const struct vp_mux *m)
{
	return m->link.quiesce || m->link.peer_quiesce;
}

static struct vp_link_node *next_line(struct vp_mux *m, bool bulk_ok)
{
	bool bulk = bulk_ok && !vp_list_empty(&m->bulk);

	if (!vp_list_empty(&m->fresh) &&
	    !(bulk && m->fresh_run >= VP_FRESH_RUN)) {
		m->fresh_run++;
		return m->fresh.next;
	}
	m->fresh_run = 0;
	return bulk ? m->bulk.next : NULL;
}

ssize_t vp_mux_pull(void *arg, struct vp_pull *p)
{
	struct vp_mux *m = arg;
	struct vp_link_node *node;

	p->flags = 0;
	if (held_still(m))
		return -1;
	if (m->resets)
		return (ssize_t)pull_reset(m, p);
	if (!vp_list_empty(&m->credit))
		return (ssize_t)pull_credit(m, p);
	if (m->goaway_due)
		return (ssize_t)pull_goaway(m, p);
	if (!vp_list_empty(&m->opens))
		return (ssize_t)pull_open(m, p);
	while ((node = next_line(m, p->bulk_ok))) {
		ssize_t n = pull_stream(VP_CONTAINER(node, struct vp_stream,
						     turn), p);

		if (n >= 0)
			return n;
	}
	return -1;
}

bool vp_mux_ready(void *arg, bool bulk_ok)
{
	const struct vp_mux *m = arg;

	return !held_still(m) &&
	       (m->resets || !vp_list_empty(&m->credit) || m->goaway_due ||
		!vp_list_empty(&m->opens) || !vp_list_empty(&m->fresh) ||
		(bulk_ok && !vp_list_empty(&m->bulk)));
}

void vp_mux_acked(void *arg, const struct vp_tx *tx)
{
	struct vp_stream *s;

	if (tx->type != VP_T_DATA || !(tx->flags & VP_F_FIN))
		return;
	s = vp_stream_find(arg, tx->stream);
	if (!s)
		return;
	s->fin_acked = true;
	vp_stream_maybe_done(s);
}
