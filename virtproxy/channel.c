/*
 * channel.c - opens, reads, writes and gives up the one channel of an endpoint
 *
 * Reads and writes are independent: the channel is read whenever it has bytes,
 * whatever the streams do (the mux's credit bounds the memory), and written
 * whenever the mux offers something.  About once a second (at rest: two) everything
 * is tried again even if no event came, because wake-ups of virtio ports get lost;
 * sockets lose none and need it as often as the link has something to do.
 *
 * Opening is repeated for ever.  A channel that is open but silent is closed and
 * opened again when the mux asks for it, at growing intervals: that is the only
 * cure for some states of QEMU's chardev, and harmless because the link resumes.
 *
 * A QEMU whose VM has migrated away still hands out what its queues hold, and the
 * new host is given the same.  With a monitor (qmp.c), bytes that came after it said
 * that the VM stopped are kept back until it says why, and thrown away in that case.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/sock.h"
#include "virtproxy/endpoint.h"

#define RX_PER_TURN (1u << 20) /* then other sources get their turn */
#define RX_SMALL 8192u /* bytes: what calls need, and is not worth freeing */
#define IOV_PIECES 64u
#define OPEN_DELAY_MAX NSEC_PER_SEC
/* A port wakes who polls it when its host is back; such wake-ups get lost. */
#define ABSENT_DELAY NSEC_PER_SEC
#define LOST_WAKEUP (2 * NSEC_PER_SEC) /* how long it may stay unnoticed */
#define WRITE_RETRY (10 * NSEC_PER_MSEC)
#define REATTACH_MAX (30 * NSEC_PER_SEC)

static struct log_limit channel_limit = LOG_LIMIT_INIT;

const char *endpoint_channel_word(const struct vp_endpoint *ep)
{
	static const char *const words[] = {
		[CHANNEL_CLOSED] = "closed", [CHANNEL_OPENING] = "opening",
		[CHANNEL_ABSENT] = "absent", [CHANNEL_UP] = "up",
		[CHANNEL_FROZEN] = "frozen",
	};

	return words[ep->state];
}

static void on_channel(int fd, unsigned events, void *arg);

/* Watches fd instead of what was watched before; -1 = nothing. */
static int watch(struct vp_endpoint *ep, int fd, unsigned events)
{
	loop_fd_free(ep->channel_src);
	ep->channel_src = NULL;
	if (fd < 0)
		return 0;
	ep->channel_src = loop_fd_new(ep->loop, fd, events, on_channel, ep);
	return ep->channel_src ? 0 : -errno;
}

/* ours: it was our wish; the machine at its other end is still there. */
static void channel_down(struct vp_endpoint *ep, enum channel_state state,
			 bool ours, const char *why)
{
	bool was_up = ep->state == CHANNEL_UP;

	ep->state = state;
	ep->held = 0;
	if (!was_up)
		return;
	vp_mux_detach(ep->mux, clock_now());
	log_ratelimited(&channel_limit, LOG_LVL_INFO, "%s: channel %s: %s", ep->label,
			endpoint_channel_word(ep), why);
	ctl_event(ep, "event channel %s %s", ours ? "closed" : "down", why);
}

static void channel_up(struct vp_endpoint *ep)
{
	ep->state = CHANNEL_UP;
	ep->blocked = false;
	ep->backoff = VP_OPEN_DELAY_MIN;
	ep->next_check = clock_now() + NSEC_PER_SEC;
	if (watch(ep, ep->transport.fd, endpoint_read_interest(ep)) < 0)
		log_error("%s: the channel cannot be watched: %s", ep->label,
			  strerror(errno));
	vp_mux_set_trigger(ep->mux, ep->transport.trigger);
	vp_mux_attach(ep->mux, clock_now());
	if (ep->transport.ops->tune)
		ep->transport.ops->tune(&ep->transport, vp_mux_channel(ep->mux));
	log_ratelimited(&channel_limit, LOG_LVL_INFO, "%s: channel up", ep->label);
	ctl_event(ep, "event channel up %s", ep->spec.name);
}

