/*
 * test-vp-noise.c - what a serial line that damages single bytes still carries
 *
 * One byte in so many, of both directions, is flipped, lost, or gets another in
 * front of it.  Goodput is virtual time, so the figures are exact and those of
 * the protocol alone: a line of 300 KB/s that holds what QEMU's does.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdio.h>

#include "tests/lib/sim.h"
#include "tests/lib/unit.h"

#define SEC UINT64_C(1000000000)
#define LINE_RATE 300000u /* bytes a second */
#define SIZE 1500000u	  /* bytes of a transfer: 150 faults at 1 in 10,000 */
#define SEEDS 2u

struct run {
	int rec;
};

static bool over(struct sim *w, void *arg)
{
	struct run *r = arg;

	return sim_state(w, r->rec, 0) == SIM_DONE &&
	       sim_state(w, r->rec, 1) == SIM_DONE;
}

/* Seconds (in ns) for bytes from one side to the other, back in the meantime
 * as many as "back". */
static uint64_t transfer(uint64_t seed, uint32_t damage, int side,
			 uint32_t bytes, uint32_t back)
{
	struct sim_config cfg = { .seed = seed, .channel = VP_CHANNEL_SERIAL,
				  .rate = LINE_RATE, .steady = true,
				  .damage = damage };
	struct sim *w = sim_new(&cfg);
	struct run r;
	uint64_t began, took;

	sim_both_up(w);
	began = sim_now(w);
	r.rec = sim_open(w, side, bytes, back);
	CHECK(r.rec >= 0);
	if (!sim_until(w, over, &r, 600 * SEC))
		sim_fail(w, "%u of %u bytes after ten minutes",
			 sim_received(w, r.rec, !side), bytes);
	took = sim_now(w) - began;
	sim_check_all(w);
	CHECK_INT(sim_counter(w, 0, "rollbacks"), 0);
	CHECK_INT(sim_counter(w, 1, "rollbacks"), 0);
	CHECK_INT(sim_counter(w, 0, "sessions"), 1);
	if (damage)
		CHECK(sim_counter(w, side, "retransmits") > 0);
	fprintf(stderr, "# 1 in %u, side %d, %u back: %.0f KB/s, %llu resent, "
		"%llu timeouts\n", damage, side, back,
		(double)bytes * 1e6 / (double)took,
		(unsigned long long)sim_counter(w, side, "retransmits"),
		(unsigned long long)sim_counter(w, side, "timeouts"));
	sim_free(w);
	return took;
}

static void goodput(int side, uint32_t back)
{
	uint64_t clean = transfer(1, 0, side, SIZE, back), noisy = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		noisy += transfer(seed, 10000, side, SIZE, back);
	fprintf(stderr, "# side %d, %u back: %llu %% of the clean line\n", side,
		back, (unsigned long long)(clean * SEEDS * 100 / noisy));
	CHECK(clean * SEEDS * 2 > noisy);
}

TEST(one_in_ten_thousand_from_the_host)
{
	goodput(0, 0);
}

TEST(one_in_ten_thousand_from_the_guest)
{
	goodput(1, 0);
}

TEST(one_in_ten_thousand_both_ways)
{
	goodput(0, SIZE);
}

TEST(one_in_a_thousand_still_completes)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		transfer(seed, 1000, 0, SIZE / 20, 0);
		transfer(seed, 1000, 1, SIZE / 20, SIZE / 20);
	}
}

UNIT_MAIN(CASE_SLOW(one_in_ten_thousand_from_the_host, 600),
	  CASE_SLOW(one_in_ten_thousand_from_the_guest, 600),
	  CASE_SLOW(one_in_ten_thousand_both_ways, 600),
	  CASE_SLOW(one_in_a_thousand_still_completes, 600))
