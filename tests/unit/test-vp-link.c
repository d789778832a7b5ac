/*
 * test-vp-link.c - a link against a peer that is played by hand
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/peer.h"
#include "tests/lib/unit.h"
#include "virtproxy/link.h"

#define MSEC UINT64_C(1000000)
#define SEC UINT64_C(1000000000)

static struct peer p;

static void connected(enum vp_role role, enum vp_channel channel)
{
	peer_init(&p, role, channel, NULL);
	peer_connect(&p);
}

/* R23: firmware and getty read the same line. */
TEST(host_is_silent_until_it_hears)
{
	peer_init(&p, VP_HOST, VP_CHANNEL_SERIAL, NULL);
	peer_wait(&p, 600 * SEC);
	CHECK_INT(p.bytes, 0);
	peer_bytes(&p, "\0login: \0 GRUB \0\x03\x18\x01\0", 20);
	peer_wait(&p, 600 * SEC);
	CHECK_INT(p.bytes, 0);
	CHECK(!vp_stream_open(p.mux, "s", NULL, NULL));
	CHECK_INT(errno, ENOTCONN);
	peer_done(&p);
}

TEST(host_probes_when_told_and_not_on_top_of_a_probe)
{
	struct vp_mux_config cfg = { .probe = true };

	peer_init(&p, VP_HOST, VP_CHANNEL_SERIAL, &cfg);
	peer_wait(&p, 4 * SEC);
	CHECK_INT(peer_count(&p, VP_T_HELLO), 1);
	CHECK(p.bytes <= 32 + 64); /* R5, R23 */
	peer_wait(&p, 10 * SEC);
	CHECK_INT(peer_count(&p, VP_T_HELLO), 3);
	vp_mux_set_unsent(p.mux, 40);
	peer_wait(&p, 60 * SEC);
	CHECK_INT(peer_count(&p, VP_T_HELLO), 3);
	peer_done(&p);
}

TEST(guest_speaks_first_behind_zeros)
{
	struct iovec iov[4];

	peer_init(&p, VP_GUEST, VP_CHANNEL_SERIAL, NULL);
	CHECK_INT(vp_mux_output(p.mux, iov, 4, 4096, p.now), 1);
	for (int i = 0; i < 32; i++)
		CHECK_INT(((uint8_t *)iov[0].iov_base)[i], 0);
	CHECK(iov[0].iov_len <= 32 + 64);
	peer_wait(&p, 60 * SEC);
	/* 1, 2, 2 ... s apart */
	CHECK(peer_count(&p, VP_T_HELLO) >= 28 && peer_count(&p, VP_T_HELLO) <= 32);
	peer_done(&p);
}

TEST(stale_handshakes_drop_no_session)
{
	connected(VP_HOST, VP_CHANNEL_SERIAL);
	peer_open(&p, 1, "s");
	/* A late repeat of our own, and somebody else's recording. */
	peer_handshake(&p, VP_T_HELLO, p.nonce, 0, 0);
	peer_handshake(&p, VP_T_HELLO, 0x1234, 0, 0);
	peer_handshake(&p, VP_T_ACCEPT, 0x1234, 0x999, 0);
	peer_handshake(&p, VP_T_ACCEPT, p.nonce, 0x999, 0);
	peer_pump(&p);
	CHECK(peer_count(&p, VP_T_OFFER) >= 1);
	CHECK_INT(p.downs, 0);
	/* Who echoes what was just drawn is really there. */
	peer_handshake(&p, VP_T_ACCEPT, 0x1234, p.other, 0);
	CHECK_INT(p.downs, 1);
	CHECK_INT(p.sessions, 2);
	CHECK_INT(p.last_reason, VP_RESET_PEER_RESTARTED);
	peer_done(&p);
	connected(VP_GUEST, VP_CHANNEL_SERIAL);
	peer_handshake(&p, VP_T_OFFER, 0x5555, p.other, 0);
	peer_handshake(&p, VP_T_OFFER, 0x5555, 0x1, 0);
	CHECK_INT(p.downs, 0);
	/* The host lost the session, asks, and is answered with a new nonce. */
	peer_handshake(&p, VP_T_HELLO, 0, 0, 0);
	peer_pump(&p);
	CHECK(peer_count(&p, VP_T_HELLO) >= 1);
	peer_handshake(&p, VP_T_OFFER, 0x5555, p.other, 0);
	CHECK_INT(p.downs, 1);
	CHECK_INT(p.sessions, 2);
	peer_done(&p);
}

