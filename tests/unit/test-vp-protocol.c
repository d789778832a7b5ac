/*
 * test-vp-protocol.c - the bytes in virtproxy/PROTOCOL are the bytes on the wire
 *
 * Each example of PROTOCOL, section 12, is "NAME: what it is", then lines of hex.
 * What the encoders make must be these bytes, the parser must read them back,
 * and no example may be without a case here.  VA_PROTOCOL_PRINT=1 prints the
 * section anew.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <ctype.h>
#include <stdlib.h>

#include "common/buf.h"
#include "tests/lib/unit.h"
#include "virtproxy/compact.h"
#include "virtproxy/counters.h"
#include "virtproxy/crc32c.h"
#include "virtproxy/frame.h"

#define HOST_NONCE UINT64_C(0x1111111111111111)
#define GUEST_NONCE UINT64_C(0x2222222222222222)
#define EXAMPLE_MAX 400u

static struct vp_keys keys(void)
{
	return vp_keys_of(HOST_NONCE, GUEST_NONCE);
}

/* The handshake's body, field by field, as PROTOCOL 3.1 has it. */
static void handshake(struct buf *out, uint8_t vr, uint8_t type, uint8_t channel,
		      uint64_t mine, uint64_t yours)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	struct vp_frame f = { .vr = vr, .type = type };

	buf_put_u8(&b, channel);
	buf_put_u8(&b, 0);
	buf_put_u8(&b, 1);
	buf_put_u32(&b, channel == 1);
	buf_put_u64(&b, mine);
	buf_put_u64(&b, yours);
	buf_put_u16(&b, channel == 1 ? 512 : 16328);
	buf_put_u16(&b, channel == 1 ? 64 : 256);
	buf_put_u32(&b, channel == 1 ? 16384 : 262144);
	buf_put_u32(&b, channel == 1 ? 4096 : 16384);
	buf_put_u32(&b, 0);
	f.body = buf_data(&b);
	f.len = buf_len(&b);
	CHECK_INT(vp_frame_put(out, &f), 0);
}

static void make_hello(struct buf *out)
{
	handshake(out, VP_VR_GUEST, VP_T_HELLO, 1, GUEST_NONCE, 0);
}

static void make_offer(struct buf *out)
{
	handshake(out, VP_VR_HOST, VP_T_OFFER, 1, HOST_NONCE, GUEST_NONCE);
}

static void make_accept(struct buf *out)
{
	handshake(out, VP_VR_GUEST, VP_T_ACCEPT, 2, GUEST_NONCE, HOST_NONCE);
}

static void control(struct buf *out, uint8_t vr, uint8_t type, uint8_t flags,
		    uint32_t ack, const void *body, size_t len)
{
	struct vp_keys k = keys();
	struct vp_frame f = { .vr = vr, .type = type, .flags = flags,
			      .epoch = k.epoch, .tag = k.tag, .ack = ack,
			      .ack_chain = ack ? 0x0a0b0c0d : k.epoch,
			      .body = body, .len = len };

	CHECK_INT(vp_frame_put(out, &f), 0);
}

static void make_reset(struct buf *out)
{
	control(out, VP_VR_HOST, VP_T_RESET, 0, 7, "\x05", 1);
}

static void make_ack(struct buf *out)
{
	control(out, VP_VR_HOST, VP_T_ACK, 0, 7, NULL, 0);
}

static void make_nak(struct buf *out)
{
	control(out, VP_VR_GUEST, VP_T_NAK, 0, 7, NULL, 0);
}

static void make_beacon(struct buf *out)
{
	uint8_t body[20];

	put_le32(body, 3);
	put_le64(body + 4, UINT64_C(0x0102030405060708));
	put_le64(body + 12, UINT64_C(0x1112131415161718));
	control(out, VP_VR_GUEST, VP_T_BEACON, VP_B_CHALLENGE | VP_B_ECHO, 0,
		body, sizeof(body));
}

static struct vp_frame sequenced(uint8_t type, uint8_t flags, uint32_t seq,
				 uint32_t chain, uint32_t stream,
				 const void *body, size_t len)
{
	return (struct vp_frame){ .vr = VP_VR_HOST, .type = type,
				  .flags = flags, .epoch = keys().epoch,
				  .ack_chain = keys().epoch,
				  .seq = seq, .chain = chain, .stream = stream,
				  .body = body, .len = len };
}

static struct vp_frame open_frame(void)
{
	static const uint8_t body[] = "\xe8\x03\x00\x00" /* uid 1000 */
				      "\x64\x00\x00\x00" /* gid 100 */
				      "\xff\xff\xff\xff" /* pid unknown */
				      "\x09virtagent";

	return sequenced(VP_T_OPEN, 0, 0, keys().epoch, 2, body,
			 sizeof(body) - 1);
}

