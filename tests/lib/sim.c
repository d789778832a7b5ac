/*
 * sim.c - see sim.h: the world's clock, pipes and sides
 *
 * Time stands still while bytes move, except on a channel with a rate; when
 * nothing moves it jumps to the next deadline.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/sim_arena.h"
#include "tests/lib/sim_impl.h"

#define POKE_EVERY (5 * SIM_MSEC)
#define RUN_LIMIT (600 * SIM_SEC) /* after the faults have stopped */
#define START (SIM_SEC)
/* A fault comes about every so often, and every so many bytes. */
#define FAULT_EVERY (400 * SIM_MSEC)
#define FAULT_BYTES_SERIAL 8000u
#define FAULT_BYTES_VIRTIO 150000u
#define OPEN_EVERY (30 * SIM_MSEC)

void sim_fail(struct sim *w, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "# sim: seed %llu channel %d faults 0x%x at %.6f s: ",
		(unsigned long long)w->cfg.seed, (int)w->cfg.channel,
		w->cfg.faults, (double)w->now / 1e9);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	if (getenv("VA_SIM_ABORT"))
		abort();
	_exit(1);
}

uint64_t sim_random(struct sim *w, uint64_t below)
{
	uint64_t x = w->rng += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	return below ? x % below : 0;
}

void sim_enter(struct sim *w, int side)
{
	sim_arena_switch(side == SIM_GUEST);
}

void sim_exit(struct sim *w)
{
	sim_arena_switch(false);
}

uint64_t sim_now(const struct sim *w)
{
	return w->now;
}

struct vp_mux *sim_mux(struct sim *w, int side)
{
	return w->side[side].root->mux;
}

static void side_start(struct sim *w, int side)
{
	struct vp_mux_config cfg = {
		.role = side == SIM_HOST ? VP_HOST : VP_GUEST,
		.channel = side == SIM_HOST ? VP_CHANNEL_UNKNOWN :
					      w->cfg.channel,
		.start_seq = w->cfg.start_seq,
		.compress = w->cfg.compress,
		.max_streams = w->cfg.max_streams,
	};
	struct sim_side *s = &w->side[side];

	if (side == SIM_GUEST)
		sim_arena_reset();
	sim_enter(w, side);
	s->root = calloc(1, sizeof(*s->root));
	s->root->mux = vp_mux_new(&cfg, &sim_app_ops, s, w->now);
	sim_exit(w);
	s->salt = ++w->salts;
	s->attached = false;
}

struct sim *sim_new(const struct sim_config *cfg)
{
	struct sim *w = calloc(1, sizeof(*w));

	sim_world = w;
	w->cfg = *cfg;
	w->rng = cfg->seed * UINT64_C(0xd1342543de82ef95) + 1;
	w->now = START;
	w->recs = calloc(SIM_RECS, sizeof(*w->recs));
	for (int i = 0; i < 2; i++) {
		struct sim_pipe *p = &w->pipe[i];

		p->data = malloc(SIM_PIPE_MAX * 2);
		p->history = malloc(SIM_HISTORY);
		p->size = cfg->pipe_size;
		if (!p->size)
			p->size = cfg->channel == VP_CHANNEL_VIRTIO ? 256 << 10 :
								      4383;
		side_start(w, i);
	}
	sim_attach(w, SIM_HOST);
	sim_attach(w, SIM_GUEST);
	return w;
}

void sim_free(struct sim *w)
{
	for (int i = 0; i < 2; i++) {
		sim_enter(w, i);
		vp_mux_free(w->side[i].root->mux);
		if (i == SIM_HOST)
			free(w->side[i].root);
		sim_exit(w);
		free(w->pipe[i].data);
		free(w->pipe[i].history);
	}
	free(w->recs);
	free(w);
}

void sim_attach(struct sim *w, int side)
{
	w->side[side].attached = w->side[side].root->attached = true;
	w->side[side].attach_at = 0;
	sim_enter(w, side);
	vp_mux_attach(sim_mux(w, side), w->now);
	sim_exit(w);
}