/* R34 */
TEST(newer_peers_are_understood)
{
	static const uint8_t junk[40] = "from the future";
	struct vp_frame future = { .vr = 0x28, .type = VP_T_ACK,
				   .body = junk, .len = 30 };

	peer_init(&p, VP_HOST, VP_CHANNEL_SERIAL, NULL);
	p.version = 9;
	p.features = 0xfffffffe;
	peer_handshake(&p, VP_T_HELLO, p.nonce, 0, 100);
	peer_connect(&p);
	peer_say(&p, &future);			    /* another layout */
	peer_control(&p, 0x0e, 0xff, junk, 40);	    /* unknown control */
	peer_sequenced(&p, 0x1d, 0x7e, 9, junk, 40); /* counts */
	peer_open(&p, 1, "s");
	peer_sequenced(&p, VP_T_DATA, 0x7c, 1, "hello", 5);
	peer_sequenced(&p, VP_T_CREDIT, 0, 0, junk, 7); /* short: nothing */
	peer_control(&p, VP_T_ACK, 0xf0, junk, 20);
	CHECK_INT(p.opened, 1);
	CHECK_INT(p.delivered, 5);
	CHECK_INT(p.downs, 0);
	CHECK_INT(peer_counter(&p, "skipped"), 2);
	peer_done(&p);
}

TEST(limits_are_negotiated_downwards)
{
	size_t under_way = 0;

	peer_init(&p, VP_HOST, VP_CHANNEL_SERIAL, NULL);
	p.payload = 128;
	p.window = 1024;
	p.streams = 2;
	p.credit = 100000;
	peer_connect(&p);
	CHECK(vp_stream_open(p.mux, "a", NULL, NULL));
	p.no_acks = true;
	p.has = 100000;
	vp_stream_ready(vp_stream_open(p.mux, "b", NULL, NULL));
	CHECK(!vp_stream_open(p.mux, "c", NULL, NULL));
	CHECK_INT(errno, EMFILE);
	peer_pump(&p);
	for (unsigned i = 0; i < p.n; i++) {
		CHECK(p.frames[i].f.len <= 128);
		under_way += p.frames[i].f.len;
	}
	CHECK(under_way > 128 && under_way <= 1024);
	peer_done(&p);
}

TEST(nonsense_limits_are_refused)
{
	peer_init(&p, VP_HOST, VP_CHANNEL_SERIAL, NULL);
	p.payload = 127;
	peer_handshake(&p, VP_T_HELLO, p.nonce, 0, 0);
	p.payload = 512;
	p.window = 0;
	peer_handshake(&p, VP_T_HELLO, p.nonce, 0, 0);
	p.window = 16384;
	p.credit = 0;
	peer_handshake(&p, VP_T_HELLO, p.nonce, 0, 0);
	p.credit = 4096;
	p.streams = 0;
	peer_handshake(&p, VP_T_HELLO, p.nonce, 0, 0);
	p.streams = 1;
	p.version = 0;
	peer_handshake(&p, VP_T_HELLO, p.nonce, 0, 0);
	peer_handshake(&p, VP_T_HELLO, 0, 0, 0);
	peer_pump(&p);
	CHECK_INT(peer_count(&p, VP_T_OFFER), 0);
	CHECK_INT(peer_counter(&p, "protocol-errors"), 6);
	peer_done(&p);
}

