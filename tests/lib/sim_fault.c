/*
 * sim_fault.c - what goes wrong in a simulated world
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <string.h>

#include "tests/lib/sim_impl.h"

/* A raw frame's payload must not lose and win equally many bytes: no channel
 * does that, and nothing could see it. */
#define REPLAY_AFTER_CUT (64u << 10)

size_t sim_pipe_room(const struct sim *w, int side)
{
	return w->pipe[side].size - w->pipe[side].len;
}

static void history_put(struct sim_pipe *p, const uint8_t *data, size_t n)
{
	if (n > SIM_HISTORY) {
		data += n - SIM_HISTORY;
		n = SIM_HISTORY;
	}
	if (p->history_len + n > SIM_HISTORY) {
		size_t drop = p->history_len + n - SIM_HISTORY;

		memmove(p->history, p->history + drop, p->history_len - drop);
		p->history_len -= drop;
	}
	memcpy(p->history + p->history_len, data, n);
	p->history_len += n;
}

void sim_pipe_put(struct sim *w, int side, const uint8_t *data, size_t n)
{
	struct sim_pipe *p = &w->pipe[side];

	if (p->start + p->len + n > SIM_PIPE_MAX * 2) {
		memmove(p->data, p->data + p->start, p->len);
		p->start = 0;
	}
	if (p->len + n > SIM_PIPE_MAX)
		n = SIM_PIPE_MAX - p->len;
	memcpy(p->data + p->start + p->len, data, n);
	p->len += n;
	p->quiet_bytes += n;
}

static bool chance(struct sim *w, unsigned fault, uint64_t one_in)
{
	return !w->calm && (w->cfg.faults & fault) && sim_random(w, one_in) == 0;
}

static void put_text(struct sim *w, int side)
{
	static const char text[] =
		"[   12.345678] kernel: a line on the console\r\n"
		"login: Password: AT+GCAP\r\n\xff\x01\x10\x18";
	size_t at = sim_random(w, sizeof(text) - 2);

	sim_pipe_put(w, side, (const uint8_t *)text + at,
		     1 + sim_random(w, sizeof(text) - 2 - at));
}

/* Single bytes that go wrong; the distance between two is drawn anew each time,
 * its mean is cfg.damage. */
static void damage_put(struct sim *w, int side, const uint8_t *data, size_t n)
{
	struct sim_pipe *p = &w->pipe[side];
	uint8_t one[2];

	for (;;) {
		if (!p->damage_in)
			p->damage_in = 1 + sim_random(w, 2 * w->cfg.damage - 1);
		if (p->damage_in > n) {
			p->damage_in -= n;
			sim_pipe_put(w, side, data, n);
			return;
		}
		sim_pipe_put(w, side, data, p->damage_in - 1);
		data += p->damage_in - 1;
		n -= p->damage_in;
		p->damage_in = 0;
		one[0] = (uint8_t)sim_random(w, 256);
		one[1] = *data++;
		switch (sim_random(w, 3)) {
		case 0:
			one[1] ^= (uint8_t)(1 << sim_random(w, 8));
			sim_pipe_put(w, side, one + 1, 1);
			break;
		case 1:
			sim_pipe_put(w, side, one, 2);
			break;
		default:
			break;
		}
	}
}

static void put(struct sim *w, int side, const uint8_t *data, size_t n)
{
	if (w->cfg.damage && !w->calm)
		damage_put(w, side, data, n);
	else
		sim_pipe_put(w, side, data, n);
}