static struct vp_frame data_frame(void)
{
	struct vp_frame open = open_frame();

	return sequenced(VP_T_DATA, VP_F_FIN | VP_F_PUSH, 1,
			 vp_chain_next(keys().epoch, &open), 2, "GET\0\0", 5);
}

static void make_open(struct buf *out)
{
	struct vp_frame f = open_frame();

	CHECK_INT(vp_frame_put(out, &f), 0);
}

static void make_data(struct buf *out)
{
	struct vp_frame f = data_frame();

	CHECK_INT(vp_frame_put(out, &f), 0);
}

static void make_credit(struct buf *out)
{
	struct vp_frame f = sequenced(VP_T_CREDIT, 0, 2, 0x01020304, 0,
				      "\x01\0\0\0\0\x20\0\0"
				      "\x02\0\0\0\0\x30\0\0", 16);

	CHECK_INT(vp_frame_put(out, &f), 0);
}

static void make_rst(struct buf *out)
{
	struct vp_frame f = sequenced(VP_T_RST, 0, 3, 0x01020304, 1,
				      "\x02" "no such service", 16);

	CHECK_INT(vp_frame_put(out, &f), 0);
}

static void make_goaway(struct buf *out)
{
	struct vp_frame f = sequenced(VP_T_GOAWAY, 0, 4, 0x01020304, 0,
				      "\x07\0\0\0" "shutdown", 12);

	CHECK_INT(vp_frame_put(out, &f), 0);
}

static void make_compact(struct buf *out)
{
	struct vp_frame f = data_frame();

	CHECK_INT(vp_compact_put(out, &f, vp_chain_next(f.chain, &f), 0, true), 0);
}

static void make_shortest(struct buf *out)
{
	struct vp_frame f = data_frame();
	uint32_t chain = vp_chain_next(f.chain, &f);

	f = sequenced(VP_T_DATA, VP_F_DEFLATE, 2, chain, 2, "\x42\x05\x51\0", 4);
	f.ack = 0x12345;
	f.ack_chain = 0x0a0b0c0d;
	CHECK_INT(vp_compact_put(out, &f, vp_chain_next(chain, &f), 2, false), 0);
}

static void make_raw(struct buf *out)
{
	struct vp_frame f = sequenced(VP_T_DATA, VP_F_PUSH, 1, keys().epoch, 2,
				      NULL, 0);
	uint8_t slot[VP_RAW_HEAD + 8 + VP_RAW_TRAILER];

	memcpy(slot + VP_RAW_HEAD, "\0\x01 raw \0\xff", 8);
	f.len = 8;
	f.ack = 9;
	f.ack_chain = 0x0a0b0c0d;
	f.time = UINT64_C(123456789000);
	vp_raw_make(slot, &f, keys().seed);
	buf_put(out, slot, sizeof(slot));
}

static const struct example {
	const char *name, *text;
	void (*make)(struct buf *out);
} examples[] = {
	{ "hello", "a guest on a serial line, in no session", make_hello },
	{ "offer", "the host's answer", make_offer },
	{ "accept", "a guest on virtio-serial accepts", make_accept },
	{ "reset", "the host drops the session, reason 5, ack 7", make_reset },
	{ "ack", "the host expects number 7", make_ack },
	{ "nak", "the guest wants 7 and what follows again", make_nak },
	{ "beacon", "3 sent, nothing heard; a challenge and an echo",
	  make_beacon },
	{ "open", "serial, number 0, stream 2: virtagent, for uid 1000 gid 100",
	  make_open },
	{ "data", "serial, number 1: \"GET\\0\\0\", end of file, push",
	  make_data },
	{ "credit", "serial: stream 1 up to 8192, stream 2 up to 12288",
	  make_credit },
	{ "rst", "serial: stream 1, reason 2", make_rst },
	{ "goaway", "serial: nothing above stream 7 was taken up", make_goaway },
	{ "compact", "the frame of \"data\"", make_compact },
	{ "shortest", "compact, number 2: 4 bytes of deflate, ack 0x12345",
	  make_shortest },
	{ "raw", "virtio-serial, number 1: 8 bytes, ack 9, at 123.456789 s",
	  make_raw },
};

#define EXAMPLES (sizeof(examples) / sizeof(examples[0]))

static void print_example(const struct example *e, const struct buf *b)
{
	printf("  %s: %s", e->name, e->text);
	for (size_t i = 0; i < buf_len(b); i++)
		printf("%s%02x", i % 20 ? " " : "\n    ", buf_data(b)[i]);
	printf("\n\n");
}