TEST(acks_wait_for_company_but_not_for_long)
{
	connected(VP_HOST, VP_CHANNEL_SERIAL);
	peer_open(&p, 1, "s");
	peer_pump(&p);
	CHECK_INT(p.n, 0);
	peer_wait(&p, 19 * MSEC);
	CHECK_INT(p.n, 0);
	peer_wait(&p, 2 * MSEC);
	CHECK_INT(peer_count(&p, VP_T_ACK), 1);
	CHECK_INT(p.frames[0].f.ack, 1);
	peer_forget(&p);
	/* At once when the sender asks; not at all when data goes anyway. */
	peer_sequenced(&p, VP_T_DATA, VP_F_PUSH, 1, "x", 1);
	peer_pump(&p);
	CHECK_INT(peer_count(&p, VP_T_ACK), 1);
	peer_forget(&p);
	peer_sequenced(&p, VP_T_DATA, VP_F_PUSH, 1, "x", 1);
	p.has = 10;
	vp_stream_ready(p.stream);
	peer_wait(&p, 100 * MSEC);
	CHECK_INT(peer_count(&p, VP_T_DATA), 1);
	CHECK_INT(peer_count(&p, VP_T_ACK), 0);
	CHECK_INT(p.frames[0].f.ack, 3);
	CHECK_INT(p.writes, 1);
	peer_done(&p);
}

TEST(a_gap_is_answered_with_one_nak)
{
	connected(VP_HOST, VP_CHANNEL_VIRTIO);
	peer_open(&p, 1, "s");
	peer_pump(&p);
	peer_forget(&p);
	p.seq++; /* lost */
	for (int i = 0; i < 5; i++)
		peer_sequenced(&p, VP_T_DATA, 0, 1, "x", 1);
	peer_pump(&p);
	CHECK_INT(peer_count(&p, VP_T_NAK), 1);
	CHECK_INT(p.frames[0].f.ack, 1);
	CHECK_INT(p.delivered, 0);
	/* It starts over, and loses the same one again. */
	p.seq = 2;
	peer_sequenced(&p, VP_T_DATA, 0, 1, "x", 1);
	peer_pump(&p);
	CHECK_INT(peer_count(&p, VP_T_NAK), 2);
	peer_done(&p);
}

TEST(a_nak_brings_what_is_missing_and_no_more)
{
	unsigned all;

	connected(VP_HOST, VP_CHANNEL_SERIAL);
	p.no_acks = true;
	peer_have_sent(&p, 2000);
	all = p.n;
	CHECK(all >= 5);
	/* The first two have arrived. */
	for (unsigned i = 0; i < 2; i++)
		p.ack_chain = vp_chain_next(p.ack_chain, &p.frames[i].f);
	p.ack = 2;
	peer_forget(&p);
	peer_control(&p, VP_T_NAK, 0, NULL, 0);
	peer_pump(&p);
	CHECK_INT(p.n, all - 2);
	CHECK_INT(p.frames[0].f.seq, 2);
	peer_done(&p);
}

/* R10: a paused guest must not find a pile of copies. */
TEST(a_timeout_sends_one_probe_not_the_window)
{
	uint64_t token;

	connected(VP_HOST, VP_CHANNEL_SERIAL);
	p.no_acks = true;
	peer_have_sent(&p, 2000);
	peer_forget(&p);
	vp_mux_set_unsent(p.mux, 1);
	peer_wait(&p, 3600 * SEC);
	CHECK_INT(p.bytes, 0);
	vp_mux_set_unsent(p.mux, 0);
	peer_wait(&p, 1500 * MSEC);
	CHECK_INT(peer_count(&p, VP_T_OPEN) + peer_count(&p, VP_T_DATA), 0);
	CHECK(peer_count(&p, VP_T_BEACON) >= 1);
	peer_wait(&p, 60 * SEC);
	CHECK_INT(peer_count(&p, VP_T_OPEN) + peer_count(&p, VP_T_DATA), 0);
	CHECK(peer_counter(&p, "probes") <= 16);
	/* R20: nothing has ended. */
	CHECK_INT(p.closed, 0);
	CHECK_INT(p.downs, 0);
	token = get_le64(peer_heard(&p, VP_T_BEACON, 0)->body + 4);
	peer_forget(&p);
	peer_beacon(&p, 0, 0, token);
	peer_pump(&p);
	CHECK_INT(peer_count(&p, VP_T_OPEN), 1);
	CHECK(peer_count(&p, VP_T_DATA) >= 4);
	peer_done(&p);
}