/* The channel is of no use any more: close it, open it again later. */
static void close_channel(struct vp_endpoint *ep, bool ours, const char *why)
{
	if (ep->state == CHANNEL_UP)
		ep->counts.channel_losses++;
	watch(ep, -1, 0);
	channel_down(ep, CHANNEL_CLOSED, ours, why);
	ep->transport.ops->close(&ep->transport);
	loop_timer_in(ep->open_timer, ep->backoff);
	ep->backoff *= 2;
	if (ep->backoff > OPEN_DELAY_MAX)
		ep->backoff = OPEN_DELAY_MAX;
}

static void channel_lost(struct vp_endpoint *ep, const char *why)
{
	close_channel(ep, false, why);
}

/*
 * Nobody at the other side: keep the descriptor, wait for a change (a level would
 * be the hang-up, for ever).  One that cannot be watched is looked at now and then.
 */
static void channel_absent(struct vp_endpoint *ep)
{
	if (ep->state != CHANNEL_ABSENT)
		(void)watch(ep, ep->transport.fd, LOOP_READ | LOOP_EDGE);
	channel_down(ep, CHANNEL_ABSENT, false,
		     "nobody is attached to the other side");
	loop_timer_in(ep->open_timer, ABSENT_DELAY);
}

/* The channel is open: is anybody at the other side? */
static void channel_look(struct vp_endpoint *ep)
{
	struct vp_transport *t = &ep->transport;
	int r = t->ops->present ? t->ops->present(t) : 1;

	if (r > 0)
		channel_up(ep);
	else if (r == 0)
		channel_absent(ep);
	else
		channel_lost(ep, strerror(-r));
}

static void open_failed(struct vp_endpoint *ep, int r)
{
	/* Said once per reason: it is tried again for ever. */
	if (r != ep->open_errno)
		log_warning("%s: waiting for %s %s: %s", ep->label, ep->spec.name,
			    ep->spec.addr, strerror(-r));
	ep->open_errno = r;
	channel_lost(ep, strerror(-r));
}

void channel_open(struct vp_endpoint *ep)
{
	struct vp_transport *t = &ep->transport;
	int r = t->ops->open(t);

	if (r == -EINPROGRESS) {
		ep->state = CHANNEL_OPENING;
		r = watch(ep, t->wait_fd, t->wait_events);
		if (r == 0)
			return;
	}
	if (r < 0) {
		open_failed(ep, r);
		return;
	}
	ep->open_errno = 0;
	ep->counts.channel_opens++;
	channel_look(ep);
}

void channel_on_open_timer(void *arg)
{
	struct vp_endpoint *ep = arg;

	if (ep->state == CHANNEL_CLOSED)
		channel_open(ep);
	else if (ep->state == CHANNEL_ABSENT)
		channel_look(ep);
	endpoint_pump(ep);
}

/* Sockets lose no wake-ups, unlike virtio ports. */
static bool is_socket(const struct vp_transport *t)
{
	return t->ops->read == vp_transport_read;
}

/*
 * Fills ep->rx from the channel: a virtio port gives no more than 4 KiB a read(),
 * and frames that lie whole in what the mux is given are not copied.  The bytes;
 * *end is what the last read() said instead of bytes, 0 when rx is full.
 */
static size_t fill_rx(struct vp_endpoint *ep, ssize_t *end)
{
	struct vp_transport *t = &ep->transport;
	size_t got = 0;
	ssize_t n = 1;

	if (!ep->rx)
		ep->rx = malloc(VP_RX_SIZE);
	if (!ep->rx) {
		*end = -EAGAIN; /* the next tick tries again */
		return 0;
	}
	while (n > 0 && got < VP_RX_SIZE) {
		n = t->ops->read(t, ep->rx + got, VP_RX_SIZE - got);
		if (n > 0)
			got += (size_t)n;
		/* A socket that gave less than asked for is empty. */
		if (n > 0 && got < VP_RX_SIZE && is_socket(t))
			n = -EAGAIN;
	}
	*end = n > 0 ? 0 : n;
	ep->rx_used |= got > RX_SMALL;
	return got;
}

