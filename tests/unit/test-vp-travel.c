/*
 * test-vp-travel.c - pauses, losses, restarts, and guests that are set back
 *
 * The simulator's checker (tests/lib/sim.h) stands behind every case: no byte of
 * one timeline follows bytes of another.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/sim.h"
#include "tests/lib/unit.h"

#define MSEC UINT64_C(1000000)
#define SEC UINT64_C(1000000000)

static const enum vp_channel channels[] = { VP_CHANNEL_SERIAL,
					    VP_CHANNEL_VIRTIO };

static struct sim *world(enum vp_channel channel, uint64_t seed)
{
	struct sim_config cfg = { .seed = seed, .channel = channel,
				  .start_seq = UINT32_MAX - 3 };
	struct sim *w = sim_new(&cfg);

	sim_both_up(w);
	return w;
}

static bool ended(struct sim *w, void *arg)
{
	int rec = *(int *)arg;

	return sim_state(w, rec, 0) != SIM_OPEN && sim_state(w, rec, 1) != SIM_OPEN;
}

static void expect_end(struct sim *w, int rec, enum sim_state state, uint64_t in)
{
	CHECK(rec >= 0);
	if (!sim_until(w, ended, &rec, in) || sim_state(w, rec, 0) != state ||
	    sim_state(w, rec, 1) != state)
		sim_fail(w, "stream %d: states %d %d, reasons %d %d", rec,
			 (int)sim_state(w, rec, 0), (int)sim_state(w, rec, 1),
			 sim_reason(w, rec, 0), sim_reason(w, rec, 1));
}

static void expect_service(struct sim *w)
{
	sim_both_up(w);
	expect_end(w, sim_open(w, SIM_HOST, 5000, 5000), SIM_DONE, 10 * SEC);
	expect_end(w, sim_open(w, SIM_GUEST, 5000, 5000), SIM_DONE, 10 * SEC);
}

/* F12: an hour of silence in mid-transfer ends nothing and piles up nothing. */
TEST(a_pause_of_an_hour_ends_nothing)
{
	for (int i = 0; i < 2; i++) {
		struct sim *w = world(channels[i], 1);
		int rec = sim_open(w, SIM_HOST, 200000, 200000);
		size_t before;

		sim_for(w, 2 * MSEC);
		sim_stall(w, SIM_HOST, true);
		sim_stall(w, SIM_GUEST, true);
		sim_for(w, 10 * SEC);
		before = sim_under_way(w, SIM_HOST);
		sim_for(w, 3600 * SEC);
		CHECK_INT(sim_under_way(w, SIM_HOST), before);
		CHECK_INT(sim_state(w, rec, 0), SIM_OPEN);
		sim_stall(w, SIM_HOST, false);
		sim_stall(w, SIM_GUEST, false);
		expect_end(w, rec, SIM_DONE, 30 * SEC);
		sim_free(w);
	}
}

/* F25: whatever was last - credit, ack, end of file, NAK - is lost. */
TEST(a_lost_tail_is_repaired_in_two_seconds)
{
	for (uint64_t seed = 1; seed < 60; seed++) {
		struct sim *w = world(channels[seed % 2], seed);
		int rec = sim_open(w, (int)(seed / 2 % 2), 60000, 60000);

		sim_for(w, seed * 211000);
		sim_outage(w, SIM_HOST, true);
		sim_outage(w, SIM_GUEST, true);
		sim_for(w, 300 * MSEC);
		sim_outage(w, SIM_HOST, false);
		sim_outage(w, SIM_GUEST, false);
		expect_end(w, rec, SIM_DONE, 3 * SEC);
		sim_free(w);
	}
}

/* F20, R28: the host comes and goes; the streams stay. */
TEST(a_session_outlives_its_transport)
{
	for (int i = 0; i < 2; i++) {
		struct sim *w = world(channels[i], 7);
		int rec = sim_open(w, SIM_HOST, 150000, 150000);

		for (int k = 0; k < 30 && sim_state(w, rec, 0) == SIM_OPEN; k++) {
			sim_for(w, 3 * MSEC);
			sim_detach(w, SIM_HOST);
			sim_for(w, (uint64_t)k * 20 * MSEC);
			sim_attach(w, SIM_HOST);
		}
		expect_end(w, rec, SIM_DONE, 60 * SEC);
		CHECK_INT(sim_counter(w, SIM_HOST, "sessions"), 1);
		sim_free(w);
	}
}