static bool challenged(void)
{
	const struct peer_frame *f = peer_heard(&p, VP_T_BEACON, 0);

	return f && f->f.flags & VP_B_CHALLENGE;
}

/* The challenges of a long silence are seconds apart; who is heard again is asked
 * at once, and does not get one for each beacon that crossed it. */
TEST(who_is_back_is_asked_at_once)
{
	connected(VP_GUEST, VP_CHANNEL_SERIAL);
	p.no_acks = true;
	peer_have_sent(&p, 2000);
	peer_wait(&p, 60 * SEC);
	do {
		peer_forget(&p);
		peer_wait(&p, 100 * MSEC);
	} while (!challenged());
	peer_wait(&p, 400 * MSEC); /* the next one is 5 s away */
	peer_forget(&p);
	peer_beacon(&p, 0, 0, 0);
	peer_pump(&p);
	CHECK(challenged());
	peer_forget(&p);
	peer_beacon(&p, 0, 0, 0);
	peer_pump(&p);
	CHECK_INT(peer_count(&p, VP_T_BEACON), 0);
	peer_done(&p);
}

static void expect_rollback(unsigned downs)
{
	const struct peer_frame *f;

	peer_pump(&p);
	CHECK_INT(p.downs, downs);
	f = peer_heard(&p, VP_T_RESET, 0);
	CHECK(f && f->body[0] == VP_RESET_ROLLED_BACK);
	CHECK_INT(peer_counter(&p, "rollbacks"), 1);
	peer_done(&p);
}

TEST(rollback_shows_in_an_ack_of_what_was_not_sent)
{
	connected(VP_HOST, VP_CHANNEL_VIRTIO);
	p.ack = 3;
	peer_control(&p, VP_T_ACK, 0, NULL, 0);
	expect_rollback(1);
}

TEST(rollback_shows_in_the_chain)
{
	connected(VP_HOST, VP_CHANNEL_VIRTIO);
	peer_open(&p, 1, "s");
	p.chain ^= 1;
	peer_sequenced(&p, VP_T_DATA, 0, 1, "new life", 8);
	CHECK_INT(p.delivered, 0);
	CHECK_INT(p.last_reason, VP_RESET_ROLLED_BACK);
	expect_rollback(1);
}

TEST(rollback_shows_in_the_chain_of_an_ack)
{
	connected(VP_HOST, VP_CHANNEL_VIRTIO);
	p.no_acks = true;
	peer_have_sent(&p, 100);
	p.ack = 1;
	p.ack_chain ^= 1;
	peer_control(&p, VP_T_ACK, 0, NULL, 0);
	expect_rollback(1);
}

TEST(an_ack_that_goes_back_is_challenged)
{
	uint32_t chain0;
	uint64_t token;

	connected(VP_HOST, VP_CHANNEL_VIRTIO);
	chain0 = p.ack_chain;
	peer_have_sent(&p, 100);
	peer_control(&p, VP_T_ACK, 0, NULL, 0);
	/* A repeat of an old frame: suspicious, no more. */
	p.ack = 0;
	p.ack_chain = chain0;
	peer_forget(&p);
	peer_control(&p, VP_T_ACK, 0, NULL, 0);
	/* Not taken either: who sends this has forgotten something. */
	peer_open(&p, 1, "s");
	CHECK_INT(p.opened, 0);
	peer_pump(&p);
	CHECK_INT(p.downs, 0);
	CHECK_INT(peer_count(&p, VP_T_BEACON), 1);
	CHECK(p.frames[0].f.flags & VP_B_CHALLENGE);
	token = get_le64(p.frames[0].body + 4);
	peer_beacon(&p, 1, 0, token ^ 1);
	CHECK_INT(p.downs, 0);
	peer_beacon(&p, 1, 0, token);
	expect_rollback(1);
}