/* Reads what there is; false when the channel was lost or left. */
static bool read_channel(struct vp_endpoint *ep)
{
	size_t got = 0, n = 1;
	ssize_t end = 0;

	while (ep->state == CHANNEL_UP && !ep->hold_until && n && end == 0 &&
	       got < RX_PER_TURN) {
		n = fill_rx(ep, &end);
		/* What QEMU said before it gave these bytes decides about them. */
		qmp_poll(ep->qmp);
		if (ep->hold_until || ep->state != CHANNEL_UP) {
			ep->held = ep->hold_until ? n : 0;
			break;
		}
		/* After goodbye the peer's HELLO would begin a session that ends
		 * with this process. */
		if (n && !ep->goodbye)
			vp_mux_input(ep->mux, ep->rx, n, clock_now());
		got += n;
	}
	if (ep->state != CHANNEL_UP)
		return false;
	if (end == -ENOTCONN)
		channel_absent(ep);
	else if (end < 0 && end != -EAGAIN)
		channel_lost(ep, end == -ECONNRESET ? "closed by the other side" :
						      strerror((int)-end));
	return ep->state == CHANNEL_UP;
}

static void write_channel(struct vp_endpoint *ep)
{
	struct vp_transport *t = &ep->transport;
	struct iovec iov[IOV_PIECES];
	ssize_t n = 0;
	size_t pieces;

	while (ep->state == CHANNEL_UP) {
		pieces = vp_mux_output(ep->mux, iov, IOV_PIECES, t->ops->write_max,
				       clock_now());
		if (pieces == 0)
			break;
		n = t->ops->write(t, iov, pieces);
		if (n < 0)
			break;
		vp_mux_written(ep->mux, (size_t)n, clock_now());
	}
	if (ep->state != CHANNEL_UP)
		return;
	if (n < 0 && n != -EAGAIN && n != -ENOBUFS) {
		channel_lost(ep, strerror((int)-n));
		return;
	}
	ep->blocked = n < 0;
	ep->retry_at = n == -ENOBUFS ? clock_now() + WRITE_RETRY : CLOCK_NEVER;
	loop_fd_set(ep->channel_src, endpoint_read_interest(ep) | (n == -EAGAIN ? LOOP_WRITE : 0));
}

static void set_tick(struct vp_endpoint *ep)
{
	uint64_t at = vp_mux_deadline(ep->mux);

	if (ep->state == CHANNEL_UP) {
		/* Since the last tick, not from now: clients that come more
		 * often than that would put it off for ever. */
		if (at > ep->tick_latest)
			at = ep->tick_latest;
		if (ep->blocked && at > ep->retry_at)
			at = ep->retry_at;
	}
	loop_timer_at(ep->tick_timer, at);
}

void endpoint_pump(struct vp_endpoint *ep)
{
	/* Reached again from a callback of the mux: the outer one goes on. */
	if (ep->pumping)
		return;
	ep->pumping = true;
	do
		if (!ep->blocked)
			write_channel(ep);
	while (forward_reap(ep));
	set_tick(ep);
	ep->pumping = false;
}

/* R19: silence that only a reconnect can end. */
static void maybe_reattach(struct vp_endpoint *ep, uint64_t now)
{
	if (ep->guest || ep->state != CHANNEL_UP || ep->vm_paused ||
	    ep->spec.method == VP_FD || now < ep->reattach_after ||
	    !vp_mux_wants_reconnect(ep->mux, now))
		return;
	ep->counts.reattaches++;
	ep->reattach_after = now + ep->reattach_delay;
	ep->reattach_delay *= 2;
	if (ep->reattach_delay > REATTACH_MAX)
		ep->reattach_delay = REATTACH_MAX;
	endpoint_reopen(ep, "the peer is silent");
}

/* Buffers that a second went by without. */
static void release_idle(struct vp_endpoint *ep)
{
	if (!vp_mux_release(ep->mux) || !ep->rx_used)
		return;
	free(ep->rx);
	ep->rx = NULL;
	ep->rx_used = false;
}