/* F8, F9, R29 */
TEST(a_restart_is_told_in_two_seconds)
{
	for (int i = 0; i < 4; i++) {
		struct sim *w = world(channels[i % 2], 3);
		int side = i / 2, rec = sim_open(w, !side, 90000000, 90000000);

		sim_for(w, 5 * MSEC);
		sim_restart(w, side);
		expect_end(w, rec, SIM_RESET, 2500 * MSEC);
		CHECK_INT(sim_reason(w, rec, !side), VP_RESET_PEER_RESTARTED);
		expect_service(w);
		sim_free(w);
	}
}

/* F15 without load: the next beacon gives it away. */
TEST(an_idle_rollback_is_seen_within_a_beacon)
{
	for (int i = 0; i < 4; i++) {
		struct sim *w = world(channels[i % 2], 3);
		int rec = sim_open(w, SIM_HOST, 10, 900000000);
		bool rest = i >= 2;
		uint64_t start;

		/* Open, with nothing under way. */
		sim_set_reading(w, rec, SIM_HOST, false);
		sim_for(w, rest ? 30 * SEC : 3 * SEC);
		sim_save(w);
		expect_end(w, sim_open(w, SIM_HOST, 10000, 10000), SIM_DONE,
			   10 * SEC);
		sim_for(w, rest ? 30 * SEC : 3 * SEC);
		sim_restore(w);
		start = sim_now(w);
		expect_end(w, rec, SIM_RESET, 10 * SEC);
		CHECK(sim_now(w) - start < (rest ? 2500 : 1500) * MSEC);
		CHECK_INT(sim_reason(w, rec, SIM_HOST), VP_RESET_ROLLED_BACK);
		CHECK_INT(sim_reason(w, rec, SIM_GUEST), VP_RESET_ROLLED_BACK);
		expect_service(w);
		sim_free(w);
	}
}

/*
 * F15 under load, R27b: the guest is set back and sends past what was received of
 * its other life before it hears anything.
 */
TEST(no_timeline_is_spliced_onto_another)
{
	unsigned chain_caught = 0, asked = 0;

	for (uint64_t seed = 1; seed <= 100; seed++) {
		struct sim *w = world(channels[seed % 2], seed);
		int rec = sim_open(w, (int)(seed / 2 % 2), 20000, 300000);
		int other = sim_open(w, SIM_GUEST, 300000, 100);

		sim_for(w, (seed % 50) * 20000);
		sim_stall(w, SIM_HOST, true);
		sim_save(w);
		sim_for(w, (seed % 23) * 10000);
		sim_restore(w);
		sim_for(w, (seed % 31) * 20000);
		sim_stall(w, SIM_HOST, false);
		sim_for(w, 5 * SEC);
		chain_caught += sim_counter(w, SIM_HOST, "rollbacks") > 0;
		/* A compact frame whose chain is another one only asks. */
		asked += sim_counter(w, SIM_HOST, "naks-out") > 0 &&
			 sim_counter(w, SIM_GUEST, "rollbacks") > 0;
		/* Reset at both ends or (nothing had diverged) at neither. */
		CHECK_INT(sim_state(w, rec, 0) == SIM_RESET,
			  sim_state(w, rec, 1) == SIM_RESET);
		CHECK_INT(sim_state(w, other, 0) == SIM_RESET,
			  sim_state(w, other, 1) == SIM_RESET);
		expect_service(w);
		sim_free(w);
	}
	printf("# %u of 100 caught by the host, %u by the guest it asked\n",
	       chain_caught, asked);
	CHECK(chain_caught + asked > 10);
}

/* F17: set back to before the session, or to another one. */
TEST(set_back_to_another_session)
{
	for (int i = 0; i < 2; i++) {
		struct sim *w = world(channels[i], 9);
		int rec;

		sim_save(w);
		vp_mux_reset_session(sim_mux(w, SIM_HOST), VP_RESET_SHUTDOWN,
				     sim_now(w));
		sim_for(w, SEC);
		expect_service(w);
		rec = sim_open(w, SIM_HOST, 10, 90000000);
		sim_for(w, 5 * MSEC);
		sim_restore(w);
		expect_end(w, rec, SIM_RESET, 3 * SEC);
		expect_service(w);
		sim_free(w);
	}
}

UNIT_MAIN(CASE(a_pause_of_an_hour_ends_nothing),
	  CASE(a_lost_tail_is_repaired_in_two_seconds),
	  CASE(a_session_outlives_its_transport),
	  CASE(a_restart_is_told_in_two_seconds),
	  CASE(an_idle_rollback_is_seen_within_a_beacon),
	  CASE(no_timeline_is_spliced_onto_another),
	  CASE(set_back_to_another_session))