TEST(reset_of_the_peer_ends_the_session_with_its_reason)
{
	connected(VP_HOST, VP_CHANNEL_SERIAL);
	peer_open(&p, 1, "s");
	peer_control(&p, VP_T_RESET, 0, "\x07", 1);
	CHECK_INT(p.downs, 1);
	CHECK_INT(p.last_reason, VP_RESET_SHUTDOWN);
	/* Again, as a repeat: of no session any more. */
	peer_control(&p, VP_T_RESET, 0, "\x07", 1);
	CHECK_INT(p.downs, 1);
	peer_done(&p);
}

/* R24 */
TEST(host_bursts_are_multiples_of_the_trigger)
{
	connected(VP_HOST, VP_CHANNEL_SERIAL);
	for (size_t n = 1; n < 600; n += 37) {
		peer_forget(&p);
		peer_have_sent(&p, n);
		CHECK_INT(p.bytes % 8, 0);
	}
	peer_done(&p);
	/* A guest whose UART triggers at 14. */
	peer_init(&p, VP_HOST, VP_CHANNEL_SERIAL, NULL);
	p.features = VP_FEATURE_TRIGGER_14;
	peer_connect(&p);
	peer_have_sent(&p, 1); /* the first burst makes up for those before */
	for (size_t n = 1; n < 600; n += 37) {
		peer_forget(&p);
		peer_have_sent(&p, n);
		CHECK_INT(p.bytes % 14, 0);
	}
	peer_done(&p);
	connected(VP_GUEST, VP_CHANNEL_SERIAL);
	peer_forget(&p);
	peer_have_sent(&p, 3);
	CHECK(p.bytes % 8);
	peer_done(&p);
}

static uint32_t offered_features(unsigned trigger)
{
	uint32_t features;

	peer_init(&p, VP_GUEST, VP_CHANNEL_SERIAL, NULL);
	vp_mux_detach(p.mux, p.now);
	vp_mux_set_trigger(p.mux, trigger);
	vp_mux_attach(p.mux, p.now);
	peer_pump(&p);
	CHECK(peer_count(&p, VP_T_HELLO) >= 1);
	features = get_le32(peer_heard(&p, VP_T_HELLO, 0)->body + 3);
	peer_done(&p);
	return features;
}

TEST(guest_says_where_its_uart_triggers)
{
	CHECK_INT(offered_features(0) & VP_FEATURE_TRIGGER_14, 0);
	CHECK_INT(offered_features(8) & VP_FEATURE_TRIGGER_14, 0);
	CHECK_INT(offered_features(14) & VP_FEATURE_TRIGGER_14,
		  VP_FEATURE_TRIGGER_14);
}

/* R17, R19 */
TEST(silence_brings_beacons_and_reconnects_only)
{
	uint64_t wait = 3 * SEC, before;

	connected(VP_HOST, VP_CHANNEL_VIRTIO);
	vp_mux_set_unsent(p.mux, 0);
	peer_wait(&p, 2900 * MSEC);
	CHECK_INT(peer_count(&p, VP_T_BEACON), 2);
	CHECK(p.bytes < 100);
	CHECK(!vp_mux_wants_reconnect(p.mux, p.now));
	peer_wait(&p, 200 * MSEC);
	CHECK(vp_mux_wants_reconnect(p.mux, p.now));
	for (int i = 0; i < 6; i++) {
		vp_mux_detach(p.mux, p.now);
		vp_mux_attach(p.mux, p.now);
		before = p.now;
		while (!vp_mux_wants_reconnect(p.mux, p.now))
			peer_wait(&p, 100 * MSEC);
		CHECK(p.now - before >= wait && p.now - before <= 30100 * MSEC);
		wait = wait > 15 * SEC ? 30 * SEC : 2 * wait;
	}
	CHECK_INT(p.downs, 0);
	peer_beacon(&p, 0, 0, 0);
	CHECK(!vp_mux_wants_reconnect(p.mux, p.now));
	peer_done(&p);
}

/* PROTOCOL 7.4 */
static unsigned beacons_in(uint64_t ns)
{
	peer_forget(&p);
	peer_wait(&p, ns);
	return peer_count(&p, VP_T_BEACON);
}