void sim_detach(struct sim *w, int side)
{
	w->side[side].attached = w->side[side].root->attached = false;
	sim_enter(w, side);
	vp_mux_detach(sim_mux(w, side), w->now);
	sim_exit(w);
}

void sim_save(struct sim *w)
{
	sim_arena_save();
	w->saved = true;
}

void sim_restore(struct sim *w)
{
	/* Whether it is attached is its own memory's business, too. */
	sim_arena_restore();
	w->travelled = true;
	w->side[SIM_GUEST].attached = w->side[SIM_GUEST].root->attached;
	w->side[SIM_GUEST].attach_at = w->side[SIM_GUEST].attached ? 0 : w->now + 1;
	sim_app_restored(w);
}

void sim_restart(struct sim *w, int side)
{
	struct sim_root *old = w->side[side].root;

	w->travelled = true;
	sim_app_killed(w, side);
	sim_enter(w, side);
	while (old->ends) {
		struct sim_end *e = old->ends;

		old->ends = e->next;
		vp_stream_set_user(e->s, NULL);
		free(e);
	}
	vp_mux_free(old->mux);
	free(old);
	sim_exit(w);
	if (side == SIM_GUEST)
		w->saved = false;
	side_start(w, side);
	w->side[side].attach_at = w->now + 1 + sim_random(w, 400 * SIM_MSEC);
}

void sim_outage(struct sim *w, int side, bool on)
{
	w->pipe[side].outage = on;
	w->pipe[side].outage_until = UINT64_MAX;
	w->pipe[side].quiet_bytes = 0;
	w->pipe[side].loss = true;
}

void sim_stall(struct sim *w, int side, bool on)
{
	w->pipe[side].stall = on;
	w->pipe[side].stall_until = UINT64_MAX;
}

size_t sim_under_way(const struct sim *w, int side)
{
	return w->pipe[side].len;
}

void sim_inject(struct sim *w, int side, const uint8_t *data, size_t n)
{
	sim_pipe_put(w, side, data, n);
}

uint64_t sim_counter(struct sim *w, int side, const char *name)
{
	const char *n;
	uint64_t v;

	for (size_t i = 0; (n = vp_mux_counter(sim_mux(w, side), i, &v)); i++)
		if (strcmp(n, name) == 0)
			return v;
	sim_fail(w, "no counter %s", name);
}

uint64_t sim_writes(const struct sim *w, int side)
{
	return w->side[side].writes;
}

/* One write of a side, if it has something and the pipe takes it. */
static bool move_out(struct sim *w, int side)
{
	struct sim_side *s = &w->side[side];
	struct vp_mux *m = s->root->mux;
	static uint8_t flat[1 << 16];
	size_t room = sim_pipe_room(w, side), n = 0, pieces;
	struct iovec iov[8];

	if (!s->attached || !room || !vp_mux_wants_write(m))
		return false;
	sim_enter(w, side);
	pieces = vp_mux_output(m, iov, 1 + sim_random(w, 8), 32768, w->now);
	sim_exit(w);
	for (size_t i = 0; i < pieces; i++) {
		memcpy(flat + n, iov[i].iov_base, iov[i].iov_len);
		n += iov[i].iov_len;
	}
	if (!n)
		return false;
	if (n > room)
		n = room;
	if (!w->calm && (w->cfg.faults & SIM_SLICE) && sim_random(w, 4) == 0)
		n = 1 + sim_random(w, n < 9 ? n : 9);
	sim_fault_on_write(w, side, flat, n);
	w->fault_bytes -= (int64_t)n;
	s->writes++;
	sim_enter(w, side);
	vp_mux_written(m, n, w->now);
	sim_exit(w);
	return true;
}

