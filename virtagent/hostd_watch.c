/*
 * hostd_watch.c - does a virtproxy work, hang or spin?
 *
 * It hangs when questions on its control socket stay unanswered for the limit.
 * What counts is time in which this process ran, too: a tick that comes late (the
 * machine slept, was frozen, or this daemon was stopped) counts as little more
 * than one that came in time, so that the answers can be read first.
 *
 * It spins when it could always run for the limit (it ran, or waited for a CPU:
 * so a loaded machine neither hides nor feigns it), and what it did meanwhile is
 * next to nothing for the CPU time it took.  CPU time is had with one system call;
 * only who was busy costs a look into /proc and a status instead of a ping.  Who ran
 * a little is alive and is not woken up to say so: with a thousand guests the
 * questions would cost as much as their beacons.
 *
 * Limits: the work is what the process itself says.  One that its guest has taken
 * over can lie and burn the CPU time that its equal weight gives it, of one core
 * at most: it has one thread and its sandbox makes no other.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/hostd_watch.h"

#define LOOK_NS (10 * NSEC_PER_SEC)
#define TICK_NS (5 * NSEC_PER_SEC / 2)
#define EVERY_MIN_NS (NSEC_PER_SEC / 4)
#define LOOKS_MIN 4u /* within the limit of spinning */
#define TICKS_MIN 6u /* within the limit of hanging */

#define TRUST 11u /* looks in a row: asked each two minutes */
#define STILL 2u  /* looks: a beacon is up to 20 s after the last (virtproxy's 7.4) */

#define LITTLE_CPU 20u	 /* less than 1/20 of the time is no spinning */
#define BUSY_PERCENT 90u /* could run for so much of the time */
/* An honest process does more for a second of CPU time: a ping of 80 bytes, the
 * least there is, takes it 100 us, 1 ms with sanitizers. */
#define WORK_PER_SEC (16u << 10)

static uint64_t scaled(uint64_t ns)
{
	return (uint64_t)((double)ns * clock_scale());
}

static uint64_t smaller(uint64_t a, uint64_t limit, unsigned parts)
{
	uint64_t part = limit / parts;

	if (!limit)
		return a;
	if (part < EVERY_MIN_NS)
		part = EVERY_MIN_NS;
	return part < a ? part : a;
}

uint64_t watch_look_every(const struct watch_limits *l)
{
	uint64_t every = smaller(LOOK_NS, l->spin_ns, LOOKS_MIN);

	return scaled(smaller(every, l->hang_ns, LOOKS_MIN));
}

uint64_t watch_tick_every(const struct watch_limits *l)
{
	return scaled(smaller(TICK_NS, l->hang_ns, TICKS_MIN));
}

void watch_reset(struct watch *w)
{
	*w = (struct watch){ .unanswered = 0 };
}

/* --- hanging ------------------------------------------------------------ */

void watch_asked(struct watch *w, uint64_t now)
{
	if (w->unanswered++ == 0) {
		w->waited_ns = 0;
		w->tick_ns = now;
	}
}

/* Answers come in order: any of them is a sign of life. */
void watch_answered(struct watch *w, uint64_t now)
{
	if (w->unanswered)
		w->unanswered--;
	w->waited_ns = 0;
	w->tick_ns = now;
}

bool watch_tick(struct watch *w, const struct watch_limits *l, uint64_t now)
{
	uint64_t every = watch_tick_every(l), most = every + every / 4;
	uint64_t since = now - w->tick_ns;

	w->tick_ns = now;
	if (!w->unanswered)
		return false;
	w->waited_ns += since < most ? since : most;
	return l->hang_ns && w->waited_ns >= scaled(l->hang_ns);
}

/* --- spinning ----------------------------------------------------------- */

/* 0, or a negative errno. */
static int cpu_ran(pid_t pid, uint64_t *ran_ns)
{
	struct timespec ts;
	clockid_t clock;
	int err = clock_getcpuclockid(pid, &clock);

	if (err)
		return -err;
	if (clock_gettime(clock, &ts) < 0)
		return -1;
	*ran_ns = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
	return 0;
}

static uint64_t cpu_waited(pid_t pid)
{
	unsigned long long ran, waited;
	CLEANUP_FCLOSE FILE *f = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	f = fopen(path, "re");
	return f && fscanf(f, "%llu %llu", &ran, &waited) == 2 ? waited : 0;
}

bool watch_cpu_was(struct watch *w, const struct watch_limits *l,
		   const struct watch_cpu *cpu, uint64_t now)
{
	uint64_t since = now - w->look_ns;
	uint64_t ran = cpu->ran_ns - w->cpu.ran_ns;
	/* Known from the second look at a busy process on. */
	uint64_t waited = w->busy && cpu->waited_ns > w->cpu.waited_ns ?
				  cpu->waited_ns - w->cpu.waited_ns : 0;
	bool first = !w->look_ns || since > 3 * watch_look_every(l);
	bool could_run = (ran + waited) / BUSY_PERCENT >= since / 100;

	if (first)
		w->still = STILL;
	else
		w->still = ran > 0 ? 0 : w->still + 1;
	w->look_ns = now;
	w->cpu = *cpu;
	if (first || ran * LITTLE_CPU < since) {
		w->busy = w->based = false;
		return false;
	}
	if (w->busy && !could_run)
		w->based = false;
	w->busy = true;
	return true;
}

bool watch_alive(struct watch *w)
{
	if (w->still < STILL && !w->busy && w->trusted++ < TRUST)
		return true;
	w->trusted = 0;
	return false;
}

bool watch_look(struct watch *w, const struct watch_limits *l, pid_t pid, uint64_t now)
{
	struct watch_cpu cpu = { 0 };

	if (!l->spin_ns || pid <= 0 || cpu_ran(pid, &cpu.ran_ns) < 0) {
		w->still = STILL;
		return false;
	}
	if (w->look_ns && (cpu.ran_ns - w->cpu.ran_ns) * LITTLE_CPU >= now - w->look_ns)
		cpu.waited_ns = cpu_waited(pid);
	return watch_cpu_was(w, l, &cpu, now);
}

bool watch_work(struct watch *w, const struct watch_limits *l, uint64_t work)
{
	double ran = (double)(w->cpu.ran_ns - w->base_ran_ns) / (double)NSEC_PER_SEC;

	if (!w->busy)
		return false;
	if (w->based && (double)(work - w->base_work) < ran * WORK_PER_SEC)
		return w->look_ns - w->base_ns >= scaled(l->spin_ns);
	w->based = true;
	w->base_work = work;
	w->base_ran_ns = w->cpu.ran_ns;
	w->base_ns = w->look_ns;
	return false;
}