/* The bytes of the example in PROTOCOL; fails where there are none. */
static void read_example(const char *name, struct buf *out)
{
	FILE *f = fopen(TOP_SRCDIR "/virtproxy/PROTOCOL", "r");
	char line[256], head[64];
	bool in = false;

	CHECK(f);
	snprintf(head, sizeof(head), "  %s: ", name);
	while (fgets(line, sizeof(line), f)) {
		char *at = line, *end;

		if (strncmp(line, head, strlen(head)) == 0) {
			in = true;
			continue;
		}
		if (in && strncmp(line, "    ", 4) != 0)
			break;
		while (in) {
			unsigned long v = strtoul(at, &end, 16);

			if (end == at)
				break;
			CHECK(v < 256);
			buf_put_u8(out, (uint8_t)v);
			at = end;
		}
	}
	fclose(f);
	if (!buf_len(out))
		unit_fail(__FILE__, __LINE__, "no example %s in PROTOCOL", name);
}

TEST(encoders_make_the_examples)
{
	for (size_t i = 0; i < EXAMPLES; i++) {
		CLEANUP_BUF struct buf made = BUF_INIT(EXAMPLE_MAX);
		CLEANUP_BUF struct buf want = BUF_INIT(EXAMPLE_MAX);

		examples[i].make(&made);
		if (getenv("VA_PROTOCOL_PRINT")) {
			print_example(&examples[i], &made);
			continue;
		}
		read_example(examples[i].name, &want);
		if (buf_len(&made) != buf_len(&want) ||
		    memcmp(buf_data(&made), buf_data(&want), buf_len(&made)))
			unit_fail(__FILE__, __LINE__, "example %s differs",
				  examples[i].name);
	}
}

struct seen {
	unsigned n;
	struct vp_frame f;
	uint8_t body[64];
};

static void see(void *arg, const struct vp_frame *f)
{
	struct seen *seen = arg;

	seen->n++;
	seen->f = *f;
	CHECK(f->len <= sizeof(seen->body));
	memcpy(seen->body, f->body, f->len);
}

static struct seen parse_example(const char *name, uint8_t own_vr, bool raw)
{
	CLEANUP_BUF struct buf b = BUF_INIT(EXAMPLE_MAX);
	uint64_t counters[VP_C_COUNT] = { 0 };
	struct seen seen = { 0 };
	struct vp_parser p = { .frame = see, .arg = &seen, .raw = raw,
			       .counters = counters, .own_vr = own_vr,
			       .seed = keys().seed,
			       .max_payload = VP_RAW_PAYLOAD };

	vp_parser_init(&p);
	read_example(name, &b);
	vp_parser_input(&p, buf_data(&b), buf_len(&b), 1);
	vp_parser_done(&p);
	CHECK_INT(counters[VP_C_NOISE_BYTES], 0);
	return seen;
}

TEST(parser_reads_the_examples)
{
	struct seen s = parse_example("hello", VP_VR_HOST, false);
	uint32_t after_open;

	CHECK_INT(s.n, 1);
	CHECK_INT(s.f.type, VP_T_HELLO);
	CHECK(get_le64(s.body + 7) == GUEST_NONCE);
	s = parse_example("beacon", VP_VR_HOST, true);
	CHECK_INT(s.n, 1);
	CHECK_INT(s.f.epoch, keys().epoch);
	CHECK_INT(s.f.tag, keys().tag);
	CHECK_INT(get_le32(s.body), 3);
	s = parse_example("open", VP_VR_GUEST, false);
	CHECK_INT(s.f.chain, keys().epoch);
	CHECK_MEM(s.body + 13, "virtagent", 9);
	s.f.body = s.body;
	after_open = vp_chain_next(s.f.chain, &s.f);
	s = parse_example("data", VP_VR_GUEST, false);
	CHECK_INT(s.f.chain, after_open);
	CHECK_INT(s.f.len, 5);
	CHECK_INT(s.f.flags, VP_F_FIN | VP_F_PUSH);
	s = parse_example("raw", VP_VR_GUEST, true);
	CHECK_INT(s.n, 1);
	CHECK_INT(s.f.ack, 9);
	CHECK(s.f.time == UINT64_C(123456789000));
	CHECK_MEM(s.body, "\0\x01 raw \0\xff", 8);
}

/* Our own role, and raw or serial frames where they do not belong. */
TEST(parser_takes_only_what_belongs_there)
{
	CHECK_INT(parse_example("hello", VP_VR_GUEST, false).n, 0);
	CHECK_INT(parse_example("open", VP_VR_HOST, false).n, 0);
	CHECK_INT(parse_example("raw", VP_VR_HOST, true).n, 0);
	CHECK_INT(parse_example("open", VP_VR_GUEST, true).n, 0);
}

UNIT_MAIN(CASE(encoders_make_the_examples), CASE(parser_reads_the_examples),
	  CASE(parser_takes_only_what_belongs_there))
