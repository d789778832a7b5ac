/*
 * peer.c - see peer.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/peer.h"

#include <string.h>

#include "tests/lib/sim_arena.h"
#include "tests/lib/unit.h"
#include "virtproxy/compact.h"
#include "virtproxy/link.h"

static int on_opened(void *arg, struct vp_stream *s, const char *service,
		     const struct vp_meta *meta, char *why)
{
	struct peer *p = arg;

	if (strcmp(service, "refused") == 0) {
		strcpy(why, "not today");
		return VP_RESET_REFUSED;
	}
	p->opened++;
	p->stream = s;
	return 0;
}

static ssize_t on_fill(void *arg, struct vp_stream *s, uint8_t *buf, size_t max)
{
	struct peer *p = arg;
	size_t n = max < p->has ? max : p->has;

	if (!n)
		return VP_FILL_AGAIN;
	memset(buf, 'x', n);
	p->has -= n;
	return (ssize_t)n;
}

static size_t on_deliver(void *arg, struct vp_stream *s, const uint8_t *data,
			 size_t len)
{
	struct peer *p = arg;
	size_t n = len < p->takes ? len : p->takes;

	p->takes -= n;
	p->delivered += n;
	return n;
}

static void on_eof(void *arg, struct vp_stream *s)
{
	((struct peer *)arg)->eofs++;
}

static void on_closed(void *arg, struct vp_stream *s, int reason,
		      const char *text)
{
	struct peer *p = arg;

	p->closed++;
	p->last_reason = reason;
	snprintf(p->last_text, sizeof(p->last_text), "%s", text);
	if (p->stream == s)
		p->stream = NULL;
}

static void on_session(void *arg, bool up, const char *why)
{
	struct peer *p = arg;

	if (up)
		p->sessions++;
	else
		p->downs++;
}

static void on_random(void *arg, void *buf, size_t n)
{
	struct peer *p = arg;
	uint8_t *b = buf;

	while (n--) {
		p->rng ^= p->rng << 13;
		p->rng ^= p->rng >> 7;
		p->rng ^= p->rng << 17;
		*b++ = (uint8_t)p->rng;
	}
}

static void on_frame(void *arg, const struct vp_frame *f)
{
	struct peer *p = arg;
	struct peer_frame *to = &p->frames[p->n % PEER_FRAMES];
	size_t n = f->len < PEER_BODY ? f->len : PEER_BODY;

	to->f = *f;
	memcpy(to->body, f->body, n);
	to->f.body = to->body;
	p->n++;
	if (f->type == VP_T_OFFER || f->type == VP_T_ACCEPT ||
	    (f->type == VP_T_HELLO && f->vr == VP_VR_GUEST))
		p->other = get_le64(f->body + 7);
	if (vp_frame_sequenced(f) && !p->no_acks && f->seq == p->ack) {
		if (!p->lenient)
			CHECK_INT(f->chain, p->ack_chain);
		p->ack_chain = vp_chain_next(p->ack_chain, f);
		p->ack++;
		if (f->type == VP_T_DATA)
			p->data_stream = f->stream;
	}
}

/* What the mux sends compact is handed on as if it had not been.  The peer sends
 * nothing compact, and knows all it has sent to be acknowledged. */
static bool on_compact(void *arg, const uint8_t *content, size_t n)
{
	struct peer *p = arg;
	struct vp_compact c;
	struct vp_frame f;

	if (!(p->features & VP_FEATURE_COMPACT) ||
	    !vp_compact_get(&c, content, n, p->data_stream) || c.vr == p->vr)
		return false;
	f = (struct vp_frame){ .vr = c.vr, .type = c.type, .flags = c.flags,
			       .epoch = p->keys.epoch, .seq = p->ack,
			       .chain = p->ack_chain, .stream = c.stream,
			       .ack = p->seq, .ack_chain = p->chain,
			       .body = c.body, .len = c.len };
	if (!vp_compact_valid(&c, vp_chain_next(f.chain, &f), f.ack,
			      f.ack_chain))
		return false;
	p->compact++;
	on_frame(p, &f);
	return true;
}

