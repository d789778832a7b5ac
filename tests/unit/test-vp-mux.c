/*
 * test-vp-mux.c - streams over a channel that behaves
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>

#include "tests/lib/sim.h"
#include "tests/lib/unit.h"
#include "virtproxy/link.h"

#define MSEC UINT64_C(1000000)
#define SEC UINT64_C(1000000000)

static const enum vp_channel channels[] = { VP_CHANNEL_SERIAL,
					    VP_CHANNEL_VIRTIO };

static struct sim *world_of(const struct sim_config *cfg)
{
	struct sim *w = sim_new(cfg);

	sim_both_up(w);
	return w;
}

static struct sim *world(enum vp_channel channel)
{
	return world_of(&(struct sim_config){ .seed = 1, .channel = channel });
}

struct wait {
	int rec, side;
	enum sim_state state;
	uint32_t bytes;
};

static bool both_in_state(struct sim *w, void *arg)
{
	struct wait *wait = arg;

	return sim_state(w, wait->rec, 0) == wait->state &&
	       sim_state(w, wait->rec, 1) == wait->state;
}

static bool has_bytes(struct sim *w, void *arg)
{
	struct wait *wait = arg;

	return sim_received(w, wait->rec, wait->side) >= wait->bytes;
}

static void wait_both(struct sim *w, int rec, enum sim_state state)
{
	struct wait wait = { .rec = rec, .state = state };

	CHECK(rec >= 0);
	if (!sim_until(w, both_in_state, &wait, 60 * SEC))
		sim_fail(w, "stream %d: states %d %d", rec,
			 (int)sim_state(w, rec, 0), (int)sim_state(w, rec, 1));
}

static void wait_bytes(struct sim *w, int rec, int side, uint32_t bytes)
{
	struct wait wait = { .rec = rec, .side = side, .bytes = bytes };

	CHECK(rec >= 0);
	if (!sim_until(w, has_bytes, &wait, 60 * SEC))
		sim_fail(w, "stream %d: %u of %u bytes", rec,
			 sim_received(w, rec, side), bytes);
}

TEST(bytes_arrive_both_ways)
{
	for (int i = 0; i < 2; i++) {
		struct sim *w = world(channels[i]);

		for (int side = 0; side < 2; side++) {
			wait_both(w, sim_open(w, side, 100000, 100), SIM_DONE);
			wait_both(w, sim_open(w, side, 0, 30000), SIM_DONE);
			wait_both(w, sim_open(w, side, 0, 0), SIM_DONE);
			CHECK_INT(sim_counter(w, side, "retransmits"), 0);
			CHECK_INT(sim_counter(w, side, "noise-bytes"), 0);
			CHECK_INT(sim_counter(w, side, "suspicions"), 0);
		}
		sim_check_all(w);
		sim_free(w);
	}
}

/* One direction ends; the other goes on for as long as it likes. */
TEST(directions_end_independently)
{
	for (int i = 0; i < 2; i++) {
		struct sim *w = world(channels[i]);
		int rec = sim_open(w, SIM_HOST, 10, 2000000);

		sim_set_reading(w, rec, SIM_HOST, false);
		wait_bytes(w, rec, SIM_GUEST, 10);
		sim_for(w, 100 * SEC);
		CHECK_INT(sim_state(w, rec, SIM_GUEST), SIM_OPEN);
		sim_set_reading(w, rec, SIM_HOST, true);
		wait_both(w, rec, SIM_DONE);
		sim_free(w);
	}
}

/* F23: a stream that is never read costs its credit and nothing else. */
TEST(an_unread_stream_stops_no_other)
{
	for (int i = 0; i < 2; i++) {
		struct sim *w = world(channels[i]);
		int stuck = sim_open(w, SIM_HOST, 3000000, 0), rec[40];

		sim_set_reading(w, stuck, SIM_GUEST, false);
		sim_for(w, SEC);
		for (int k = 0; k < 40; k++)
			rec[k] = sim_open(w, k % 2, 40000, 40000);
		for (int k = 0; k < 40; k++)
			wait_both(w, rec[k], SIM_DONE);
		CHECK_INT(sim_received(w, stuck, SIM_GUEST), 0);
		CHECK(sim_counter(w, SIM_GUEST, "held-bytes") > 0);
		CHECK(sim_counter(w, SIM_GUEST, "held-bytes") <=
		      vp_params_of(channels[i])->credit);
		sim_set_reading(w, stuck, SIM_GUEST, true);
		wait_both(w, stuck, SIM_DONE);
		CHECK_INT(sim_counter(w, SIM_GUEST, "held-bytes"), 0);
		sim_free(w);
	}
}

