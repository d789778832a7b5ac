/*
 * test-hostd-watch.c - which virtproxies hang or spin, and which only seem to
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/unit.h"
#include "virtagent/hostd_watch.h"

#define SEC NSEC_PER_SEC
#define BEGIN (1000 * SEC)

static const struct watch_limits limits = { 60 * SEC, 60 * SEC };

/* The limits are counted here in seconds as they are configured. */
__attribute__((constructor)) static void seconds_as_they_are(void)
{
	unsetenv("VA_TIME_SCALE");
}

/* Ticks until it hangs, in seconds; 0 = it did not within an hour. */
static uint64_t hangs_after(struct watch *w, uint64_t now)
{
	uint64_t every = watch_tick_every(&limits), begin = now;

	while (now - begin < 3600 * SEC) {
		now += every;
		if (watch_tick(w, &limits, now))
			return (now - begin) / SEC;
	}
	return 0;
}

TEST(unanswered_for_the_limit_is_a_hang)
{
	struct watch w = { 0 };
	uint64_t after;

	watch_asked(&w, BEGIN);
	after = hangs_after(&w, BEGIN);
	CHECK(after >= 60 && after <= 63);
}

TEST(any_answer_is_a_sign_of_life)
{
	struct watch w = { 0 };
	uint64_t every = watch_tick_every(&limits), now = BEGIN, after;

	watch_asked(&w, now);
	watch_asked(&w, now);
	for (unsigned i = 0; i < 20; i++) {
		now += every;
		CHECK(!watch_tick(&w, &limits, now));
	}
	watch_answered(&w, now);
	CHECK_INT(w.waited_ns, 0);
	after = hangs_after(&w, now);
	CHECK(after >= 60 && after <= 63);
	watch_answered(&w, now);
	watch_reset(&w);
	watch_asked(&w, now);
	watch_answered(&w, now);
	CHECK_INT(hangs_after(&w, now), 0);
}

TEST(time_in_which_we_did_not_run_is_none)
{
	struct watch w = { 0 };
	uint64_t every = watch_tick_every(&limits), now = BEGIN;

	/* A daemon that is stopped for an hour, again and again. */
	for (unsigned i = 0; i < 50; i++) {
		watch_asked(&w, now);
		now += 3600 * SEC;
		CHECK(!watch_tick(&w, &limits, now));
		CHECK(w.waited_ns <= every + every / 4);
		watch_answered(&w, now);
	}
}

TEST(zero_is_never)
{
	const struct watch_limits never = { 0, 0 };
	struct watch w = { 0 };
	uint64_t now = BEGIN;

	watch_asked(&w, now);
	for (unsigned i = 0; i < 1000; i++) {
		now += watch_tick_every(&never);
		CHECK(!watch_tick(&w, &never, now));
	}
	CHECK(!watch_look(&w, &never, getpid(), now));
	CHECK(watch_look_every(&never) > SEC);
}

/* Looks each look_every with so much of the CPU, waiting and work each time; how
 * long until it spins, in seconds, 0 = not within an hour. */
static uint64_t spins_after(double run, double wait, uint64_t work_each)
{
	struct watch w = { 0 };
	struct watch_cpu cpu = { SEC, SEC };
	uint64_t every = watch_look_every(&limits), now = BEGIN, work = 0;

	while (now - BEGIN < 3600 * SEC) {
		if (watch_cpu_was(&w, &limits, &cpu, now) &&
		    watch_work(&w, &limits, work))
			return (now - BEGIN) / SEC;
		now += every;
		cpu.ran_ns += (uint64_t)(run * (double)every);
		cpu.waited_ns += (uint64_t)(wait * (double)every);
		work += work_each;
	}
	return 0;
}

TEST(always_running_for_nothing_is_spinning)
{
	uint64_t after = spins_after(1, 0, 0);

	CHECK(after >= 60 && after <= 90);
	/* Beacons and va-hostd's own questions are nothing. */
	after = spins_after(1, 0, 2000);
	CHECK(after >= 60 && after <= 90);
	/* Also where it has a tenth of a core only: the others take the rest. */
	after = spins_after(0.1, 0.9, 0);
	CHECK(after >= 60 && after <= 90);
}

