/*
 * sim_impl.h - what sim.c (the world), sim_app.c (its applications and the
 * checker) and sim_fault.c share
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_SIM_IMPL_H
#define VA_SIM_IMPL_H

#include "tests/lib/sim.h"

#define SIM_VERSIONS 24 /* timelines of one direction of a stream */
#define SIM_SEGMENTS 24 /* salts within one */
#define SIM_PIPE_MAX (1u << 20)
#define SIM_HISTORY (1u << 17)
/* Faults that are events; the others strike at a write. */
#define SIM_EVENTS                                                             \
	(SIM_OUTAGE | SIM_STALL | SIM_FLAP | SIM_CUT | SIM_REPLAY |            \
	 SIM_RESTART | SIM_ROLLBACK | SIM_QUIESCE | SIM_APP_RESET)
#define SIM_MSEC UINT64_C(1000000)
#define SIM_SEC UINT64_C(1000000000)

/* What was sent from offset on was made with this salt. */
struct sim_segment {
	uint32_t offset, salt;
};

struct sim_version {
	unsigned n;
	struct sim_segment seg[SIM_SEGMENTS];
};

struct sim_rec { /* a stream, as the checker sees it; never set back */
	int opener;
	uint32_t len[2]; /* bytes each side sends */
	bool text;	 /* compressible */
	enum sim_state state[2];
	int reason[2];
	uint32_t received[2];
	uint64_t ended_at[2];
	struct sim_version sent[2][SIM_VERSIONS];
	unsigned versions[2];
	uint32_t possible[2]; /* versions that match what side received so far */
	bool not_reading[2];
};

struct sim_end { /* an application's end of a stream; the guest's is set back */
	struct sim_end *next;
	struct vp_stream *s;
	int rec, side;
	uint32_t tx_off, rx_off;
	bool eof_sent, eof_seen;
	bool tx_waits, rx_waits; /* until the next poke */
};

struct sim_root { /* what is set back as a whole */
	struct vp_mux *mux;
	struct sim_end *ends;
	bool attached;
};

struct sim_pipe {
	uint8_t *data, *history;
	size_t start, len, size;
	size_t history_len;
	bool outage, stall;
	uint64_t outage_until, stall_until;
	uint64_t next_at;     /* rate */
	uint64_t damage_in;   /* bytes until the next one is damaged; 0 = draw */
	uint64_t quiet_bytes; /* since the last cut: no replay may fill it up */
	bool loss;
};

struct sim_side {
	struct sim_root *root;
	bool attached;
	uint64_t attach_at; /* 0 = not planned */
	uint64_t writes;
	uint32_t salt;
	char why[VP_REASON_MAX + 1];
};

struct sim {
	struct sim_config cfg;
	uint64_t rng, now;
	struct sim_side side[2];
	struct sim_pipe pipe[2]; /* what side writes */
	struct sim_rec *recs;
	int n_recs;
	uint32_t salts;
	bool saved, calm, in_callback;
	bool travelled; /* a side was set back or restarted */
	int64_t fault_bytes; /* until the next fault */
	uint64_t poke_at, fault_at, open_at, quiesce_until;
};

/* sim_app.c */
extern struct sim *sim_world; /* the one at work: callbacks get a side only */
extern const struct vp_mux_ops sim_app_ops;
void sim_app_poke(struct sim *w, int side);
void sim_app_killed(struct sim *w, int side);
void sim_app_restored(struct sim *w);
bool sim_app_all_ended(const struct sim *w);
void sim_app_reset_one(struct sim *w, int side);

/* sim_fault.c */
void sim_fault_on_write(struct sim *w, int side, const uint8_t *data, size_t n);
void sim_fault_event(struct sim *w);
void sim_pipe_put(struct sim *w, int side, const uint8_t *data, size_t n);
size_t sim_pipe_room(const struct sim *w, int side);

/* Calls into a side's mux go between these two (the guest's arena). */
void sim_enter(struct sim *w, int side);
void sim_exit(struct sim *w);

#endif
