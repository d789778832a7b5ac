/*
 * mux.c - the mux's life, its sessions, and the calls of mux.h that pass through
 *
 * The mux is the client of one link (link.h), which it embeds.  A session of the
 * link is a set of streams here: when one ends, all of them are reset before
 * anything else happens, and the next one starts with none.
 *
 * What a callback must not do while the link is at work (end a stream whose local
 * side failed in fill, drop a session the peer has overrun) is noted and done at
 * the end of the call: settle().
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/mux.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "virtproxy/mux_impl.h"

static void link_up(void *arg)
{
	struct vp_mux *m = arg;

	m->next_id = m->link.role == VP_GUEST ? 1 : 2;
	m->peer_high = 0;
	m->pool = m->link.params->credit_pool;
	m->fresh_run = 0;
	m->peer_goaway = m->overrun = false;
	m->goaway_due = m->goaway;
	m->ops.session(m->arg, true, "");
}

static void link_random(void *arg, void *buf, size_t n)
{
	struct vp_mux *m = arg;

	m->ops.random(m->arg, buf, n);
}

static void close_all(struct vp_mux *m, enum vp_reset reason)
{
	while (!vp_list_empty(&m->all))
		vp_stream_finish(VP_CONTAINER(m->all.next, struct vp_stream,
					      all),
				 (int)reason, NULL, true);
	vp_mux_clear_resets(m);
}

static void link_down(void *arg, enum vp_reset reason)
{
	struct vp_mux *m = arg;
	char why[VP_REASON_MAX + 1];

	vp_reason_copy(why, (const char *)m->link.heard_farewell,
		       m->link.heard_farewell_len, (int)reason);
	close_all(m, reason);
	m->ops.session(m->arg, false, why);
}

static void settle(struct vp_mux *m)
{
	while (!vp_list_empty(&m->broken)) {
		struct vp_stream *s = VP_CONTAINER(m->broken.next,
						   struct vp_stream, turn);

		vp_list_del(&s->turn);
		vp_stream_abort(s, VP_RESET_BY_PEER, "the local socket failed");
	}
	if (m->overrun) {
		m->overrun = false;
		vp_link_drop(&m->link, VP_RESET_PROTOCOL, true);
	}
}

struct vp_mux *vp_mux_new(const struct vp_mux_config *cfg,
			  const struct vp_mux_ops *ops, void *arg, uint64_t now)
{
	static const struct vp_link_ops link_ops = {
		.pull = vp_mux_pull,
		.ready = vp_mux_ready,
		.frame = vp_mux_frame,
		.acked = vp_mux_acked,
		.up = link_up,
		.down = link_down,
		.random = link_random,
	};
	struct vp_mux *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->ops = *ops;
	m->arg = arg;
	m->resets_end = &m->resets;
	vp_list_init(&m->all);
	vp_list_init(&m->fresh);
	vp_list_init(&m->bulk);
	vp_list_init(&m->credit);
	vp_list_init(&m->opens);
	vp_list_init(&m->broken);
	vp_link_init(&m->link, cfg, &link_ops, m, now);
	return m;
}

void vp_mux_free(struct vp_mux *m)
{
	if (!m)
		return;
	m->link.up = false;
	close_all(m, VP_RESET_SHUTDOWN);
	vp_link_done(&m->link);
	free(m);
}

void vp_mux_attach(struct vp_mux *m, uint64_t now)
{
	vp_link_attach(&m->link, now);
}

void vp_mux_set_trigger(struct vp_mux *m, unsigned bytes)
{
	m->link.trigger_14 = bytes == VP_PAD_14;
}

void vp_mux_detach(struct vp_mux *m, uint64_t now)
{
	vp_link_detach(&m->link, now);
}

void vp_mux_input(struct vp_mux *m, const uint8_t *data, size_t len,
		  uint64_t now)
{
	m->link.now = now;
	if (!m->link.attached)
		return;
	vp_parser_input(&m->link.parser, data, len, now);
	settle(m);
}

size_t vp_mux_output(struct vp_mux *m, struct iovec *iov, size_t max,
		     size_t limit, uint64_t now)
{
	m->link.now = now;
	settle(m);
	return vp_link_output(&m->link, iov, max, limit);
}

void vp_mux_written(struct vp_mux *m, size_t n, uint64_t now)
{
	m->link.now = now;
	vp_link_written(&m->link, n);
	settle(m);
}

void vp_mux_set_unsent(struct vp_mux *m, size_t unsent)
{
	m->link.unsent = unsent;
}

bool vp_mux_wants_write(const struct vp_mux *m)
{
	return vp_link_wants_write(&m->link) || !vp_list_empty(&m->broken);
}

uint64_t vp_mux_deadline(const struct vp_mux *m)
{
	return vp_link_deadline(&m->link);
}

void vp_mux_tick(struct vp_mux *m, uint64_t now)
{
	m->link.now = now;
	vp_link_tick(&m->link);
	settle(m);
}

bool vp_mux_wants_reconnect(const struct vp_mux *m, uint64_t now)
{
	return vp_link_wants_reconnect(&m->link, now);
}

void vp_mux_quiesce(struct vp_mux *m, bool on)
{
	if (m->link.quiesce == on)
		return;
	m->link.quiesce = on;
	m->link.peer_idle = false;
	m->link.beacon_due = m->link.up;
	/* The peer's word counts once it has answered: what it said of an
	 * earlier time of standing still may be under way. */
	if (on)
		vp_link_probe(&m->link);
}

