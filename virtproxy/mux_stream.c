/*
 * mux_stream.c - a stream's life and its public calls
 *
 * The two directions are two independent half-states:
 *
 *	sending    open -> fin_out (end of file is in the ring) -> fin_acked
 *	receiving  open -> fin_in (the peer's end was received) -> eof_told
 *
 * At fin_acked and eof_told the stream is over with reason 0.  A reset ends
 * both at once, from any state; frames that still arrive for its number are
 * ignored, as numbers are not used twice.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtproxy/mux_impl.h"

static const char *const reset_texts[] = {
	[0] = "closed",
	[VP_RESET_BY_PEER] = "reset by the far socket",
	[VP_RESET_NO_SERVICE] = "no such service",
	[VP_RESET_REFUSED] = "refused",
	[VP_RESET_PEER_RESTARTED] = "peer restarted, outcome unknown",
	[VP_RESET_ROLLED_BACK] = "peer went back in time, outcome unknown",
	[VP_RESET_PROTOCOL] = "protocol error",
	[VP_RESET_SHUTDOWN] = "shutdown",
};

const char *vp_reset_text(enum vp_reset reason)
{
	size_t i = (size_t)reason;

	if (i >= sizeof(reset_texts) / sizeof(reset_texts[0]))
		return "unknown reason";
	return reset_texts[i];
}

void vp_reason_copy(char *to, const char *text, size_t len, int reason)
{
	size_t i = 0;

	if (!text || !len) {
		text = vp_reset_text((enum vp_reset)reason);
		len = strlen(text);
	}
	for (; i < len && i < VP_REASON_MAX && text[i]; i++)
		to[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	to[i] = '\0';
}

static bool service_ok(const char *name)
{
	size_t n = name ? strlen(name) : 0;

	return n && n <= VP_SERVICE_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

struct vp_stream *vp_stream_find(struct vp_mux *m, uint32_t id)
{
	struct vp_stream *s = m->hash[id % VP_HASH_SIZE];

	while (s && s->id != id)
		s = s->hash_next;
	return s;
}

struct vp_stream *vp_stream_new(struct vp_mux *m, uint32_t id, bool local)
{
	const struct vp_params *p = m->link.params;
	struct vp_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->mux = m;
	s->id = id;
	s->local = local;
	s->tx_max = m->link.agreed.credit;
	s->rx_window = s->rx_max = p->credit;
	buf_init(&s->rx, p->credit_max);
	buf_init(&s->tx, VP_DEFLATE_OUT_MAX);
	s->deflate_off = !(m->link.agreed.features & VP_FEATURE_DEFLATE);
	vp_list_init(&s->turn);
	vp_list_init(&s->credit);
	vp_list_init(&s->opens);
	vp_list_add_tail(&m->all, &s->all);
	s->hash_next = m->hash[id % VP_HASH_SIZE];
	m->hash[id % VP_HASH_SIZE] = s;
	m->streams++;
	return s;
}

static void stream_free(struct vp_stream *s)
{
	vp_deflate_free(s->deflate);
	vp_inflate_free(s->inflate);
	buf_done(&s->rx);
	buf_done(&s->tx);
	free(s);
}

static void stream_unlink(struct vp_stream *s)
{
	struct vp_mux *m = s->mux;
	struct vp_stream **at = &m->hash[s->id % VP_HASH_SIZE];

	while (*at != s)
		at = &(*at)->hash_next;
	*at = s->hash_next;
	vp_list_del(&s->all);
	vp_list_del(&s->turn);
	vp_list_del(&s->credit);
	vp_list_del(&s->opens);
	m->pool += s->rx_window - m->link.params->credit;
	m->held -= buf_len(&s->rx);
	m->streams--;
}

void vp_stream_finish(struct vp_stream *s, int reason, const char *text,
		      bool notify)
{
	struct vp_mux *m = s->mux;
	char copy[VP_REASON_MAX + 1];

	if (s->dead)
		return;
	s->dead = true;
	stream_unlink(s);
	vp_count(&m->link, reason ? VP_C_STREAMS_RESET : VP_C_STREAMS_DONE);
	if (notify) {
		vp_reason_copy(copy, text, text ? strlen(text) : 0, reason);
		s->busy++;
		m->ops.closed(m->arg, s, reason, copy);
		s->busy--;
	}
	if (!s->busy)
		stream_free(s);
}

void vp_stream_enter(struct vp_stream *s)
{
	s->busy++;
}

bool vp_stream_leave(struct vp_stream *s)
{
	s->busy--;
	if (!s->dead)
		return true;
	if (!s->busy)
		stream_free(s);
	return false;
}

void vp_stream_maybe_done(struct vp_stream *s)
{
	if (s->fin_acked && s->eof_told)
		vp_stream_finish(s, 0, NULL, true);
}

static void tell_reset(struct vp_stream *s, enum vp_reset reason,
		       const char *text)
{
	/* What the peer never heard of needs no end. */
	if (!s->open_due)
		vp_mux_queue_reset(s->mux, s->id, (int)reason, text);
}

void vp_stream_abort(struct vp_stream *s, enum vp_reset reason, const char *text)
{
	if (s->dead)
		return;
	tell_reset(s, reason, text);
	vp_stream_finish(s, (int)reason, text, true);
}

struct vp_stream *vp_stream_open(struct vp_mux *m, const char *service,
				 const struct vp_meta *meta, void *user)
{
	struct vp_stream *s;

	if (!service_ok(service)) {
		errno = EINVAL;
		return NULL;
	}
	if (!m->link.up || m->peer_goaway || m->goaway) {
		errno = ENOTCONN;
		return NULL;
	}
	if (m->streams >= m->link.agreed.streams || m->next_id >= UINT32_MAX - 1) {
		errno = EMFILE;
		return NULL;
	}
	s = vp_stream_new(m, m->next_id, true);
	if (!s) {
		errno = ENOMEM;
		return NULL;
	}
	m->next_id += 2;
	s->user = user;
	s->meta = meta ? *meta :
			 (struct vp_meta){ UINT32_MAX, UINT32_MAX, UINT32_MAX, 0 };
	s->meta.stream = s->id;
	strcpy(s->service, service);
	s->open_due = true;
	vp_list_add_tail(&m->opens, &s->opens);
	vp_count(&m->link, VP_C_STREAMS_OPENED);
	return s;
}

void vp_stream_ready(struct vp_stream *s)
{
	if (s->dead)
		return;
	s->ready = true;
	vp_mux_queue(s);
}

void vp_stream_drain(struct vp_stream *s)
{
	if (!s->dead)
		vp_mux_drain(s);
}

void vp_stream_reset(struct vp_stream *s, enum vp_reset reason,
		     const char *text)
{
	if (s->dead)
		return;
	tell_reset(s, reason, text);
	vp_stream_finish(s, (int)reason, text, false);
}

void *vp_stream_user(const struct vp_stream *s)
{
	return s->user;
}

void vp_stream_set_user(struct vp_stream *s, void *user)
{
	s->user = user;
}

uint32_t vp_stream_id(const struct vp_stream *s)
{
	return s->id;
}

uint64_t vp_stream_rx_bytes(const struct vp_stream *s)
{
	return s->rx_bytes;
}

uint64_t vp_stream_tx_bytes(const struct vp_stream *s)
{
	return s->tx_bytes;
}
