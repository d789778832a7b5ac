/*
 * test-vp-mux.c - streams over a channel that behaves
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

static struct sim *world(enum vp_channel channel)
{
	struct sim_config cfg = { .seed = 1, .channel = channel };
	struct sim *w = sim_new(&cfg);

	sim_both_up(w);
	return w;
}

struct wait {
	int rec;
	enum sim_state state;
};

static bool both_in_state(struct sim *w, void *arg)
{
	struct wait *wait = arg;

	return sim_state(w, wait->rec, 0) == wait->state &&
	       sim_state(w, wait->rec, 1) == wait->state;
}

static void wait_both(struct sim *w, int rec, enum sim_state state)
{
	struct wait wait = { rec, state };

	CHECK(rec >= 0);
	if (!sim_until(w, both_in_state, &wait, 30 * SEC))
		sim_fail(w, "stream %d: states %d %d", rec,
			 (int)sim_state(w, rec, 0), (int)sim_state(w, rec, 1));
}

TEST(bytes_arrive_both_ways)
{
	for (int i = 0; i < 2; i++) {
		struct sim *w = world(channels[i]);

		for (int side = 0; side < 2; side++) {
			wait_both(w, sim_open(w, side, 100000, 100), SIM_DONE);
			wait_both(w, sim_open(w, side, 0, 30000), SIM_DONE);
			wait_both(w, sim_open(w, side, 0, 0), SIM_DONE);
		}
		CHECK_INT(sim_counter(w, 0, "retransmits"), 0);
		CHECK_INT(sim_counter(w, 1, "retransmits"), 0);
		CHECK_INT(sim_counter(w, 0, "noise-bytes"), 0);
		CHECK_INT(sim_counter(w, 1, "noise-bytes"), 0);
		sim_check_all(w);
		sim_free(w);
	}
}

UNIT_MAIN(CASE(bytes_arrive_both_ways))