/* The same while the peer is heard each second. */
static unsigned beacons_beside(unsigned seconds)
{
	peer_forget(&p);
	for (unsigned i = 0; i < seconds; i++) {
		peer_wait(&p, SEC);
		peer_beacon(&p, p.seq, 0, 0);
	}
	return peer_count(&p, VP_T_BEACON);
}

TEST(a_guest_at_rest_sends_half_the_beacons_if_the_host_knows)
{
	for (int knows = 0; knows < 2; knows++) {
		unsigned n;

		peer_init(&p, VP_GUEST, VP_CHANNEL_VIRTIO, NULL);
		p.features = knows ? VP_FEATURE_REST : 0;
		peer_connect(&p);
		n = beacons_beside(10);
		CHECK(n >= 9 && n <= 10);
		n = beacons_beside(20);
		CHECK(knows ? n >= 9 && n <= 11 : n >= 19 && n <= 21);
		/* Something goes: the pace of old, within a beacon. */
		peer_open(&p, 2, "s");
		peer_wait(&p, 2 * SEC);
		n = beacons_beside(8);
		CHECK(n >= 7 && n <= 9);
		peer_done(&p);
	}
}

/* Seconds between the last two beacons of ours, up to 40, beside a peer that is heard. */
static unsigned beacon_gap(void)
{
	unsigned gap = 0;

	while (!beacons_beside(1) && gap < 40)
		gap++;
	for (gap = 1; !beacons_beside(1) && gap < 40; gap++)
		;
	return gap;
}

TEST(a_link_rests_long_if_the_host_has_many)
{
	for (int many = 0; many < 2; many++) {
		peer_init(&p, VP_GUEST, VP_CHANNEL_VIRTIO, NULL);
		p.features = VP_FEATURE_REST | (many ? VP_FEATURE_LONG_REST : 0);
		peer_connect(&p);
		beacons_beside(60);
		CHECK_INT(beacon_gap(), many ? 16 : 2);
		/* A host answers each, and is not taken for gone between them. */
		peer_forget(&p);
		for (int i = 0; many && i < 4; i++) {
			peer_wait(&p, 16 * SEC);
			peer_beacon(&p, p.seq, 0, 0);
		}
		CHECK_INT(peer_count(&p, VP_T_HELLO), 0);
		CHECK(!many || peer_count(&p, VP_T_BEACON) >= 3);
		/* Its end does not wait for the beacon that is 16 seconds away. */
		peer_open(&p, 2, "s");
		CHECK(beacons_beside(2) >= 1);
		CHECK_INT(beacon_gap(), 1);
		peer_done(&p);
	}
}

TEST(a_serial_link_never_rests_long)
{
	peer_init(&p, VP_GUEST, VP_CHANNEL_SERIAL, NULL);
	p.features = VP_FEATURE_REST | VP_FEATURE_LONG_REST;
	peer_connect(&p);
	beacons_beside(60);
	CHECK_INT(beacon_gap(), 2);
	peer_done(&p);
}

TEST(a_host_of_many_is_patient_until_it_wants_something)
{
	struct vp_mux_config cfg = { .long_rest = true };

	peer_init(&p, VP_HOST, VP_CHANNEL_VIRTIO, &cfg);
	p.features = VP_FEATURE_REST | VP_FEATURE_LONG_REST;
	peer_connect(&p);
	for (unsigned i = 0; i < 60; i++) {
		peer_wait(&p, SEC);
		peer_beacon(&p, p.seq, 0, 0);
	}
	CHECK_INT(vp_mux_grace(p.mux), 15 * SEC);
	CHECK(beacons_in(15900 * MSEC) <= 1);
	CHECK(!vp_mux_wants_reconnect(p.mux, p.now));
	peer_wait(&p, 2200 * MSEC);
	CHECK(vp_mux_wants_reconnect(p.mux, p.now));
	peer_beacon(&p, p.seq, 0, 0);
	peer_wait(&p, 14 * SEC);
	CHECK(!vp_mux_wants_reconnect(p.mux, p.now));
	/* A call: the peer has the usual three seconds for it. */
	CHECK(vp_stream_open(p.mux, "s", NULL, NULL));
	peer_wait(&p, 2900 * MSEC);
	CHECK(!vp_mux_wants_reconnect(p.mux, p.now));
	peer_wait(&p, 200 * MSEC);
	CHECK(vp_mux_wants_reconnect(p.mux, p.now));
	CHECK_INT(p.downs, 0);
	peer_done(&p);
}