/* How many bytes the rate lets through now. */
static size_t rate_allows(struct sim *w, struct sim_pipe *p)
{
	size_t burst = 16; /* a UART's FIFO */

	if (!w->cfg.rate)
		return p->len;
	if (w->now < p->next_at)
		return 0;
	return p->len < burst ? p->len : burst;
}

static bool move_in(struct sim *w, int side)
{
	struct sim_pipe *p = &w->pipe[side];
	struct sim_side *to = &w->side[!side];
	static uint8_t bytes[1 << 16];
	size_t n = rate_allows(w, p);

	/* A guest's bytes go nowhere while no host is there. */
	if (side == SIM_GUEST && !to->attached) {
		p->loss |= p->len > 0;
		p->len = 0;
		return false;
	}
	if (p->stall || !n || !to->attached)
		return false;
	if (n > sizeof(bytes))
		n = sizeof(bytes);
	if (!w->calm && (w->cfg.faults & SIM_SLICE) && sim_random(w, 4))
		n = sim_random(w, 3) ? 1 + sim_random(w, n) : 1;
	memcpy(bytes, p->data + p->start, n);
	p->start += n;
	p->len -= n;
	if (w->cfg.rate)
		p->next_at = w->now + n * SIM_SEC / w->cfg.rate;
	sim_enter(w, !side);
	vp_mux_input(to->root->mux, bytes, n, w->now);
	sim_exit(w);
	return true;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return b && b < a ? b : a;
}

static uint64_t next_event(struct sim *w)
{
	uint64_t at = w->poke_at;

	if (!w->calm)
		at = earlier(at, w->fault_at);
	for (int i = 0; i < 2; i++) {
		struct sim_pipe *p = &w->pipe[i];

		at = earlier(at, vp_mux_deadline(w->side[i].root->mux));
		at = earlier(at, w->side[i].attach_at);
		if (p->outage)
			at = earlier(at, p->outage_until);
		if (p->stall)
			at = earlier(at, p->stall_until);
		if (w->cfg.rate && p->len && !p->stall)
			at = earlier(at, p->next_at);
	}
	return at;
}

static void events(struct sim *w)
{
	for (int i = 0; i < 2; i++) {
		struct sim_side *s = &w->side[i];

		if (w->pipe[i].outage && w->now >= w->pipe[i].outage_until)
			w->pipe[i].outage = false;
		if (w->pipe[i].stall && w->now >= w->pipe[i].stall_until)
			w->pipe[i].stall = false;
		if (s->attach_at && w->now >= s->attach_at)
			sim_attach(w, i);
		if (w->now >= vp_mux_deadline(s->root->mux)) {
			/* What the pipe holds is what the kernel would. */
			sim_enter(w, i);
			vp_mux_set_unsent(s->root->mux, i == SIM_HOST ?
						  w->pipe[i].len : 0);
			vp_mux_tick(s->root->mux, w->now);
			sim_exit(w);
		}
	}
	if (w->quiesce_until && w->now >= w->quiesce_until) {
		w->quiesce_until = 0;
		for (int i = 0; i < 2; i++) {
			sim_enter(w, i);
			vp_mux_quiesce(sim_mux(w, i), false);
			sim_exit(w);
		}
	}
	if (w->now >= w->poke_at) {
		w->poke_at = w->now + POKE_EVERY;
		sim_app_poke(w, SIM_HOST);
		sim_app_poke(w, SIM_GUEST);
	}
	if (!w->calm && (w->now >= w->fault_at || w->fault_bytes < 0)) {
		w->fault_bytes = (int64_t)sim_random(
			w, w->cfg.channel == VP_CHANNEL_VIRTIO ?
				   2 * FAULT_BYTES_VIRTIO :
				   2 * FAULT_BYTES_SERIAL);
		w->fault_at = w->now + sim_random(w, 2 * FAULT_EVERY);
		sim_fault_event(w);
	}
}

