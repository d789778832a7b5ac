/*
 * frame.c - encoders, keys and chains; the parser is parser.c
 *
 * A control or serial frame is put together from its fields, summed and COBS
 * encoded straight into the output.  A raw frame is written around its payload
 * where that already lies, in the retransmission ring, and sent from there; a
 * repeat only renews its ack and CRC.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/frame.h"

#include <errno.h>
#include <string.h>

#include "virtproxy/cobs.h"
#include "virtproxy/crc32c.h"

static uint64_t splitmix64(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

struct vp_keys vp_keys_of(uint64_t host_nonce, uint64_t guest_nonce)
{
	uint64_t a = splitmix64(host_nonce + splitmix64(guest_nonce));

	return (struct vp_keys){ .epoch = (uint32_t)a,
				 .tag = (uint32_t)(a >> 32),
				 .seed = (uint32_t)splitmix64(a) };
}

uint32_t vp_chain_next(uint32_t chain, const struct vp_frame *f)
{
	uint8_t head[10];

	if (f->raw)
		return crc32c(chain, f->chained, VP_RAW_CHAINED_LEN);
	put_le32(head, f->seq);
	put_le32(head + 4, f->stream);
	head[8] = f->type;
	head[9] = f->flags;
	return crc32c(crc32c(chain, head, sizeof(head)), f->body, f->len);
}

/* The fields before the body; returns their length. */
static size_t put_head(uint8_t *h, const struct vp_frame *f)
{
	h[0] = f->vr;
	h[1] = f->type;
	h[2] = f->flags;
	if (f->type < VP_T_CONTROL)
		return 3;
	put_le32(h + 3, f->epoch);
	if (f->type < VP_T_SEQUENCED) {
		put_le32(h + 7, f->tag);
		put_le32(h + 11, f->ack);
		put_le32(h + 15, f->ack_chain);
		return VP_CONTROL_HEAD;
	}
	put_le32(h + 7, f->seq);
	put_le32(h + 11, f->ack);
	put_le32(h + 15, f->ack_chain);
	put_le32(h + 19, f->chain);
	put_le32(h + 23, f->stream);
	return VP_SERIAL_HEAD;
}

int vp_content_put(struct buf *out, bool open, const uint8_t *head, size_t n,
		   const uint8_t *body, size_t len, uint32_t crc)
{
	size_t total = n + len + VP_CRC_LEN;
	uint8_t last[VP_CRC_LEN], *to;
	struct cobs_enc e;

	if (total > VP_CONTENT_MAX)
		return -EMSGSIZE;
	to = buf_reserve(out, COBS_MAX(total) + 2);
	if (!to)
		return -errno;
	put_le32(last, crc);
	to[0] = 0;
	cobs_start(&e, to + open);
	cobs_put(&e, head, n);
	cobs_put(&e, body, len);
	cobs_put(&e, last, sizeof(last));
	n = open + cobs_finish(&e);
	to[n] = 0;
	buf_commit(out, n + 1);
	return 0;
}

int vp_frame_put(struct buf *out, const struct vp_frame *f)
{
	uint8_t head[VP_SERIAL_HEAD];
	size_t n = put_head(head, f);
	uint32_t crc = crc32c(crc32c(0, head, n), f->body, f->len);

	return vp_content_put(out, true, head, n, f->body, f->len, crc);
}

static void seal(uint8_t *slot, uint32_t seed)
{
	uint32_t crc = crc32c(seed, slot + 2, VP_RAW_HEAD - 6);

	put_le32(slot + 48, crc);
	put_le32(slot + VP_RAW_HEAD + get_le32(slot + 32), ~crc);
}

void vp_raw_make(uint8_t *slot, struct vp_frame *f, uint32_t seed)
{
	size_t summed = f->len < VP_RAW_SUMMED ? f->len : VP_RAW_SUMMED;

	slot[0] = 0;
	slot[1] = 1;
	slot[2] = f->vr;
	slot[3] = 0;
	put_le32(slot + 4, f->ack);
	put_le32(slot + 8, f->ack_chain);
	put_le32(slot + 12, f->epoch);
	put_le32(slot + 16, f->chain);
	put_le32(slot + 20, f->seq);
	put_le32(slot + 24, f->stream);
	slot[28] = f->type;
	slot[29] = f->flags;
	put_le16(slot + 30, 0);
	put_le32(slot + 32, (uint32_t)f->len);
	put_le64(slot + 36, f->time);
	put_le32(slot + 44, crc32c(0, slot + VP_RAW_HEAD, summed));
	seal(slot, seed);
	f->raw = true;
	f->chained = slot + VP_RAW_CHAINED_AT;
}

void vp_raw_stamp(uint8_t *slot, uint32_t ack, uint32_t ack_chain,
		  uint32_t seed)
{
	if (get_le32(slot + 4) == ack)
		return;
	put_le32(slot + 4, ack);
	put_le32(slot + 8, ack_chain);
	seal(slot, seed);
}