TEST(a_guest_that_is_alone_says_hello_each_two_seconds)
{
	unsigned n;

	connected(VP_GUEST, VP_CHANNEL_SERIAL);
	n = beacons_in(4500 * MSEC);
	CHECK_INT(n, 4);
	peer_wait(&p, SEC);
	n = beacons_in(20 * SEC);
	CHECK_INT(n, 0);
	n = peer_count(&p, VP_T_HELLO);
	CHECK(n >= 9 && n <= 11);
	peer_beacon(&p, 0, 0, 0);
	n = beacons_beside(8);
	CHECK(n >= 7 && n <= 9);
	CHECK_INT(p.downs, 0);
	peer_done(&p);
}

TEST(a_host_at_rest_answers_each_beacon_and_is_more_patient)
{
	peer_init(&p, VP_HOST, VP_CHANNEL_VIRTIO, NULL);
	p.features = VP_FEATURE_REST;
	peer_connect(&p);
	for (int i = 0; i < 15; i++) {
		peer_wait(&p, SEC);
		peer_beacon(&p, 0, 0, 0);
	}
	peer_wait(&p, 2 * SEC); /* one goes unasked, then it is in step */
	peer_beacon(&p, 0, 0, 0);
	for (int i = 0; i < 5; i++) {
		CHECK_INT(beacons_in(1900 * MSEC), 0);
		peer_beacon(&p, 0, 0, 0);
		CHECK_INT(beacons_in(100 * MSEC), 1);
	}
	peer_wait(&p, 3700 * MSEC);
	CHECK(!vp_mux_wants_reconnect(p.mux, p.now));
	peer_wait(&p, 300 * MSEC);
	CHECK(vp_mux_wants_reconnect(p.mux, p.now));
	/* A new attachment is not at rest. */
	vp_mux_detach(p.mux, p.now);
	vp_mux_attach(p.mux, p.now);
	peer_beacon(&p, 0, 0, 0);
	peer_wait(&p, 3100 * MSEC);
	CHECK(vp_mux_wants_reconnect(p.mux, p.now));
	peer_done(&p);
}

UNIT_MAIN(CASE(host_is_silent_until_it_hears),
	  CASE(host_probes_when_told_and_not_on_top_of_a_probe),
	  CASE(guest_speaks_first_behind_zeros),
	  CASE(stale_handshakes_drop_no_session),
	  CASE(newer_peers_are_understood),
	  CASE(limits_are_negotiated_downwards),
	  CASE(nonsense_limits_are_refused),
	  CASE(acks_wait_for_company_but_not_for_long),
	  CASE(a_gap_is_answered_with_one_nak),
	  CASE(a_nak_brings_what_is_missing_and_no_more),
	  CASE(a_timeout_sends_one_probe_not_the_window),
	  CASE(who_is_back_is_asked_at_once),
	  CASE(rollback_shows_in_an_ack_of_what_was_not_sent),
	  CASE(rollback_shows_in_the_chain),
	  CASE(rollback_shows_in_the_chain_of_an_ack),
	  CASE(an_ack_that_goes_back_is_challenged),
	  CASE(reset_of_the_peer_ends_the_session_with_its_reason),
	  CASE(host_bursts_are_multiples_of_the_trigger),
	  CASE(guest_says_where_its_uart_triggers),
	  CASE(silence_brings_beacons_and_reconnects_only),
	  CASE(a_guest_at_rest_sends_half_the_beacons_if_the_host_knows),
	  CASE(a_link_rests_long_if_the_host_has_many),
	  CASE(a_serial_link_never_rests_long),
	  CASE(a_host_of_many_is_patient_until_it_wants_something),
	  CASE(a_guest_that_is_alone_says_hello_each_two_seconds),
	  CASE(a_host_at_rest_answers_each_beacon_and_is_more_patient))
