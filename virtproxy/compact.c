/*
 * compact.c - see compact.h
 *
 * A call over a serial line is a few bytes once it is compressed, and each byte
 * costs the guest: an exit for one it sends, an interrupt for every 14 it receives.
 * The header of PROTOCOL 3.3 alone is two such interrupts.  Number, chains and
 * epoch are not sent here but go into the check, which is a CRC like any other's.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/compact.h"

#include "virtproxy/crc32c.h"

#define LR_DEFLATE 0x01u
#define LR_PUSH 0x02u
#define LR_MORE 0x04u
#define LR_ROLE 0x08u
#define MORE_TYPE 0x07u
#define MORE_FIN 0x08u
#define MORE_STREAM 0x10u
#define MORE_KNOWN (MORE_TYPE | MORE_FIN | MORE_STREAM)

#define STREAM_BYTES 5u /* of 7 bits */

_Static_assert(VP_COMPACT_HEAD + 18 + VP_SERIAL_PAYLOAD + VP_CRC_LEN <=
		       VP_CONTENT_MAX,
	       "what the check covers keeps Hamming distance 6, too");

static size_t put_stream(uint8_t *to, uint32_t stream)
{
	size_t n = 0;

	for (; stream >= 0x80; stream >>= 7)
		to[n++] = (uint8_t)(stream | 0x80);
	to[n++] = (uint8_t)stream;
	return n;
}

/* Bytes used; 0 = it is none. */
static size_t get_stream(const uint8_t *from, size_t len, uint32_t *ret)
{
	uint64_t v = 0;

	for (size_t n = 0; n < len && n < STREAM_BYTES; n++) {
		v |= (uint64_t)(from[n] & 0x7f) << 7 * n;
		if (from[n] & 0x80)
			continue;
		*ret = (uint32_t)v;
		return v > UINT32_MAX ? 0 : n + 1;
	}
	return 0;
}

static size_t put_head(uint8_t *h, const struct vp_frame *f, uint32_t data_stream)
{
	uint8_t more = (uint8_t)((f->type - VP_T_SEQUENCED) & MORE_TYPE);
	bool other_stream = f->stream != data_stream;
	size_t n = 2;

	if (f->flags & VP_F_FIN)
		more |= MORE_FIN;
	if (other_stream)
		more |= MORE_STREAM;
	h[0] = VP_COMPACT | (f->vr == VP_VR_GUEST ? LR_ROLE : 0);
	if (f->flags & VP_F_DEFLATE)
		h[0] |= LR_DEFLATE;
	if (f->flags & VP_F_PUSH)
		h[0] |= LR_PUSH;
	h[1] = (uint8_t)f->ack;
	if (more == VP_T_DATA - VP_T_SEQUENCED)
		return n;
	h[0] |= LR_MORE;
	h[n++] = more;
	if (other_stream)
		n += put_stream(h + n, f->stream);
	return n;
}

static uint32_t check_of(uint32_t after, const uint8_t *head, size_t n,
			 uint32_t ack, uint32_t ack_chain)
{
	uint8_t last[8];

	put_le32(last, ack);
	put_le32(last + 4, ack_chain);
	return crc32c(crc32c(after, head, n), last, sizeof(last));
}

int vp_compact_put(struct buf *out, const struct vp_frame *f, uint32_t after,
		   uint32_t data_stream, bool open)
{
	uint8_t head[VP_COMPACT_HEAD];
	size_t n = put_head(head, f, data_stream);
	uint32_t check = check_of(after, head, n, f->ack, f->ack_chain);

	return vp_content_put(out, open, head, n, f->body, f->len, check);
}

bool vp_compact_get(struct vp_compact *c, const uint8_t *content, size_t n,
		    uint32_t data_stream)
{
	size_t at = 2, used;

	if (n < VP_COMPACT_MIN || !vp_is_compact(content[0]))
		return false;
	n -= VP_CRC_LEN;
	*c = (struct vp_compact){
		.vr = content[0] & LR_ROLE ? VP_VR_GUEST : VP_VR_HOST,
		.type = VP_T_DATA,
		.flags = (content[0] & LR_DEFLATE ? VP_F_DEFLATE : 0) |
			 (content[0] & LR_PUSH ? VP_F_PUSH : 0),
		.ack = content[1],
		.stream = data_stream,
		.check = get_le32(content + n),
		.head = content,
	};
	if (content[0] & LR_MORE) {
		if (at == n || content[at] & ~MORE_KNOWN)
			return false;
		c->type = VP_T_SEQUENCED + (content[at] & MORE_TYPE);
		if (content[at] & MORE_FIN)
			c->flags |= VP_F_FIN;
		if (content[at++] & MORE_STREAM) {
			used = get_stream(content + at, n - at, &c->stream);
			if (!used)
				return false;
			at += used;
		}
	}
	c->head_len = at;
	c->body = content + at;
	c->len = n - at;
	return true;
}

bool vp_compact_valid(const struct vp_compact *c, uint32_t after, uint32_t ack,
		      uint32_t ack_chain)
{
	return check_of(after, c->head, c->head_len, ack, ack_chain) == c->check;
}