static void step(struct sim *w)
{
	bool moved = false;

	for (int i = 0; i < 2; i++) {
		moved |= move_out(w, i);
		moved |= move_in(w, i);
	}
	if (!moved) {
		uint64_t at = next_event(w);

		/* A deadline in the past must have been dealt with: 1 us on,
		 * and an endless loop shows as a limit that passes. */
		w->now = at > w->now ? at : w->now + 1000;
	} else if (!w->cfg.rate) {
		w->now += 1000;
	}
	events(w);
}

bool sim_until(struct sim *w, bool (*done)(struct sim *w, void *arg), void *arg,
	       uint64_t limit)
{
	uint64_t end = w->now + limit;

	while (!done(w, arg)) {
		if (w->now >= end)
			return false;
		step(w);
	}
	return true;
}

static bool never(struct sim *w, void *arg)
{
	return false;
}

void sim_for(struct sim *w, uint64_t ns)
{
	sim_until(w, never, NULL, ns);
}

static bool both_up(struct sim *w, void *arg)
{
	return vp_mux_session_up(sim_mux(w, 0)) && vp_mux_session_up(sim_mux(w, 1));
}

void sim_both_up(struct sim *w)
{
	if (!sim_until(w, both_up, NULL, 30 * SIM_SEC))
		sim_fail(w, "no session after 30 s");
}

static uint32_t some_length(struct sim *w)
{
	switch (sim_random(w, 4)) {
	case 0:
		return 0;
	case 1:
		return (uint32_t)sim_random(w, 600);
	default:
		return (uint32_t)sim_random(w, w->cfg.max_bytes);
	}
}

static void open_one(struct sim *w)
{
	int side = (int)sim_random(w, 2);

	if (!vp_mux_session_up(sim_mux(w, side)))
		return;
	if (w->n_recs == 0 && (w->cfg.faults & SIM_NO_READER)) {
		sim_open(w, side, w->cfg.max_bytes, w->cfg.max_bytes);
		w->recs[0].not_reading[!side] = true;
		return;
	}
	sim_open(w, side, some_length(w), some_length(w));
}

static bool all_opened(struct sim *w, void *arg)
{
	if (w->now >= w->open_at) {
		w->open_at = w->now + sim_random(w, 2 * OPEN_EVERY);
		open_one(w);
	}
	return w->n_recs >= (int)w->cfg.streams;
}

static bool all_ended(struct sim *w, void *arg)
{
	return sim_app_all_ended(w);
}

void sim_run(struct sim *w)
{
	if (!sim_until(w, all_opened, NULL, 3600 * SIM_SEC))
		sim_fail(w, "streams could not be opened for an hour");
	w->calm = true;
	w->quiesce_until = w->now + 1;
	for (int i = 0; i < 2; i++) {
		w->pipe[i].outage_until = w->pipe[i].stall_until = 0;
		if (!w->side[i].attached && !w->side[i].attach_at)
			w->side[i].attach_at = w->now + 1;
	}
	for (int i = 0; i < w->n_recs; i++)
		w->recs[i].not_reading[0] = w->recs[i].not_reading[1] = false;
	if (!sim_until(w, all_ended, NULL, RUN_LIMIT)) {
		sim_check_all(w);
		sim_fail(w, "streams never end");
	}
	sim_check_all(w);
}

enum sim_state sim_state(const struct sim *w, int rec, int side)
{
	return w->recs[rec].state[side];
}

int sim_reason(const struct sim *w, int rec, int side)
{
	return w->recs[rec].reason[side];
}

const char *sim_why(const struct sim *w, int side)
{
	return w->side[side].why;
}

uint32_t sim_received(const struct sim *w, int rec, int side)
{
	return w->recs[rec].received[side];
}

uint64_t sim_ended_at(const struct sim *w, int rec, int side)
{
	return w->recs[rec].ended_at[side];
}

void sim_set_reading(struct sim *w, int rec, int side, bool on)
{
	w->recs[rec].not_reading[side] = !on;
}

size_t sim_guest_memory(const struct sim *w)
{
	return sim_arena_used();
}
