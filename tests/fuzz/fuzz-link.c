/*
 * fuzz-link.c - a peer that says anything, with right CRCs
 *
 * The input is a script of frames, bytes, time and reconnects against a mux of
 * either role; sequence numbers, acks and chains are right unless the script
 * changes them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>

#include "tests/fuzz/script.h"
#include "tests/lib/peer.h"
#include "virtproxy/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct peer p;

static void any_handshake(struct script *s)
{
	uint8_t type = script_u8(s) % 4, how = script_u8(s);

	p.features = (how & 1) * (VP_FEATURE_DEFLATE | VP_FEATURE_COMPACT);
	p.payload = how & 2 ? script_u32(s) & 0xffff : p.payload;
	p.window = how & 4 ? script_u32(s) : p.window;
	p.credit = how & 8 ? script_u32(s) : p.credit;
	p.start = how & 16 ? script_u32(s) : p.start;
	peer_handshake(&p, type, how & 32 ? p.nonce : script_u8(s),
		       how & 64 ? p.other : script_u8(s), script_u8(s));
}

static void any_frame(struct script *s, bool sequenced)
{
	uint8_t type = script_u8(s), flags = script_u8(s);
	uint32_t stream = sequenced ? script_u8(s) : 0;
	size_t n;
	const uint8_t *body = script_bytes(s, sequenced ? 2 : 1, &n);

	if (sequenced)
		peer_sequenced(&p, 0x10 | (type & 0xf), flags, stream, body, n);
	else
		peer_control(&p, 4 + type % 12, flags, body, n > 64 ? 64 : n);
}

static void step(struct script *s)
{
	const uint8_t *bytes;
	size_t n;

	switch (script_u8(s) % 9) {
	case 0:
		bytes = script_bytes(s, 1, &n);
		peer_bytes(&p, bytes, n);
		break;
	case 1:
		any_frame(s, false);
		break;
	case 2:
		any_frame(s, true);
		break;
	case 3:
		any_handshake(s);
		break;
	case 4:
		peer_wait(&p, (uint64_t)script_u8(s) * 10 * 1000 * 1000);
		break;
	case 5:
		vp_mux_detach(p.mux, p.now);
		vp_mux_attach(p.mux, p.now);
		break;
	case 6:
		p.seq += script_u8(s) - 128u;
		p.ack += script_u8(s) - 128u;
		break;
	case 7:
		p.has = script_u8(s) * 16u;
		if (p.stream)
			vp_stream_ready(p.stream);
		else
			p.stream = vp_stream_open(p.mux, "s", NULL, NULL);
		break;
	default:
		peer_pump(&p);
		break;
	}
	/* The list of frames heard wraps around; nothing here looks back. */
	peer_forget(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script s = { data, data + size };
	struct vp_mux_config cfg = { 0 };
	uint8_t how = script_u8(&s);

	cfg.compress = how & 4;
	cfg.probe = how & 8;
	peer_init(&p, how & 1 ? VP_HOST : VP_GUEST,
		  how & 2 ? VP_CHANNEL_VIRTIO : VP_CHANNEL_SERIAL, &cfg);
	p.lenient = true;
	if (how & 16)
		peer_connect(&p);
	while (s.at < s.end)
		step(&s);
	peer_wait(&p, UINT64_C(3) * 1000 * 1000 * 1000);
	peer_done(&p);
	return 0;
}
