/*
 * sim.h - two muxes over a bad channel, in virtual time
 *
 * A world has a host and a guest mux, a byte pipe each way, and applications
 * that open streams, write, read slowly, and reset.  Everything random comes from
 * one seed.  Faults are applied to the pipes and to the sides.  The checker
 * holds for every stream and direction: what is received is a prefix of one
 * timeline of what was sent, whole when the stream ends well, and each stream ends
 * on both sides.  A broken promise ends the process, naming the seed.
 *
 * The guest's side lives in an arena of its own (link with SIM_LDFLAGS, which
 * wraps malloc), so that it can be set back to an earlier state like a VM.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_SIM_H
#define VA_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtproxy/mux.h"

#define SIM_HOST 0
#define SIM_GUEST 1
#define SIM_RECS 4096 /* streams a world may see */

enum sim_fault {
	SIM_DROP = 1 << 0,     /* bytes vanish (serial) */
	SIM_FLIP = 1 << 1,     /* bits change (serial) */
	SIM_TEXT = 1 << 2,     /* text between any two bytes (serial) */
	SIM_DUP = 1 << 3,      /* a block comes twice in a row (serial) */
	SIM_ECHO = 1 << 4,     /* what a side sends comes back (serial) */
	SIM_OUTAGE = 1 << 5,   /* all that is written for a while vanishes */
	SIM_STALL = 1 << 6,    /* nothing moves for a while */
	SIM_SLICE = 1 << 7,    /* single bytes */
	SIM_FLAP = 1 << 8,     /* the host reconnects; the guest may not notice */
	SIM_CUT = 1 << 9,      /* part of what is under way vanishes */
	SIM_REPLAY = 1 << 10,  /* old bytes come again */
	SIM_RESTART = 1 << 11, /* a side starts anew */
	SIM_ROLLBACK = 1 << 12, /* the guest is set back */
	SIM_QUIESCE = 1 << 13,
	SIM_APP_RESET = 1 << 14, /* applications reset streams */
	SIM_NO_READER = 1 << 15, /* one stream is never read until the end */
};

#define SIM_SERIAL_FAULTS                                                      \
	(SIM_DROP | SIM_FLIP | SIM_TEXT | SIM_DUP | SIM_ECHO | SIM_OUTAGE |    \
	 SIM_STALL | SIM_SLICE | SIM_FLAP | SIM_CUT)
#define SIM_VIRTIO_FAULTS                                                      \
	(SIM_OUTAGE | SIM_STALL | SIM_SLICE | SIM_FLAP | SIM_CUT | SIM_REPLAY)
#define SIM_TIME_TRAVEL (SIM_RESTART | SIM_ROLLBACK)

struct sim_config {
	uint64_t seed;
	enum vp_channel channel;
	unsigned faults;
	unsigned streams;   /* opened over the run, by both sides */
	unsigned max_bytes; /* per stream and direction */
	uint32_t start_seq;
	bool compress;
	uint64_t rate;	    /* bytes per second each way; 0 = no limit */
	size_t pipe_size;   /* bytes under way each way; 0 = by channel */
	uint32_t max_streams;
	bool steady;	    /* applications never hesitate */
	uint32_t damage;    /* serial: one byte in so many is flipped, lost, or
			     * gets another in front of it; 0 = none */
};

struct sim;

struct sim *sim_new(const struct sim_config *cfg);
void sim_free(struct sim *w);
/* Runs until all streams were opened and have ended, faults on; then checks. */
void sim_run(struct sim *w);

/* For tests that steer by hand: */
uint64_t sim_now(const struct sim *w);
struct vp_mux *sim_mux(struct sim *w, int side);
/* Moves bytes and time until the condition holds; false after limit ns. */
bool sim_until(struct sim *w, bool (*done)(struct sim *w, void *arg), void *arg,
	       uint64_t limit);
void sim_for(struct sim *w, uint64_t ns);
/* Opens a stream that sends bytes each way; the record's number. */
int sim_open(struct sim *w, int side, uint32_t bytes, uint32_t bytes_back);
/* The record's state at one side. */
enum sim_state { SIM_NONE, SIM_OPEN, SIM_DONE, SIM_RESET };
enum sim_state sim_state(const struct sim *w, int rec, int side);
int sim_reason(const struct sim *w, int rec, int side);
/* Why that side's last session ended, as it was told. */
const char *sim_why(const struct sim *w, int side);
uint32_t sim_received(const struct sim *w, int rec, int side);
uint64_t sim_ended_at(const struct sim *w, int rec, int side);
/* Whether the side's application reads that stream. */
void sim_set_reading(struct sim *w, int rec, int side, bool on);
void sim_both_up(struct sim *w);
void sim_save(struct sim *w);
void sim_restore(struct sim *w);
void sim_restart(struct sim *w, int side);
void sim_detach(struct sim *w, int side);
void sim_attach(struct sim *w, int side);
/* All that side writes vanishes. */
void sim_outage(struct sim *w, int side, bool on);
void sim_stall(struct sim *w, int side, bool on);
/* Bytes of side's under way. */
size_t sim_under_way(const struct sim *w, int side);
/* Puts bytes into what side's peer reads next. */
void sim_inject(struct sim *w, int side, const uint8_t *data, size_t n);
uint64_t sim_counter(struct sim *w, int side, const char *name);
uint64_t sim_writes(const struct sim *w, int side);
void sim_fail(struct sim *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));
uint64_t sim_random(struct sim *w, uint64_t below);
void sim_check_all(struct sim *w);
/* Bytes of the guest's arena in use: a bound on what a peer can make it hold. */
size_t sim_guest_memory(const struct sim *w);

#endif
