/*
 * compact.h - sequenced frames without what both sides know (PROTOCOL 3.4)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_COMPACT_H
#define VP_COMPACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "virtproxy/frame.h"

#define VP_COMPACT 0x20u /* first byte: the layout, in the high nibble */
#define VP_COMPACT_HEAD 8u /* bytes at most: lr, ack, more, 5 of the stream */
#define VP_COMPACT_MIN (2u + VP_CRC_LEN)

struct vp_compact {
	uint8_t vr, type, flags, ack; /* ack: 8 bits of it */
	uint32_t stream, check;
	const uint8_t *head, *body;
	size_t head_len, len;
};

/* Is it of that layout? */
static inline bool vp_is_compact(uint8_t first)
{
	return (first & 0xf0) == VP_COMPACT;
}

/*
 * Appends f to out.  after: the chain after it; data_stream: of the DATA frame
 * before it; open: with a 00 in front.  0 or -EMSGSIZE / -ENOMEM, and then out is
 * as before.
 */
int vp_compact_put(struct buf *out, const struct vp_frame *f, uint32_t after,
		   uint32_t data_stream, bool open);

/* Reads n bytes of content, check included; nothing of it is proved by that. */
bool vp_compact_get(struct vp_compact *c, const uint8_t *content, size_t n,
		    uint32_t data_stream);

/* Is it the frame after which the chain is "after", with that ack? */
bool vp_compact_valid(const struct vp_compact *c, uint32_t after, uint32_t ack,
		      uint32_t ack_chain);

#endif
