/*
 * parser.c - finds frames in what a channel delivers
 *
 * There is no state "in step" or "lost": wherever reading starts, a 00 begins a
 * new candidate, and a candidate is a frame when its CRC says so.  On
 * virtio-serial 00 01 begins a raw frame; the bytes of its payload are passed
 * over only after its header's CRC (which needs both nonces) was right, and it
 * is a frame only when the trailer stands at its end.  Where either fails, the
 * search goes on right behind the marker, so that a cut costs the frame it hit.
 *
 * Frames that lie whole in the input are handed on from there without a copy; an
 * incomplete one is kept in acc, which never grows past the longest frame.  acc
 * is filled only as far as the next step needs ("want").
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <string.h>

#include "virtproxy/cobs.h"
#include "virtproxy/compact.h"
#include "virtproxy/counters.h"
#include "virtproxy/crc32c.h"
#include "virtproxy/frame.h"

/* How much more of a COBS frame of unknown length acc takes at a time, bytes:
 * about a control frame. */
#define COBS_STEP 64u

void vp_parser_init(struct vp_parser *p)
{
	buf_init(&p->acc, VP_RAW_HEAD + VP_RAW_PAYLOAD + VP_RAW_TRAILER +
				  VP_COBS_FRAME_MAX);
	p->cut_at = UINT64_MAX;
	p->cut_since = 0;
}

void vp_parser_done(struct vp_parser *p)
{
	buf_done(&p->acc);
}

void vp_parser_reset(struct vp_parser *p)
{
	buf_reset(&p->acc);
	p->want = 0;
	p->cut_since = 0;
	p->cut_at = UINT64_MAX;
	p->resets++;
}

static void count(struct vp_parser *p, enum vp_counter c, uint64_t n)
{
	p->counters[c] += n;
}

static bool ours_to_read(struct vp_parser *p, uint8_t vr)
{
	if (vr == p->own_vr) {
		count(p, VP_C_ECHOES, 1);
		return false;
	}
	if (vr != VP_VR_HOST && vr != VP_VR_GUEST) {
		count(p, VP_C_SKIPPED, 1);
		return false;
	}
	return true;
}

/* Content whose CRC was right, of n bytes (3 at least). */
static void take_content(struct vp_parser *p, const uint8_t *c, size_t n)
{
	struct vp_frame f = { .vr = c[0], .type = c[1], .flags = c[2] };
	size_t head = 3;

	if (!ours_to_read(p, f.vr))
		return;
	if (f.type >= VP_T_SEQUENCED)
		head = VP_SERIAL_HEAD;
	else if (f.type >= VP_T_CONTROL)
		head = VP_CONTROL_HEAD;
	if (n < head || !f.type || f.type >= VP_T_END ||
	    (p->raw && f.type >= VP_T_SEQUENCED)) {
		count(p, VP_C_SKIPPED, 1);
		return;
	}
	if (head > 3)
		f.epoch = get_le32(c + 3);
	if (head == VP_CONTROL_HEAD) {
		f.tag = get_le32(c + 7);
		f.ack = get_le32(c + 11);
		f.ack_chain = get_le32(c + 15);
	} else if (head == VP_SERIAL_HEAD) {
		f.seq = get_le32(c + 7);
		f.ack = get_le32(c + 11);
		f.ack_chain = get_le32(c + 15);
		f.chain = get_le32(c + 19);
		f.stream = get_le32(c + 23);
	}
	f.body = c + head;
	f.len = n - head;
	count(p, VP_C_FRAMES_IN, 1);
	p->frame(p->arg, &f);
}

/* The n bytes between two delimiters. */
static void take_segment(struct vp_parser *p, const uint8_t *s, size_t n)
{
	ssize_t len = cobs_decode(s, n, p->content, sizeof(p->content));

	if (len > 0 && p->compact && vp_is_compact(p->content[0]) &&
	    p->compact(p->arg, p->content, (size_t)len))
		return;
	if (len < 3 + (ssize_t)VP_CRC_LEN) {
		count(p, VP_C_NOISE_BYTES, n);
		return;
	}
	len -= VP_CRC_LEN;
	if (crc32c(0, p->content, (size_t)len) != get_le32(p->content + len)) {
		count(p, VP_C_BAD_CRC, 1);
		count(p, VP_C_NOISE_BYTES, n);
		return;
	}
	take_content(p, p->content, (size_t)len);
}

/* At a byte that is not 0: returns the bytes used, 0 = more are needed. */
static size_t parse_cobs(struct vp_parser *p, const uint8_t *d, size_t n)
{
	size_t look = n < VP_COBS_FRAME_MAX + 1 ? n : VP_COBS_FRAME_MAX + 1;
	const uint8_t *zero = memchr(d, 0, look);

	if (zero) {
		take_segment(p, d, (size_t)(zero - d));
		return (size_t)(zero - d);
	}
	if (look > VP_COBS_FRAME_MAX) {
		count(p, VP_C_NOISE_BYTES, look);
		return look;
	}
	p->want = n + COBS_STEP;
	return 0;
}