TEST(work_and_waiting_are_none)
{
	CHECK_INT(spins_after(1, 0, 100 << 20), 0); /* a transfer */
	CHECK_INT(spins_after(1, 0, 1 << 20), 0);   /* pings as fast as it can */
	CHECK_INT(spins_after(0.02, 0.98, 0), 0);   /* starved */
	CHECK_INT(spins_after(0.5, 0.2, 0), 0);	    /* sleeps now and then */
	CHECK_INT(spins_after(0.001, 0, 20), 0);    /* idle */
}

TEST(a_burst_without_work_is_forgotten)
{
	struct watch w = { 0 };
	struct watch_cpu cpu = { SEC, SEC };
	uint64_t every = watch_look_every(&limits), now = BEGIN;

	for (unsigned i = 0; i < 400; i++) {
		/* Four looks busy, one calm. */
		if (watch_cpu_was(&w, &limits, &cpu, now))
			CHECK(!watch_work(&w, &limits, 0));
		now += every;
		cpu.ran_ns += i % 5 ? every : 0;
	}
}

TEST(looks_that_come_late_begin_anew)
{
	struct watch w = { 0 };
	struct watch_cpu cpu = { SEC, SEC };
	uint64_t now = BEGIN;

	for (unsigned i = 0; i < 20; i++) {
		CHECK(!watch_cpu_was(&w, &limits, &cpu, now));
		now += 3600 * SEC;
		cpu.ran_ns += 3600 * SEC;
	}
}

TEST(who_runs_is_asked_now_and_then_who_does_not_soon)
{
	struct watch w = { 0 };
	struct watch_cpu cpu = { SEC, SEC };
	uint64_t every = watch_look_every(&limits), now = BEGIN;
	unsigned asked = 0;

	CHECK(!watch_cpu_was(&w, &limits, &cpu, now));
	CHECK(!watch_alive(&w)); /* nothing is known yet */
	for (unsigned i = 0; i < 120; i++) {
		now += every;
		cpu.ran_ns += 1000;
		CHECK(!watch_cpu_was(&w, &limits, &cpu, now));
		asked += !watch_alive(&w);
	}
	CHECK_INT(asked, 10);
	/* A beacon may have missed one look. */
	for (unsigned i = 0; i < 4; i++) {
		now += every;
		CHECK(!watch_cpu_was(&w, &limits, &cpu, now));
		CHECK_INT(watch_alive(&w), i == 0);
	}
	/* Busy is another question, and cannot be told from spinning so. */
	now += every;
	cpu.ran_ns += every;
	CHECK(watch_cpu_was(&w, &limits, &cpu, now));
	CHECK(!watch_alive(&w));
}

TEST(this_process_is_seen_to_spin)
{
	const struct watch_limits fast = { SEC, SEC };
	uint64_t every = watch_look_every(&fast), begin = clock_now(), next = begin;
	struct watch w = { 0 };

	for (;;) {
		uint64_t now = clock_now();

		if (now < next)
			continue;
		next = now + every;
		if (watch_look(&w, &fast, getpid(), now) && watch_work(&w, &fast, 7))
			break;
		if (now - begin > 20 * SEC)
			unit_fail(__FILE__, __LINE__, "not seen in 20 s");
	}
	CHECK(clock_now() - begin >= SEC);
}

UNIT_MAIN(CASE(unanswered_for_the_limit_is_a_hang), CASE(any_answer_is_a_sign_of_life),
	  CASE(time_in_which_we_did_not_run_is_none), CASE(zero_is_never),
	  CASE(always_running_for_nothing_is_spinning), CASE(work_and_waiting_are_none),
	  CASE(a_burst_without_work_is_forgotten), CASE(looks_that_come_late_begin_anew),
	  CASE(who_runs_is_asked_now_and_then_who_does_not_soon),
	  CASE_SLOW(this_process_is_seen_to_spin, 30))
