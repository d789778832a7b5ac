/*
 * hostd_watch.h - does a virtproxy work, hang or spin?
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_WATCH_H
#define VA_HOSTD_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* As configured; 0 = not looked for. */
struct watch_limits {
	uint64_t hang_ns; /* questions unanswered for so long */
	uint64_t spin_ns; /* always running for so long, for nothing */
};

/* What a process had of a CPU so far. */
struct watch_cpu {
	uint64_t ran_ns;
	uint64_t waited_ns; /* for a CPU; 0 where the kernel does not tell */
};

struct watch {
	unsigned unanswered; /* questions */
	uint64_t waited_ns;  /* for an answer, while this process ran, too */
	uint64_t tick_ns;    /* when that was counted last */
	uint64_t look_ns;    /* when cpu was had; 0 = never */
	struct watch_cpu cpu;
	unsigned still;	     /* looks in a row between which it did not run */
	unsigned trusted;    /* looks at which that was taken for an answer */
	bool busy;	     /* at the last look, and detail is known since */
	bool based;	     /* base_* are known */
	uint64_t base_work, base_ran_ns, base_ns;
};

/* How often to look at a process; how often to tick while a question waits. */
uint64_t watch_look_every(const struct watch_limits *l);
uint64_t watch_tick_every(const struct watch_limits *l);

/* Another process, or one that is as good as another. */
void watch_reset(struct watch *w);
void watch_asked(struct watch *w, uint64_t now);
void watch_answered(struct watch *w, uint64_t now);
/* True: it hangs. */
bool watch_tick(struct watch *w, const struct watch_limits *l, uint64_t now);

/* After a look: did it run since the last but one?  Whoever runs, and does not run all the
 * time, goes round its loop; so it need not be asked, but now and then it must. */
bool watch_alive(struct watch *w);

/* A look at its CPU time.  True: it was busy all the time since the last look, so
 * that watch_work() should be told soon what it has done. */
bool watch_look(struct watch *w, const struct watch_limits *l, pid_t pid, uint64_t now);
/* The same with figures of the caller's (tests). */
bool watch_cpu_was(struct watch *w, const struct watch_limits *l,
		   const struct watch_cpu *cpu, uint64_t now);
/* work: a number that grows with the bytes it moved and whatever else it did.
 * True: it spins. */
bool watch_work(struct watch *w, const struct watch_limits *l, uint64_t work);

#endif