/* F24: both sides have more to write than fits anywhere. */
TEST(both_sides_write_at_once)
{
	for (int i = 0; i < 2; i++) {
		struct sim_config cfg = { .seed = 1, .channel = channels[i],
					  .pipe_size = 64 };
		struct sim *w = world_of(&cfg);
		int rec[16];

		for (int k = 0; k < 16; k++)
			rec[k] = sim_open(w, k % 2, 50000, 50000);
		for (int k = 0; k < 16; k++)
			wait_both(w, rec[k], SIM_DONE);
		sim_free(w);
	}
}

TEST(limit_of_streams_is_refused_not_queued)
{
	struct sim_config cfg = { .seed = 1, .channel = VP_CHANNEL_SERIAL,
				  .max_streams = 4 };
	struct sim *w = world_of(&cfg);

	for (int k = 0; k < 4; k++) {
		int rec = sim_open(w, SIM_HOST, 1000, 1000);

		CHECK(rec >= 0);
		sim_set_reading(w, rec, SIM_GUEST, false);
	}
	CHECK_INT(sim_open(w, SIM_HOST, 1, 1), -1);
	CHECK_INT(errno, EMFILE);
	sim_for(w, SEC);
	/* The guest counts the same four. */
	CHECK_INT(sim_open(w, SIM_GUEST, 1, 1), -1);
	for (int k = 0; k < 4; k++)
		sim_set_reading(w, k, SIM_GUEST, true);
	for (int k = 0; k < 4; k++)
		wait_both(w, k, SIM_DONE);
	wait_both(w, sim_open(w, SIM_GUEST, 1, 1), SIM_DONE);
	sim_free(w);
}

TEST(goaway_stops_new_streams_only)
{
	struct sim *w = world(VP_CHANNEL_VIRTIO);
	int rec = sim_open(w, SIM_HOST, 500000, 500000), late;

	wait_bytes(w, rec, SIM_GUEST, 1);
	vp_mux_goaway(sim_mux(w, SIM_HOST), "upgrade");
	/* Opened before the guest can know. */
	late = sim_open(w, SIM_GUEST, 10, 10);
	wait_both(w, rec, SIM_DONE);
	CHECK_INT(sim_state(w, late, SIM_GUEST), SIM_RESET);
	CHECK_INT(sim_reason(w, late, SIM_GUEST), VP_RESET_REFUSED);
	CHECK_INT(sim_state(w, late, SIM_HOST), SIM_NONE);
	CHECK_INT(sim_open(w, SIM_GUEST, 1, 1), -1);
	CHECK_INT(errno, ENOTCONN);
	sim_free(w);
}

static bool longest_heard(struct sim *w, void *arg)
{
	return strlen(sim_why(w, SIM_HOST)) == VP_FAREWELL_MAX;
}

TEST(a_farewell_tells_the_peer_why)
{
	for (int i = 0; i < 2; i++) {
		struct sim *w = world(channels[i]);
		int rec = sim_open(w, SIM_HOST, 500000, 500000);
		char longest[200];

		wait_bytes(w, rec, SIM_GUEST, 1);
		vp_mux_goaway(sim_mux(w, SIM_GUEST), "stopped: by a test\n");
		vp_mux_reset_session(sim_mux(w, SIM_GUEST), VP_RESET_SHUTDOWN,
				     sim_now(w));
		wait_both(w, rec, SIM_RESET);
		CHECK_STR(sim_why(w, SIM_HOST), "stopped: by a test?");
		/* The longest there is; the next session's end says its own. */
		sim_both_up(w);
		memset(longest, 'x', sizeof(longest) - 1);
		longest[sizeof(longest) - 1] = 0;
		vp_mux_goaway(sim_mux(w, SIM_GUEST), longest);
		vp_mux_reset_session(sim_mux(w, SIM_GUEST), VP_RESET_SHUTDOWN,
				     sim_now(w));
		CHECK(sim_until(w, longest_heard, NULL, 30 * SEC));
		sim_free(w);
	}
}

