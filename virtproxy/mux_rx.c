/*
 * mux_rx.c - what comes in
 *
 * Bytes go straight to the local side; what it does not take is kept, up to the
 * credit the peer was given, so that a stream nobody reads costs its own credit and
 * nothing else.  Credit is returned for bytes that were taken, when half of it
 * is used up; it doubles while the peer uses it up as fast as the local side
 * takes bytes, as long as the pool of all streams has some left.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "virtproxy/mux_impl.h"

static void grow_window(struct vp_stream *s)
{
	struct vp_mux *m = s->mux;
	uint32_t most = m->link.params->credit_max, by = s->rx_window;

	if (by > most - s->rx_window)
		by = most - s->rx_window;
	if (by > m->pool)
		by = m->pool;
	m->pool -= by;
	s->rx_window += by;
}

/* Credit goes back when less than this is left; earlier where an ack goes out
 * anyway, so that one frame does for both. */
static uint32_t credit_mark(const struct vp_stream *s)
{
	return s->mux->link.ack_due ? s->rx_window / 4 * 3 : s->rx_window / 2;
}

/* The local side took n bytes (as counted on the wire). */
static void consumed(struct vp_stream *s, size_t n)
{
	uint32_t left;

	s->rx_used += (uint32_t)n;
	/* What the peer may still send, and what is kept here. */
	left = s->rx_max - s->rx_used;
	if (!n || s->fin_in || s->credit_due)
		return;
	if (left > credit_mark(s) && s->rx_max != s->rx_off)
		return;
	if (s->rx_used == s->rx_off)
		grow_window(s);
	s->credit_due = true;
	vp_list_add_tail(&s->mux->credit, &s->credit);
}

/* False: the stream is gone.  *taken says what the local side took. */
static bool deliver(struct vp_stream *s, const uint8_t *data, size_t len,
		    size_t *taken)
{
	struct vp_mux *m = s->mux;

	vp_stream_enter(s);
	*taken = m->ops.deliver(m->arg, s, data, len);
	if (*taken > len)
		*taken = len;
	s->rx_bytes += *taken;
	m->link.counters[VP_C_STREAM_BYTES_IN] += *taken;
	return vp_stream_leave(s);
}

static void drop_kept(struct vp_stream *s, size_t n)
{
	buf_consume(&s->rx, n);
	s->mux->held -= n;
	consumed(s, n);
}

enum step { STEP_ON, STEP_BLOCKED, STEP_EMPTY, STEP_GONE };

/* Inflated bytes first, then inflates some more. */
static enum step drain_deflated(struct vp_stream *s)
{
	size_t taken, used;
	ssize_t n;

	if (s->made_len) {
		if (!deliver(s, s->made, s->made_len, &taken))
			return STEP_GONE;
		s->made += taken;
		s->made_len -= taken;
		return s->made_len ? STEP_BLOCKED : STEP_ON;
	}
	n = vp_inflate_run(s->inflate, buf_data(&s->rx), s->rx_deflated, &used,
			   &s->made);
	if (n < 0 || (!n && used < s->rx_deflated)) {
		vp_count(&s->mux->link, VP_C_PROTOCOL);
		vp_stream_abort(s, VP_RESET_PROTOCOL, "bad deflate stream");
		return STEP_GONE;
	}
	s->made_len = (size_t)n;
	s->rx_deflated -= used;
	drop_kept(s, used);
	return n ? STEP_ON : STEP_EMPTY;
}

static enum step drain_plain(struct vp_stream *s)
{
	size_t len = buf_len(&s->rx), taken;

	if (!len)
		return STEP_EMPTY;
	if (!deliver(s, buf_data(&s->rx), len, &taken))
		return STEP_GONE;
	drop_kept(s, taken);
	return taken < len ? STEP_BLOCKED : STEP_ON;
}