/* On a serial line: byte by byte, some go wrong. */
void sim_fault_on_write(struct sim *w, int side, const uint8_t *data, size_t n)
{
	struct sim_pipe *p = &w->pipe[side];
	uint8_t bad[1 << 16];

	if (p->outage)
		return;
	history_put(p, data, n);
	if (w->cfg.channel != VP_CHANNEL_SERIAL || n > sizeof(bad)) {
		sim_pipe_put(w, side, data, n);
		return;
	}
	if (chance(w, SIM_ECHO, 40))
		sim_pipe_put(w, !side, data, n);
	memcpy(bad, data, n);
	if (chance(w, SIM_FLIP, 40))
		for (uint64_t k = 1 + sim_random(w, 4); k; k--)
			bad[sim_random(w, n)] ^= (uint8_t)(1 << sim_random(w, 8));
	if (chance(w, SIM_DROP, 40)) {
		size_t at = sim_random(w, n), k = 1 + sim_random(w, 16);

		if (k > n - at)
			k = n - at;
		memmove(bad + at, bad + at + k, n - at - k);
		n -= k;
	}
	if (chance(w, SIM_TEXT, 40)) {
		size_t at = sim_random(w, n + 1);

		put(w, side, bad, at);
		put_text(w, side);
		put(w, side, bad + at, n - at);
	} else {
		put(w, side, bad, n);
	}
	if (chance(w, SIM_DUP, 60)) {
		size_t k = sim_random(w, p->history_len + 1);

		sim_pipe_put(w, side, p->history + p->history_len - k, k);
	}
}

static void cut(struct sim *w, int side)
{
	struct sim_pipe *p = &w->pipe[side];
	size_t n = sim_random(w, p->len + 1);

	if (sim_random(w, 2)) {
		p->start += n;
		p->len -= n;
	} else {
		p->len -= n;
	}
	p->quiet_bytes = 0;
	p->loss = true;
}

static void flap(struct sim *w)
{
	if (!w->side[SIM_HOST].attached)
		return;
	/* What the host has not read is lost; of what it wrote, a part. */
	w->pipe[SIM_GUEST].len = 0;
	cut(w, SIM_HOST);
	sim_detach(w, SIM_HOST);
	w->side[SIM_HOST].attach_at = w->now + 1 + sim_random(w, 200 * SIM_MSEC);
	if (sim_random(w, 2)) {
		sim_detach(w, SIM_GUEST);
		w->side[SIM_GUEST].attach_at =
			w->now + 1 + sim_random(w, 300 * SIM_MSEC);
	}
}

static void replay(struct sim *w, int side)
{
	struct sim_pipe *p = &w->pipe[side];
	size_t n;

	if (p->loss && p->quiet_bytes < REPLAY_AFTER_CUT)
		return;
	p->loss = false;
	n = sim_random(w, p->history_len + 1);
	if (n > sim_pipe_room(w, side))
		n = sim_pipe_room(w, side);
	sim_pipe_put(w, side, p->history + p->history_len - n,
		     n ? sim_random(w, n) : 0);
}

static void rollback(struct sim *w)
{
	if (!w->saved || sim_random(w, 3) == 0) {
		sim_save(w);
		return;
	}
	sim_restore(w);
	/* What was under way to it may stay or go. */
	if (sim_random(w, 2))
		cut(w, SIM_HOST);
	if (sim_random(w, 2))
		cut(w, SIM_GUEST);
}

/* Now and then, something happens. */
void sim_fault_event(struct sim *w)
{
	int side = (int)sim_random(w, 2);
	unsigned f = 0;

	if (w->calm || !(w->cfg.faults & SIM_EVENTS))
		return;
	while (!(w->cfg.faults & SIM_EVENTS & f))
		f = 1u << sim_random(w, 16);
	switch (f) {
	case SIM_OUTAGE:
		sim_outage(w, side, true);
		w->pipe[side].outage_until =
			w->now + sim_random(w, 300 * SIM_MSEC);
		break;
	case SIM_STALL:
		sim_stall(w, side, true);
		w->pipe[side].stall_until =
			w->now + sim_random(w, 500 * SIM_MSEC);
		break;
	case SIM_FLAP:
		flap(w);
		break;
	case SIM_CUT:
		cut(w, side);
		break;
	case SIM_REPLAY:
		replay(w, side);
		break;
	case SIM_RESTART:
		sim_restart(w, side);
		break;
	case SIM_ROLLBACK:
		rollback(w);
		break;
	case SIM_QUIESCE:
		sim_enter(w, side);
		vp_mux_quiesce(sim_mux(w, side), true);
		sim_exit(w);
		w->quiesce_until = w->now + sim_random(w, 500 * SIM_MSEC);
		break;
	case SIM_APP_RESET:
		sim_app_reset_one(w, side);
		break;
	default:
		break;
	}
}