bool vp_mux_quiesced(const struct vp_mux *m)
{
	return m->link.quiesce;
}

bool vp_mux_is_idle(const struct vp_mux *m)
{
	const struct vp_link *l = &m->link;

	if (!l->up)
		return true;
	return l->quiesce && l->peer_idle && l->una == l->nxt && !l->part &&
	       !buf_len(&l->stage);
}

void vp_mux_goaway(struct vp_mux *m, const char *why)
{
	vp_reason_copy(m->goaway_text, why, why ? strlen(why) : 0,
		       VP_RESET_SHUTDOWN);
	m->goaway = m->goaway_due = true;
}

void vp_mux_reset_session(struct vp_mux *m, enum vp_reset why, uint64_t now)
{
	m->link.now = now;
	snprintf(m->link.farewell, sizeof(m->link.farewell), "%.*s",
		 (int)VP_FAREWELL_MAX, m->goaway_text);
	vp_link_drop(&m->link, why, true);
}

bool vp_mux_release(struct vp_mux *m)
{
	return vp_link_trim(&m->link);
}

bool vp_mux_session_up(const struct vp_mux *m)
{
	return m->link.up;
}

uint64_t vp_mux_last_heard(const struct vp_mux *m)
{
	return m->link.last_heard;
}

uint64_t vp_mux_pace(const struct vp_mux *m)
{
	return vp_link_pace(&m->link);
}

uint64_t vp_mux_grace(const struct vp_mux *m)
{
	return vp_link_grace(&m->link);
}

enum vp_channel vp_mux_channel(const struct vp_mux *m)
{
	return m->link.channel;
}

const char *vp_mux_counter(const struct vp_mux *m, size_t i, uint64_t *value)
{
	static const char *const names[] = {
#define VP_COUNTER_NAME(id, name, text) name,
		VP_COUNTERS(VP_COUNTER_NAME)
#undef VP_COUNTER_NAME
	};
	const struct vp_link *l = &m->link;
	const struct {
		const char *name;
		uint64_t value;
	} gauges[] = {
		{ "streams", m->streams },
		{ "held-bytes", m->held },
		{ "in-flight-bytes", l->up ? l->in_flight : 0 },
		{ "bulk-window-bytes", l->up ? l->bulk_window : 0 },
		{ "rtt-us", l->srtt / NSEC_PER_USEC },
		{ "rto-us", l->rto / NSEC_PER_USEC },
	};

	if (i < VP_C_COUNT) {
		*value = l->counters[i];
		return names[i];
	}
	i -= VP_C_COUNT;
	if (i >= sizeof(gauges) / sizeof(gauges[0]))
		return NULL;
	*value = gauges[i].value;
	return gauges[i].name;
}