void peer_init(struct peer *p, enum vp_role mux_role, enum vp_channel channel,
	       const struct vp_mux_config *cfg)
{
	static const struct vp_mux_ops ops = {
		.opened = on_opened, .fill = on_fill, .deliver = on_deliver,
		.eof = on_eof, .closed = on_closed, .session = on_session,
		.random = on_random,
	};
	struct vp_mux_config mine = cfg ? *cfg : (struct vp_mux_config){ 0 };
	bool arena = p->arena;

	memset(p, 0, sizeof(*p));
	p->arena = arena;
	p->now = 1000;
	p->rng = 88172645463325252ull;
	p->vr = mux_role == VP_HOST ? VP_VR_GUEST : VP_VR_HOST;
	p->channel = channel;
	p->version = 1;
	p->payload = channel == VP_CHANNEL_VIRTIO ? VP_RAW_PAYLOAD : 512;
	p->streams = 64;
	p->window = 16384;
	p->credit = 4096;
	p->takes = SIZE_MAX;
	p->nonce = 0x7777;
	p->parser.frame = on_frame;
	p->parser.compact = on_compact;
	p->parser.arg = p;
	p->parser.counters = p->counters;
	p->parser.own_vr = p->vr;
	p->parser.max_payload = VP_RAW_PAYLOAD;
	vp_parser_init(&p->parser);
	mine.role = mux_role;
	mine.channel = mux_role == VP_HOST ? VP_CHANNEL_UNKNOWN : channel;
	if (arena)
		sim_arena_reset();
	sim_arena_switch(arena);
	p->mux = vp_mux_new(&mine, &ops, p, p->now);
	vp_mux_attach(p->mux, p->now);
	sim_arena_switch(false);
}

void peer_done(struct peer *p)
{
	sim_arena_switch(p->arena);
	vp_mux_free(p->mux);
	sim_arena_switch(false);
	vp_parser_done(&p->parser);
}

void peer_pump(struct peer *p)
{
	static uint8_t flat[1 << 16];
	struct iovec iov[8];
	size_t pieces, n;

	do {
		sim_arena_switch(p->arena);
		pieces = vp_mux_output(p->mux, iov, 8, 32768, p->now);
		sim_arena_switch(false);
		n = 0;
		for (size_t i = 0; i < pieces; i++) {
			memcpy(flat + n, iov[i].iov_base, iov[i].iov_len);
			n += iov[i].iov_len;
		}
		if (!n)
			break;
		sim_arena_switch(p->arena);
		vp_mux_written(p->mux, n, p->now);
		sim_arena_switch(false);
		p->bytes += n;
		p->writes++;
		vp_parser_input(&p->parser, flat, n, p->now);
	} while (n);
}

void peer_wait(struct peer *p, uint64_t ns)
{
	uint64_t end = p->now + ns;

	peer_pump(p);
	while (p->now < end) {
		uint64_t at = vp_mux_deadline(p->mux);

		p->now = at > end ? end : at > p->now ? at : p->now + 1000;
		sim_arena_switch(p->arena);
		vp_mux_tick(p->mux, p->now);
		sim_arena_switch(false);
		peer_pump(p);
	}
}

void peer_forget(struct peer *p)
{
	p->n = 0;
	p->bytes = 0;
	p->writes = 0;
}

const struct peer_frame *peer_heard(const struct peer *p, uint8_t type,
				    unsigned i)
{
	for (unsigned k = 0; k < p->n && k < PEER_FRAMES; k++)
		if (p->frames[k].f.type == type && i-- == 0)
			return &p->frames[k];
	return NULL;
}

unsigned peer_count(const struct peer *p, uint8_t type)
{
	unsigned n = 0;

	while (peer_heard(p, type, n))
		n++;
	return n;
}

void peer_have_sent(struct peer *p, size_t bytes)
{
	struct vp_stream *s = vp_stream_open(p->mux, "s", NULL, NULL);

	p->has = bytes;
	vp_stream_ready(s);
	peer_pump(p);
}

void peer_bytes(struct peer *p, const void *data, size_t n)
{
	sim_arena_switch(p->arena);
	vp_mux_input(p->mux, data, n, p->now);
	sim_arena_switch(false);
}

void peer_say(struct peer *p, const struct vp_frame *f)
{
	static uint8_t slot[VP_RAW_HEAD + VP_RAW_PAYLOAD + VP_RAW_TRAILER];
	CLEANUP_BUF struct buf b = BUF_INIT(4096);
	struct vp_frame raw = *f;

	if (p->channel == VP_CHANNEL_VIRTIO && f->type >= VP_T_SEQUENCED) {
		if (f->len)
			memcpy(slot + VP_RAW_HEAD, f->body, f->len);
		vp_raw_make(slot, &raw, p->keys.seed);
		peer_bytes(p, slot, VP_RAW_HEAD + f->len + VP_RAW_TRAILER);
		return;
	}
	CHECK_INT(vp_frame_put(&b, f), 0);
	peer_bytes(p, buf_data(&b), buf_len(&b));
}

