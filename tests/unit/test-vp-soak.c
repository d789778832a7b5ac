/*
 * test-vp-soak.c - streams over channels that misbehave, by seed
 *
 * Each case runs worlds with one mixture of faults.  VA_SIM_ROUNDS=N runs N of
 * each instead of a few; VA_SIM_SEED starts elsewhere.  A failure names its
 * seed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>

#include "tests/lib/sim.h"
#include "tests/lib/unit.h"

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void worlds(enum vp_channel channel, unsigned faults, unsigned rounds,
		   bool compress)
{
	uint64_t seed = number("VA_SIM_SEED", 1), n = number("VA_SIM_ROUNDS",
							     rounds);

	for (uint64_t i = 0; i < n; i++) {
		struct sim_config cfg = {
			.seed = seed + i,
			.channel = channel,
			.faults = faults,
			.streams = 12,
			.max_bytes = channel == VP_CHANNEL_VIRTIO ? 300000 :
								    20000,
			.start_seq = i % 3 ? (uint32_t)i : UINT32_MAX - 20,
			.compress = compress && i % 2,
		};
		struct sim *w = sim_new(&cfg);

		sim_run(w);
		sim_free(w);
	}
}

TEST(serial_line_damages)
{
	worlds(VP_CHANNEL_SERIAL, SIM_SERIAL_FAULTS, 4, false);
}

TEST(serial_line_damages_deflated_streams)
{
	worlds(VP_CHANNEL_SERIAL, SIM_SERIAL_FAULTS | SIM_APP_RESET, 4, true);
}

TEST(virtio_cuts_and_replays)
{
	worlds(VP_CHANNEL_VIRTIO, SIM_VIRTIO_FAULTS, 4, false);
}

TEST(applications_reset_streams)
{
	worlds(VP_CHANNEL_SERIAL, SIM_APP_RESET | SIM_SLICE, 2, true);
	worlds(VP_CHANNEL_VIRTIO, SIM_APP_RESET | SIM_FLAP, 2, false);
}

TEST(a_stream_is_never_read)
{
	worlds(VP_CHANNEL_SERIAL, SIM_NO_READER | SIM_STALL, 2, false);
	worlds(VP_CHANNEL_VIRTIO, SIM_NO_READER | SIM_FLAP, 2, false);
}

TEST(sides_restart)
{
	worlds(VP_CHANNEL_SERIAL, SIM_SERIAL_FAULTS | SIM_RESTART, 3, true);
	worlds(VP_CHANNEL_VIRTIO, SIM_VIRTIO_FAULTS | SIM_RESTART, 3, false);
}

TEST(the_guest_is_set_back)
{
	worlds(VP_CHANNEL_SERIAL, SIM_ROLLBACK, 4, true);
	worlds(VP_CHANNEL_VIRTIO, SIM_ROLLBACK, 4, false);
}

TEST(everything_at_once)
{
	unsigned all = SIM_TIME_TRAVEL | SIM_QUIESCE | SIM_APP_RESET |
		       SIM_NO_READER;

	worlds(VP_CHANNEL_SERIAL, SIM_SERIAL_FAULTS | all, 4, true);
	worlds(VP_CHANNEL_VIRTIO, SIM_VIRTIO_FAULTS | all, 4, false);
}

UNIT_MAIN(CASE_SLOW(serial_line_damages, 3600),
	  CASE_SLOW(serial_line_damages_deflated_streams, 3600),
	  CASE_SLOW(virtio_cuts_and_replays, 3600),
	  CASE_SLOW(applications_reset_streams, 3600),
	  CASE_SLOW(a_stream_is_never_read, 3600),
	  CASE_SLOW(sides_restart, 3600),
	  CASE_SLOW(the_guest_is_set_back, 3600),
	  CASE_SLOW(everything_at_once, 3600))