bool vp_mux_drain(struct vp_stream *s)
{
	struct vp_mux *m = s->mux;
	enum step step = STEP_ON;

	/* A drain from within deliver would hand out the same bytes again. */
	if (s->busy)
		return true;
	while (step == STEP_ON) {
		step = s->inflate ? drain_deflated(s) : STEP_EMPTY;
		if (step == STEP_EMPTY)
			step = drain_plain(s);
	}
	if (step == STEP_GONE)
		return false;
	if (step == STEP_BLOCKED || !s->fin_in || s->eof_told)
		return true;
	s->eof_told = true;
	vp_stream_enter(s);
	m->ops.eof(m->arg, s);
	if (!vp_stream_leave(s))
		return false;
	if (s->fin_acked) {
		vp_stream_maybe_done(s);
		return false;
	}
	return true;
}

static bool deflate_taken_up(struct vp_stream *s)
{
	if (s->rx_plain ||
	    !(s->mux->link.agreed.features & VP_FEATURE_DEFLATE))
		return false;
	if (!s->inflate)
		s->inflate = vp_inflate_new();
	return s->inflate;
}

static void bad_stream(struct vp_stream *s, const char *what)
{
	vp_count(&s->mux->link, VP_C_PROTOCOL);
	vp_stream_abort(s, VP_RESET_PROTOCOL, what);
}

static void take_bytes(struct vp_stream *s, const struct vp_frame *f)
{
	bool deflated = f->flags & VP_F_DEFLATE;
	const uint8_t *data = f->body;
	size_t len = f->len, taken = 0;

	if (deflated && !deflate_taken_up(s)) {
		bad_stream(s, "deflate was not agreed on");
		return;
	}
	s->rx_off += (uint32_t)len;
	s->fin_in = f->flags & VP_F_FIN;
	s->rx_plain |= !deflated && len;
	/* The short way: nothing kept, nothing to inflate. */
	if (!deflated && len && !buf_len(&s->rx) && !s->made_len && !s->busy) {
		if (!deliver(s, data, len, &taken))
			return;
		consumed(s, taken);
	}
	if (taken < len) {
		if (buf_put(&s->rx, data + taken, len - taken)) {
			vp_stream_abort(s, VP_RESET_REFUSED, "out of memory");
			return;
		}
		s->mux->held += len - taken;
		s->rx_deflated += deflated ? len : 0;
	}
	if (deflated || s->fin_in)
		vp_mux_drain(s);
}

/* A frame for a number that is not open here. */
static void no_stream(struct vp_mux *m, uint32_t id)
{
	bool mine = (id & 1) == (m->link.role == VP_GUEST);
	bool was = mine ? id < m->next_id : id <= m->peer_high;

	if (was) {
		vp_count(&m->link, VP_C_STREAM_LATE);
		return;
	}
	vp_count(&m->link, VP_C_PROTOCOL);
	vp_mux_queue_reset(m, id, VP_RESET_PROTOCOL, "never opened");
}

static void take_data(struct vp_mux *m, const struct vp_frame *f)
{
	struct vp_stream *s = vp_stream_find(m, f->stream);

	if (!s)
		no_stream(m, f->stream);
	else if (s->fin_in)
		bad_stream(s, "bytes after end of file");
	else if (f->len > s->rx_max - s->rx_off)
		bad_stream(s, "more bytes than credit");
	else
		take_bytes(s, f);
}

static void refuse(struct vp_mux *m, uint32_t id, int reason, const char *why)
{
	vp_count(&m->link, VP_C_STREAMS_REFUSED);
	vp_mux_queue_reset(m, id, reason, why);
}

