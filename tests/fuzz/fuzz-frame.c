/*
 * fuzz-frame.c - the parser of channel bytes, on both kinds of channel
 *
 * The first byte says: bit 0 raw frames may come, bit 1 the reader is the guest,
 * the rest into what pieces the input is cut.  Bytes in one piece and in many must
 * give the same frames.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>

#include "virtproxy/counters.h"
#include "virtproxy/crc32c.h"
#include "virtproxy/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reader {
	struct vp_parser p;
	uint64_t counters[VP_C_COUNT];
	uint32_t frames, sum;
};

static void take(void *arg, const struct vp_frame *f)
{
	struct reader *r = arg;
	uint8_t key[4] = { f->vr, f->type, f->flags, f->raw };

	r->frames++;
	r->sum = crc32c(crc32c(r->sum, key, sizeof(key)), f->body, f->len);
}

static void reader_init(struct reader *r, uint8_t how)
{
	*r = (struct reader){ 0 };
	r->p.frame = take;
	r->p.arg = r;
	r->p.counters = r->counters;
	r->p.raw = how & 1;
	r->p.own_vr = how & 2 ? VP_VR_GUEST : VP_VR_HOST;
	r->p.seed = 0x1ea1f00d;
	r->p.max_payload = VP_RAW_PAYLOAD;
	vp_parser_init(&r->p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader whole, pieces;
	size_t step, at;

	if (!size)
		return 0;
	step = (size_t)(data[0] >> 2) + 1;
	reader_init(&whole, data[0]);
	reader_init(&pieces, data[0]);
	vp_parser_input(&whole.p, data + 1, size - 1, 1);
	for (at = 1; at < size; at += step)
		vp_parser_input(&pieces.p, data + at,
				size - at < step ? size - at : step, 1);
	if (whole.frames != pieces.frames || whole.sum != pieces.sum)
		abort();
	while (whole.p.cut_at != UINT64_MAX)
		vp_parser_tick(&whole.p, whole.p.cut_at);
	if (whole.p.acc.alloc > 1 << 16)
		abort();
	vp_parser_done(&whole.p);
	vp_parser_done(&pieces.p);
	return 0;
}