/* At 00 01 on virtio-serial: as above; 1 = this is no raw frame. */
static size_t parse_raw(struct vp_parser *p, const uint8_t *d, size_t n)
{
	struct vp_frame f = { .raw = true };
	size_t total, summed;

	p->want = VP_RAW_HEAD;
	if (n < VP_RAW_HEAD)
		return 0;
	f.len = get_le32(d + 32);
	if (f.len > p->max_payload)
		return 1;
	if (crc32c(p->seed, d + 2, VP_RAW_HEAD - 6) != get_le32(d + 48)) {
		count(p, VP_C_BAD_CRC, 1);
		return 1;
	}
	total = VP_RAW_HEAD + f.len + VP_RAW_TRAILER;
	p->want = total;
	if (n < total)
		return 0;
	summed = f.len < VP_RAW_SUMMED ? f.len : VP_RAW_SUMMED;
	if (get_le32(d + total - VP_RAW_TRAILER) != ~get_le32(d + 48) ||
	    crc32c(0, d + VP_RAW_HEAD, summed) != get_le32(d + 44)) {
		count(p, VP_C_CUT_FRAMES, 1);
		return 1;
	}
	if (!ours_to_read(p, d[2]))
		return total;
	f.vr = d[2];
	f.ack = get_le32(d + 4);
	f.ack_chain = get_le32(d + 8);
	f.epoch = get_le32(d + 12);
	f.chain = get_le32(d + 16);
	f.seq = get_le32(d + 20);
	f.stream = get_le32(d + 24);
	f.type = d[28];
	f.flags = d[29];
	f.time = get_le64(d + 36);
	f.chained = d + VP_RAW_CHAINED_AT;
	f.body = d + VP_RAW_HEAD;
	if (!vp_frame_sequenced(&f)) {
		count(p, VP_C_SKIPPED, 1);
		return total;
	}
	count(p, VP_C_FRAMES_IN, 1);
	p->frame(p->arg, &f);
	return total;
}

/*
 * Takes all whole frames at d.  Returns the bytes used; what is left is an
 * incomplete frame, and p->want says how long it must get to be looked at again.
 */
static size_t parse(struct vp_parser *p, const uint8_t *d, size_t n, bool *cut)
{
	uint32_t resets = p->resets;
	size_t used = 0;

	*cut = false;
	while (used < n) {
		size_t left = n - used, step;

		if (d[used]) {
			step = parse_cobs(p, d + used, left);
			if (!step)
				return used;
		} else if (!p->raw || (left > 1 && d[used + 1] != 1)) {
			step = 1;
		} else if (left == 1) {
			p->want = 2;
			return used;
		} else {
			step = parse_raw(p, d + used, left);
			if (!step) {
				*cut = true;
				return used;
			}
		}
		if (p->resets != resets)
			return n;
		used += step;
	}
	return used;
}

/* Starts, prolongs or stops the watch over an incomplete raw frame. */
static void watch(struct vp_parser *p, bool cut, bool fresh, uint64_t now)
{
	if (!cut) {
		p->cut_since = 0;
		p->cut_at = UINT64_MAX;
		return;
	}
	if (fresh || !p->cut_since)
		p->cut_since = now ? now : 1;
	p->cut_at = now + VP_CUT_SILENCE;
	if (p->cut_at > p->cut_since + VP_CUT_AFTER)
		p->cut_at = p->cut_since + VP_CUT_AFTER;
}

static void parse_acc(struct vp_parser *p, uint64_t now)
{
	uint32_t resets = p->resets;
	bool cut;
	size_t used = parse(p, buf_data(&p->acc), buf_len(&p->acc), &cut);

	if (p->resets != resets)
		return;
	buf_consume(&p->acc, used);
	watch(p, cut, used > 0, now);
}

void vp_parser_input(struct vp_parser *p, const uint8_t *data, size_t len,
		     uint64_t now)
{
	uint32_t resets = p->resets;
	size_t n;
	bool cut;

	count(p, VP_C_BYTES_IN, len);
	while (len && buf_len(&p->acc)) {
		n = p->want > buf_len(&p->acc) ? p->want - buf_len(&p->acc) : 1;
		if (n > len)
			n = len;
		if (buf_put(&p->acc, data, n))
			buf_reset(&p->acc); /* no memory: a loss like any other */
		data += n;
		len -= n;
		if (p->cut_since && buf_len(&p->acc) < p->want)
			watch(p, true, false, now);
		else
			parse_acc(p, now);
		if (p->resets != resets)
			return;
	}
	if (!len)
		return;
	n = parse(p, data, len, &cut);
	if (p->resets != resets)
		return;
	watch(p, cut, n > 0, now);
	if (n < len && buf_put(&p->acc, data + n, len - n))
		count(p, VP_C_NOISE_BYTES, len - n);
}

void vp_parser_tick(struct vp_parser *p, uint64_t now)
{
	if (now < p->cut_at)
		return;
	count(p, VP_C_CUT_FRAMES, 1);
	buf_consume(&p->acc, 1);
	p->cut_since = 0;
	parse_acc(p, now);
}