static void take_open(struct vp_mux *m, const struct vp_frame *f)
{
	char service[VP_SERVICE_MAX + 1], why[VP_REASON_MAX + 1] = "";
	struct vp_meta meta;
	struct vp_stream *s;
	size_t n = f->len > 12 ? f->body[12] : 0;
	int r;

	if (!n || n > VP_SERVICE_MAX || f->len < 13 + n ||
	    (f->stream & 1) == (m->link.role == VP_GUEST) ||
	    f->stream <= m->peer_high || memchr(f->body + 13, 0, n)) {
		vp_count(&m->link, VP_C_PROTOCOL);
		return;
	}
	m->peer_high = f->stream;
	memcpy(service, f->body + 13, n);
	service[n] = '\0';
	meta = (struct vp_meta){ get_le32(f->body), get_le32(f->body + 4),
				 get_le32(f->body + 8), f->stream };
	if (m->goaway) {
		refuse(m, f->stream, VP_RESET_SHUTDOWN, m->goaway_text);
		return;
	}
	if (m->streams >= m->link.agreed.streams) {
		snprintf(why, sizeof(why), "%u streams are open, the limit",
			 m->streams);
		refuse(m, f->stream, VP_RESET_REFUSED, why);
		return;
	}
	s = vp_stream_new(m, f->stream, false);
	if (!s) {
		refuse(m, f->stream, VP_RESET_REFUSED, "out of memory");
		return;
	}
	strcpy(s->service, service);
	s->meta = meta;
	vp_stream_enter(s);
	r = m->ops.opened(m->arg, s, service, &meta, why);
	if (!vp_stream_leave(s))
		return;
	if (r) {
		why[VP_REASON_MAX] = '\0';
		refuse(m, s->id, r, why);
		vp_stream_finish(s, r, why, false);
		return;
	}
	vp_count(&m->link, VP_C_STREAMS_ACCEPTED);
}

static void take_rst(struct vp_mux *m, const struct vp_frame *f)
{
	struct vp_stream *s = vp_stream_find(m, f->stream);
	int reason = f->len ? f->body[0] : VP_RESET_BY_PEER;
	char text[VP_REASON_MAX + 1];

	if (!s) {
		vp_count(&m->link, VP_C_STREAM_LATE);
		return;
	}
	if (reason < VP_RESET_BY_PEER || reason > VP_RESET_SHUTDOWN)
		reason = VP_RESET_BY_PEER;
	vp_reason_copy(text, f->len > 1 ? (const char *)f->body + 1 : NULL,
		       f->len > 1 ? f->len - 1 : 0, reason);
	vp_stream_finish(s, reason, text, true);
}

static void take_credit(struct vp_mux *m, const struct vp_frame *f)
{
	for (size_t at = 0; at + 8 <= f->len; at += 8) {
		struct vp_stream *s = vp_stream_find(m, get_le32(f->body + at));
		uint32_t limit = get_le32(f->body + at + 4);

		/* Credit is never taken back. */
		if (!s || !vp_seq_before(s->tx_max, limit))
			continue;
		s->tx_max = limit;
		vp_mux_queue(s);
	}
}

static void take_goaway(struct vp_mux *m, const struct vp_frame *f)
{
	uint32_t last = f->len >= 4 ? get_le32(f->body) : 0;
	uint32_t generation = m->link.generation;
	char text[VP_REASON_MAX + 1];
	struct vp_stream *s = NULL;

	m->peer_goaway = true;
	vp_reason_copy(text, f->len > 4 ? (const char *)f->body + 4 : NULL,
		       f->len > 4 ? f->len - 4 : 0, VP_RESET_SHUTDOWN);
	/* One at a time from the start: a callback may end others. */
	do {
		struct vp_link_node *n;

		s = NULL;
		for (n = m->all.next; n != &m->all && !s; n = n->next) {
			s = VP_CONTAINER(n, struct vp_stream, all);
			if (!s->local || s->id <= last)
				s = NULL;
		}
		if (s)
			vp_stream_finish(s, VP_RESET_REFUSED, text, true);
	} while (s && m->link.generation == generation);
}

void vp_mux_frame(void *arg, const struct vp_frame *f)
{
	static void (*const take[])(struct vp_mux *, const struct vp_frame *) = {
		[VP_T_OPEN - VP_T_SEQUENCED] = take_open,
		[VP_T_DATA - VP_T_SEQUENCED] = take_data,
		[VP_T_RST - VP_T_SEQUENCED] = take_rst,
		[VP_T_CREDIT - VP_T_SEQUENCED] = take_credit,
		[VP_T_GOAWAY - VP_T_SEQUENCED] = take_goaway,
	};
	struct vp_mux *m = arg;
	size_t i = (size_t)(f->type - VP_T_SEQUENCED);

	if (i < sizeof(take) / sizeof(take[0]))
		take[i](m, f);
	else
		vp_count(&m->link, VP_C_SKIPPED);
}
