/*
 * fuzz-mux.c - streams under a peer without manners and an owner without pattern
 *
 * The session stands; the script mixes well-formed and odd frames about streams
 * with what the owner does.  The credit granted is never overrun.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>

#include "tests/fuzz/script.h"
#include "tests/lib/peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct peer p;
static uint32_t next_id;

static void peer_acts(struct script *s, uint8_t what)
{
	static const char *const services[] = { "s", "refused", "a.b", "x y" };
	uint8_t body[8];
	const uint8_t *bytes;
	uint32_t id = script_u8(s);
	size_t n;

	switch (what) {
	case 0:
		peer_open(&p, next_id, services[id % 4]);
		next_id += 2;
		break;
	case 1:
		bytes = script_bytes(s, 4, &n);
		peer_sequenced(&p, VP_T_DATA, id >> 6, id & 31, bytes,
			       n > 512 ? 512 : n);
		break;
	case 2:
		bytes = script_bytes(s, 1, &n);
		peer_sequenced(&p, VP_T_RST, 0, id, bytes, n > 121 ? 121 : n);
		break;
	case 3:
		put_le32(body, id);
		put_le32(body + 4, script_u32(s));
		peer_sequenced(&p, VP_T_CREDIT, 0, 0, body, 8);
		break;
	default:
		put_le32(body, id);
		peer_sequenced(&p, VP_T_GOAWAY, 0, 0, body, id & 1 ? 4 : 2);
		break;
	}
}

static void owner_acts(struct script *s, uint8_t what)
{
	uint8_t v = script_u8(s);

	switch (what) {
	case 0:
		p.takes = v * 8u;
		if (p.stream)
			vp_stream_drain(p.stream);
		break;
	case 1:
		p.has = v * 32u;
		if (p.stream)
			vp_stream_ready(p.stream);
		break;
	case 2: {
		struct vp_stream *fresh = vp_stream_open(p.mux, "s", NULL, NULL);

		p.stream = fresh ? fresh : p.stream;
		break;
	}
	case 3:
		if (p.stream)
			vp_stream_reset(p.stream, VP_RESET_BY_PEER, "enough");
		p.stream = NULL;
		break;
	case 4:
		vp_mux_quiesce(p.mux, v & 1);
		break;
	default:
		vp_mux_goaway(p.mux, "bye");
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script s = { data, data + size };
	struct vp_mux_config cfg = { 0 };
	uint8_t how = script_u8(&s);

	cfg.compress = how & 4;
	peer_init(&p, how & 1 ? VP_HOST : VP_GUEST,
		  how & 2 ? VP_CHANNEL_VIRTIO : VP_CHANNEL_SERIAL, &cfg);
	p.features = how & 4 ? 1 : 0;
	p.lenient = true;
	peer_connect(&p);
	next_id = how & 1 ? 1 : 2;
	while (s.at < s.end) {
		uint8_t what = script_u8(&s) % 14;

		if (what < 5)
			peer_acts(&s, what);
		else if (what < 11)
			owner_acts(&s, what - 5);
		else if (what == 11)
			peer_wait(&p, script_u8(&s) * UINT64_C(1000000));
		else
			peer_pump(&p);
		peer_forget(&p);
	}
	peer_done(&p);
	return 0;
}