static void check_transport(struct vp_endpoint *ep, uint64_t now)
{
	if (ep->state != CHANNEL_UP || now < ep->next_check)
		return;
	ep->next_check = now + NSEC_PER_SEC;
	if (ep->transport.ops->check)
		ep->transport.ops->check(&ep->transport);
	release_idle(ep);
}

uint64_t endpoint_silent_after(const struct vp_endpoint *ep)
{
	return VP_SILENT_NS + vp_mux_grace(ep->mux);
}

/* A supervisor need not ask all the time: it is told of silence, and of its
 * end. */
static void watch_silence(struct vp_endpoint *ep, uint64_t now)
{
	uint64_t heard = vp_mux_last_heard(ep->mux);
	bool silent;

	if (heard)
		ep->heard_ns = heard;
	silent = vp_mux_session_up(ep->mux) && ep->heard_ns &&
		 now - ep->heard_ns >= endpoint_silent_after(ep);
	if (silent == ep->silent)
		return;
	ep->silent = silent;
	ctl_event(ep, "event peer %s", silent ? "silent" : "heard");
}

static uint64_t tick_every(const struct vp_endpoint *ep)
{
	uint64_t pace = vp_mux_pace(ep->mux);

	return pace > LOST_WAKEUP && !is_socket(&ep->transport) ? LOST_WAKEUP : pace;
}

/* What is done once a second (at rest: less often), after the channel was read. */
static void tick(struct vp_endpoint *ep, uint64_t now)
{
	uint64_t pace = tick_every(ep);
	ssize_t unsent;

	/* When it has just been read anyway half the time is enough, so that an idle
	 * one wakes the process once. */
	ep->tick_latest = now + pace + pace / 4;
	ep->blocked = false;
	if (ep->hold_until && now >= ep->hold_until)
		endpoint_hold(ep, false);
	if (ep->state == CHANNEL_UP) {
		unsent = fd_unsent(ep->transport.fd);
		vp_mux_set_unsent(ep->mux, unsent > 0 ? (size_t)unsent : 0);
	}
	vp_mux_tick(ep->mux, now);
	check_transport(ep, now);
	maybe_reattach(ep, now);
	watch_silence(ep, now);
}

void channel_on_tick(void *arg)
{
	struct vp_endpoint *ep = arg;

	if (ep->state == CHANNEL_UP && !is_socket(&ep->transport))
		read_channel(ep);
	tick(ep, clock_now());
	endpoint_pump(ep);
}

static void on_channel(int fd, unsigned events, void *arg)
{
	struct vp_endpoint *ep = arg;
	uint64_t now;

	if (events & LOOP_WRITE)
		ep->blocked = false;
	if (ep->state == CHANNEL_OPENING)
		channel_open(ep);
	else if (ep->state == CHANNEL_ABSENT)
		channel_look(ep);
	else if (ep->state == CHANNEL_UP && (events & LOOP_READ) && read_channel(ep)) {
		now = clock_now();
		if (now + tick_every(ep) / 2 >= ep->tick_latest)
			tick(ep, now);
	}
	endpoint_pump(ep);
}

void endpoint_reopen(struct vp_endpoint *ep, const char *why)
{
	if (ep->state == CHANNEL_FROZEN)
		return;
	ep->backoff = VP_OPEN_DELAY_MIN;
	close_channel(ep, true, why);
}

void endpoint_freeze(struct vp_endpoint *ep, bool frozen, const char *why)
{
	if (frozen == (ep->state == CHANNEL_FROZEN))
		return;
	if (frozen) {
		loop_timer_stop(ep->open_timer);
		watch(ep, -1, 0);
		channel_down(ep, CHANNEL_FROZEN, true, why);
		log_info("%s: frozen: %s", ep->label, why);
		return;
	}
	log_info("%s: thawed: %s", ep->label, why);
	ep->state = CHANNEL_CLOSED;
	if (ep->transport.fd >= 0)
		channel_up(ep);
	else
		loop_timer_in(ep->open_timer, 0);
}