static bool idle(struct sim *w, void *arg)
{
	return vp_mux_is_idle(sim_mux(w, SIM_HOST));
}

TEST(quiesce_holds_both_sides_still)
{
	for (int i = 0; i < 2; i++) {
		struct sim *w = world(channels[i]);
		int rec = sim_open(w, SIM_HOST, 300000, 300000);
		uint32_t there;
		uint64_t retransmits;

		wait_bytes(w, rec, SIM_GUEST, 1000);
		vp_mux_quiesce(sim_mux(w, SIM_HOST), true);
		CHECK(!idle(w, NULL));
		CHECK(sim_until(w, idle, NULL, 3 * SEC));
		/* R32: now nothing is lost or repeated by a rollback. */
		sim_save(w);
		sim_for(w, 2 * SEC); /* what was kept is read, no more comes */
		there = sim_received(w, rec, SIM_HOST);
		sim_for(w, 2 * SEC);
		sim_restore(w);
		sim_for(w, 2 * SEC);
		CHECK_INT(sim_received(w, rec, SIM_HOST), there);
		vp_mux_quiesce(sim_mux(w, SIM_HOST), false);
		wait_both(w, rec, SIM_DONE);
		retransmits = sim_counter(w, SIM_GUEST, "retransmits");
		CHECK_INT(retransmits, 0);
		sim_free(w);
	}
}