void peer_handshake(struct peer *p, uint8_t type, uint64_t mine, uint64_t yours,
		    size_t extra)
{
	CLEANUP_BUF struct buf b = BUF_INIT(512);
	struct vp_frame f = { .vr = p->vr, .type = type };

	buf_put_u8(&b, (uint8_t)p->channel);
	buf_put_u8(&b, 0);
	buf_put_u8(&b, p->version);
	buf_put_u32(&b, p->features);
	buf_put_u64(&b, mine);
	buf_put_u64(&b, yours);
	buf_put_u16(&b, (uint16_t)p->payload);
	buf_put_u16(&b, (uint16_t)p->streams);
	buf_put_u32(&b, p->window);
	buf_put_u32(&b, p->credit);
	buf_put_u32(&b, p->start);
	while (extra--)
		buf_put_u8(&b, 0xee);
	f.body = buf_data(&b);
	f.len = buf_len(&b);
	peer_say(p, &f);
}

static void start_session(struct peer *p, uint64_t host, uint64_t guest)
{
	p->keys = vp_keys_of(host, guest);
	p->parser.raw = p->channel == VP_CHANNEL_VIRTIO;
	p->parser.seed = p->keys.seed;
	p->seq = p->start;
	p->ack = p->data_stream = 0;
	p->chain = p->ack_chain = p->keys.epoch;
}

void peer_connect(struct peer *p)
{
	unsigned before = p->sessions;

	peer_pump(p);
	if (p->vr == VP_VR_GUEST) {
		peer_handshake(p, VP_T_HELLO, p->nonce, 0, 0);
		peer_pump(p);
		start_session(p, p->other, p->nonce);
		peer_handshake(p, VP_T_ACCEPT, p->nonce, p->other, 0);
	} else {
		start_session(p, p->nonce, p->other);
		peer_handshake(p, VP_T_OFFER, p->nonce, p->other, 0);
	}
	CHECK_INT(p->sessions, before + 1);
	peer_pump(p);
	peer_forget(p);
}

void peer_control(struct peer *p, uint8_t type, uint8_t flags, const void *body,
		  size_t len)
{
	struct vp_frame f = { .vr = p->vr, .type = type, .flags = flags,
			      .epoch = p->keys.epoch, .tag = p->keys.tag,
			      .ack = p->ack, .ack_chain = p->ack_chain,
			      .body = body, .len = len };

	peer_say(p, &f);
}

void peer_beacon(struct peer *p, uint32_t snd_nxt, uint64_t challenge,
		 uint64_t echo)
{
	uint8_t body[20], flags = 0;
	size_t n = 4;

	put_le32(body, snd_nxt);
	if (challenge) {
		flags |= VP_B_CHALLENGE;
		put_le64(body + n, challenge);
		n += 8;
	}
	if (echo) {
		flags |= VP_B_ECHO;
		put_le64(body + n, echo);
		n += 8;
	}
	peer_control(p, VP_T_BEACON, flags, body, n);
}

void peer_sequenced(struct peer *p, uint8_t type, uint8_t flags,
		    uint32_t stream, const void *body, size_t len)
{
	struct vp_frame f = { .vr = p->vr, .type = type, .flags = flags,
			      .epoch = p->keys.epoch, .seq = p->seq,
			      .ack = p->ack, .ack_chain = p->ack_chain,
			      .chain = p->chain, .stream = stream,
			      .body = body, .len = len };
	static uint8_t slot[VP_RAW_HEAD + VP_RAW_PAYLOAD + VP_RAW_TRAILER];
	struct vp_frame made = f;

	peer_say(p, &f);
	if (p->channel == VP_CHANNEL_VIRTIO) {
		if (len)
			memcpy(slot + VP_RAW_HEAD, body, len);
		vp_raw_make(slot, &made, p->keys.seed);
	}
	p->chain = vp_chain_next(p->chain, &made);
	p->seq++;
}

void peer_open(struct peer *p, uint32_t stream, const char *service)
{
	uint8_t body[256] = { 0 };
	size_t n = strlen(service);

	body[12] = (uint8_t)n;
	memcpy(body + 13, service, n);
	peer_sequenced(p, VP_T_OPEN, 0, stream, body, 13 + n);
}

uint64_t peer_counter(const struct peer *p, const char *name)
{
	const char *n;
	uint64_t v;

	for (size_t i = 0; (n = vp_mux_counter(p->mux, i, &v)); i++)
		if (strcmp(n, name) == 0)
			return v;
	unit_fail(__FILE__, __LINE__, "no counter %s", name);
}