/* A call and its answer are one write each way; acks ride along or wait. */
TEST(a_call_costs_two_writes)
{
	for (int i = 0; i < 2; i++) {
		struct sim_config cfg = { .seed = 1, .channel = channels[i],
					  .steady = true };
		struct sim *w = world_of(&cfg);
		uint64_t before[2];
		int rec;

		sim_for(w, 3 * SEC + 500 * MSEC);
		before[0] = sim_writes(w, 0);
		before[1] = sim_writes(w, 1);
		rec = sim_open(w, SIM_HOST, 300, 400);
		wait_bytes(w, rec, SIM_HOST, 400);
		CHECK_INT(sim_writes(w, 0) - before[0], 1);
		CHECK_INT(sim_writes(w, 1) - before[1], 1);
		sim_free(w);
	}
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * A file goes each way, two of them, and calls in between: the worst takes less than
 * limit, and the files have at least a share of the rate.
 */
static void calls_beside_files(enum vp_channel channel, uint64_t rate,
			       size_t pipe, uint64_t limit)
{
	enum { CALLS = 30 };
	struct sim_config cfg = { .seed = 1, .channel = channel, .rate = rate,
				  .steady = true, .pipe_size = pipe };
	struct sim *w = world_of(&cfg);
	uint64_t took[CALLS], start = sim_now(w), moved = 0;

	for (int k = 0; k < 4; k++)
		sim_open(w, k % 2, (uint32_t)rate * 16, 0);
	sim_for(w, 300 * MSEC);
	/* Of the first call the other side knows only when it comes. */
	wait_bytes(w, sim_open(w, SIM_HOST, 300, 400), SIM_HOST, 400);
	for (int k = 0; k < CALLS; k++) {
		uint64_t begin = sim_now(w);
		int rec = sim_open(w, k % 2, 300, 400);

		wait_bytes(w, rec, k % 2, 400);
		took[k] = sim_now(w) - begin;
		sim_for(w, 20 * MSEC);
	}
	qsort(took, CALLS, sizeof(took[0]), by_value);
	printf("# call under load: p50 %.1f ms, p99 %.1f ms\n",
	       (double)took[CALLS / 2] / 1e6, (double)took[CALLS - 1] / 1e6);
	CHECK(took[CALLS - 1] < limit);
	for (int k = 0; k < 4; k += 2)
		moved += sim_received(w, k, SIM_GUEST);
	moved = moved * 1000 / ((sim_now(w) - start) / MSEC);
	printf("# the files meanwhile: %llu B/s each way\n",
	       (unsigned long long)moved);
	CHECK(moved > rate / 3 * 2);
	sim_free(w);
}

TEST(calls_do_not_wait_behind_a_file)
{
	calls_beside_files(VP_CHANNEL_SERIAL, 300000, 0, 50 * MSEC);
	/* 128 KiB each way, 13 ms; 1 MiB and 512 KiB would take 155. */
	calls_beside_files(VP_CHANNEL_VIRTIO, 10000000, 1200000, 45 * MSEC);
}

static uint64_t most_in_flight(struct sim *w, int side)
{
	uint64_t most = 0, now;

	for (int i = 0; i < 100; i++) {
		sim_for(w, MSEC);
		now = sim_counter(w, side, "in-flight-bytes");
		if (now > most)
			most = now;
	}
	return most;
}

/* Files side by side are no calls, however short their frames; the window is theirs
 * again when the calls are over. */
TEST(files_alone_have_the_whole_window)
{
	struct sim_config cfg = { .seed = 1, .channel = VP_CHANNEL_VIRTIO,
				  .rate = 10000000, .steady = true,
				  .pipe_size = 1200000 };
	struct sim *w = world_of(&cfg);
	int rec;

	for (int k = 0; k < 4; k++)
		sim_open(w, SIM_GUEST, 100000000, 0);
	sim_for(w, 300 * MSEC);
	CHECK(most_in_flight(w, SIM_GUEST) > 900000);
	for (int k = 0; k < 10; k++) {
		rec = sim_open(w, SIM_HOST, 300, 400);
		wait_bytes(w, rec, SIM_HOST, 400);
	}
	CHECK(most_in_flight(w, SIM_GUEST) < VP_CALL_BULK + 65536);
	sim_for(w, 400 * MSEC);
	CHECK(most_in_flight(w, SIM_GUEST) > 900000);
	sim_free(w);
}

/* A thing alone on the line gets the line. */
TEST(a_file_alone_fills_a_serial_line)
{
	struct sim_config cfg = { .seed = 1, .channel = VP_CHANNEL_SERIAL,
				  .rate = 300000, .steady = true };
	struct sim *w = world_of(&cfg);
	uint64_t start = sim_now(w), rate;
	int rec = sim_open(w, SIM_HOST, 600000, 0);

	wait_bytes(w, rec, SIM_GUEST, 600000);
	rate = 600000000ull / ((sim_now(w) - start) / MSEC);
	printf("# %llu B/s\n", (unsigned long long)rate);
	CHECK(rate > 260000);
	sim_free(w);
}

TEST(text_shrinks_on_a_serial_line)
{
	struct sim_config cfg = { .seed = 1, .channel = VP_CHANNEL_SERIAL,
				  .compress = true };
	struct sim *w = world_of(&cfg);
	uint64_t in, out, before;

	/* Records with odd numbers are text. */
	wait_both(w, sim_open(w, SIM_HOST, 60000, 0), SIM_DONE);
	in = sim_counter(w, SIM_HOST, "deflate-in");
	CHECK(in >= 8192 && in <= 16384); /* given up after that */
	before = sim_counter(w, SIM_HOST, "deflate-out");
	wait_both(w, sim_open(w, SIM_HOST, 60000, 60000), SIM_DONE);
	CHECK_INT(sim_counter(w, SIM_HOST, "deflate-in") - in, 60000);
	out = sim_counter(w, SIM_HOST, "deflate-out") - before;
	CHECK(out < 40000);
	CHECK_INT(sim_counter(w, SIM_HOST, "protocol-errors"), 0);
	sim_free(w);
}

UNIT_MAIN(CASE(bytes_arrive_both_ways), CASE(directions_end_independently),
	  CASE(an_unread_stream_stops_no_other), CASE(both_sides_write_at_once),
	  CASE(limit_of_streams_is_refused_not_queued),
	  CASE(goaway_stops_new_streams_only),
	  CASE(a_farewell_tells_the_peer_why),
	  CASE(quiesce_holds_both_sides_still), CASE(a_call_costs_two_writes),
	  CASE(calls_do_not_wait_behind_a_file),
	  CASE(files_alone_have_the_whole_window),
	  CASE(a_file_alone_fills_a_serial_line),
	  CASE(text_shrinks_on_a_serial_line))
