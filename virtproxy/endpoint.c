/*
 * endpoint.c - drives one channel: transport and mux on an event loop
 *
 * Reads and writes are independent: the channel is read whenever it has bytes,
 * whatever the streams do (the mux's credit bounds the memory), and written
 * whenever the mux offers something.  Once a second everything is tried again
 * even if no event came, because wake-ups of virtio ports get lost.
 *
 * Opening is repeated for ever.  A channel that is open but silent is closed and
 * opened again when the mux asks for it, at growing intervals: that is the only
 * cure for some states of QEMU's chardev, and harmless because the link resumes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/sock.h"
#include "virtproxy/lock.h"

#define RX_SIZE 65536u
#define RX_PER_TURN (1u << 20) /* then other sources get their turn */
#define IOV_PIECES 64u
#define TICK_MAX NSEC_PER_SEC
#define OPEN_DELAY_MIN (100 * NSEC_PER_MSEC)
#define OPEN_DELAY_MAX NSEC_PER_SEC
#define ABSENT_DELAY_MIN (100 * NSEC_PER_MSEC)
#define ABSENT_DELAY_MAX (250 * NSEC_PER_MSEC)
#define WRITE_RETRY (10 * NSEC_PER_MSEC)
#define REATTACH_MIN (3 * NSEC_PER_SEC)
#define REATTACH_MAX (30 * NSEC_PER_SEC)
#define GOODBYE_MAX (500 * NSEC_PER_MSEC)

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

static void channel_down(struct vp_endpoint *ep, enum channel_state state,
			 const char *why)
{
	bool was_up = ep->state == CHANNEL_UP;

	ep->state = state;
	if (!was_up)
		return;
	vp_mux_detach(ep->mux, clock_now());
	log_ratelimited(&channel_limit, LOG_LVL_INFO, "%s: channel %s: %s", ep->label,
			endpoint_channel_word(ep), why);
	ctl_event(ep, "event channel down %s", why);
}

static void channel_up(struct vp_endpoint *ep)
{
	ep->state = CHANNEL_UP;
	ep->blocked = false;
	ep->backoff = OPEN_DELAY_MIN;
	ep->next_check = clock_now() + NSEC_PER_SEC;
	if (watch(ep, ep->transport.fd, LOOP_READ) < 0)
		log_error("%s: the channel cannot be watched: %s", ep->label,
			  strerror(errno));
	vp_mux_attach(ep->mux, clock_now());
	if (ep->transport.ops->tune)
		ep->transport.ops->tune(&ep->transport, vp_mux_channel(ep->mux));
	log_ratelimited(&channel_limit, LOG_LVL_INFO, "%s: channel up", ep->label);
	ctl_event(ep, "event channel up %s", ep->spec.name);
}

/* The channel is of no use any more: close it, open it again later. */
static void channel_lost(struct vp_endpoint *ep, const char *why)
{
	if (ep->state == CHANNEL_UP)
		ep->counts.channel_losses++;
	watch(ep, -1, 0);
	channel_down(ep, CHANNEL_CLOSED, why);
	ep->transport.ops->close(&ep->transport);
	loop_timer_in(ep->open_timer, ep->backoff);
	ep->backoff *= 2;
	if (ep->backoff > OPEN_DELAY_MAX)
		ep->backoff = OPEN_DELAY_MAX;
}

/* Nobody at the other side: keep the descriptor, do not poll it, look again. */
static void channel_absent(struct vp_endpoint *ep)
{
	uint64_t delay = ep->state == CHANNEL_ABSENT ? ABSENT_DELAY_MAX :
						       ABSENT_DELAY_MIN;

	watch(ep, -1, 0);
	channel_down(ep, CHANNEL_ABSENT, "nobody is attached to the other side");
	loop_timer_in(ep->open_timer, delay);
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

static void channel_open(struct vp_endpoint *ep)
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
	if (t->ops->present && !t->ops->present(t))
		channel_absent(ep);
	else
		channel_up(ep);
}

static void on_open_timer(void *arg)
{
	struct vp_endpoint *ep = arg;

	if (ep->state == CHANNEL_CLOSED)
		channel_open(ep);
	else if (ep->state == CHANNEL_ABSENT) {
		if (ep->transport.ops->present(&ep->transport))
			channel_up(ep);
		else
			channel_absent(ep);
	}
	endpoint_pump(ep);
}

/* Reads what there is; false when the channel was lost or left. */
static bool read_channel(struct vp_endpoint *ep)
{
	struct vp_transport *t = &ep->transport;
	size_t got = 0;
	ssize_t n = 0;

	while (ep->state == CHANNEL_UP && got < RX_PER_TURN) {
		n = t->ops->read(t, ep->rx, RX_SIZE);
		if (n <= 0)
			break;
		vp_mux_input(ep->mux, ep->rx, (size_t)n, clock_now());
		got += (size_t)n;
	}
	if (n == -ENOTCONN)
		channel_absent(ep);
	else if (n < 0 && n != -EAGAIN)
		channel_lost(ep, n == -ECONNRESET ? "closed by the other side" :
						    strerror((int)-n));
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
	loop_fd_set(ep->channel_src, n == -EAGAIN ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

static void set_tick(struct vp_endpoint *ep)
{
	uint64_t at = vp_mux_deadline(ep->mux);

	if (ep->state == CHANNEL_UP) {
		uint64_t latest = clock_now() + TICK_MAX;

		if (at > latest)
			at = latest;
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

static void on_channel(int fd, unsigned events, void *arg)
{
	struct vp_endpoint *ep = arg;

	if (events & LOOP_WRITE)
		ep->blocked = false;
	if (ep->state == CHANNEL_OPENING)
		channel_open(ep);
	else if (ep->state == CHANNEL_UP && (events & LOOP_READ))
		read_channel(ep);
	endpoint_pump(ep);
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

static void check_transport(struct vp_endpoint *ep, uint64_t now)
{
	if (ep->state != CHANNEL_UP || now < ep->next_check)
		return;
	ep->next_check = now + NSEC_PER_SEC;
	if (ep->transport.ops->check)
		ep->transport.ops->check(&ep->transport);
}

static void on_tick(void *arg)
{
	struct vp_endpoint *ep = arg;
	uint64_t now = clock_now();
	ssize_t unsent;

	ep->blocked = false;
	if (ep->state == CHANNEL_UP && read_channel(ep)) {
		unsent = fd_unsent(ep->transport.fd);
		vp_mux_set_unsent(ep->mux, unsent > 0 ? (size_t)unsent : 0);
	}
	vp_mux_tick(ep->mux, now);
	check_transport(ep, now);
	maybe_reattach(ep, now);
	endpoint_pump(ep);
}

void endpoint_reopen(struct vp_endpoint *ep, const char *why)
{
	if (ep->state == CHANNEL_FROZEN)
		return;
	ep->backoff = OPEN_DELAY_MIN;
	channel_lost(ep, why);
}

void endpoint_freeze(struct vp_endpoint *ep, bool frozen, const char *why)
{
	if (frozen == (ep->state == CHANNEL_FROZEN))
		return;
	if (frozen) {
		loop_timer_stop(ep->open_timer);
		watch(ep, -1, 0);
		channel_down(ep, CHANNEL_FROZEN, why);
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

static void on_session(void *arg, bool up, const char *why)
{
	struct vp_endpoint *ep = arg;

	log_ratelimited(&channel_limit, LOG_LVL_INFO, "%s: session %s%s%s", ep->label,
			up ? "up" : "down", why && *why ? ": " : "", why ? why : "");
	if (up) {
		ep->reattach_delay = REATTACH_MIN;
		if (ep->transport.ops->tune && ep->state == CHANNEL_UP)
			ep->transport.ops->tune(&ep->transport,
						vp_mux_channel(ep->mux));
	}
	ctl_event(ep, "event session %s %s", up ? "up" : "down",
		  why && *why ? why : "-");
	if (ep->on_session)
		ep->on_session(ep->on_session_arg, up, why);
}

/* Without getrandom() (Linux 3.2), or early at boot, from the device. */
static void on_random(void *arg, void *buf, size_t n)
{
	FILE *f;

#ifdef HAVE_GETRANDOM
	if (getrandom(buf, n, GRND_NONBLOCK) == (ssize_t)n)
		return;
#endif
	f = fopen("/dev/urandom", "re");
	if (!f || fread(buf, 1, n, f) != n) {
		/* Uniqueness is what counts, not secrecy: time and pid. */
		uint64_t seed = clock_now() ^ (uint64_t)getpid() << 40;

		for (size_t i = 0; i < n; i++) {
			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
			((uint8_t *)buf)[i] = (uint8_t)(seed >> 56);
		}
	}
	if (f)
		fclose(f);
}

static const struct vp_mux_ops mux_ops = {
	.opened = forward_opened,
	.fill = forward_fill,
	.deliver = forward_deliver,
	.eof = forward_eof,
	.closed = forward_closed,
	.session = on_session,
	.random = on_random,
};

void endpoint_note_refused(struct vp_endpoint *ep, uint32_t number,
			   const char *service, const char *reason)
{
	struct vp_refused *r = &ep->refused[ep->refused_total++ % VP_REFUSED_KEPT];

	r->number = number;
	log_escape(r->service, sizeof(r->service), service, strlen(service));
	log_escape(r->reason, sizeof(r->reason), reason, strlen(reason));
	ctl_event(ep, "event refused %u %s %s", number, r->service, r->reason);
}

static int make_parts(struct vp_endpoint *ep, const struct vp_endpoint_config *cfg)
{
	struct vp_mux_config mux_cfg = {
		.role = cfg->guest ? VP_GUEST : VP_HOST,
		.channel = cfg->guest ? ep->transport.ops->kind : VP_CHANNEL_UNKNOWN,
		.start_seq = cfg->start_seq,
		.compress = cfg->compress,
		.probe = cfg->probe_serial,
	};

	ep->rx = malloc(RX_SIZE);
	ep->open_timer = loop_timer_new(ep->loop, on_open_timer, ep);
	ep->tick_timer = loop_timer_new(ep->loop, on_tick, ep);
	ep->mux = vp_mux_new(&mux_cfg, &mux_ops, ep, clock_now());
	if (!ep->rx || !ep->open_timer || !ep->tick_timer || !ep->mux)
		return -ENOMEM;
	if (cfg->qmp_path) {
		ep->qmp = qmp_new(ep, cfg->qmp_path);
		if (!ep->qmp)
			return -errno;
	}
	return 0;
}

/* The first opening; a listener that cannot be made is an error at once. */
static int first_open(struct vp_endpoint *ep, char *err, size_t err_size)
{
	bool must = ep->spec.method == VP_UNIX_LISTEN ||
		    ep->spec.method == VP_TCP_LISTEN || ep->spec.method == VP_FD;

	channel_open(ep);
	if (must && ep->state == CHANNEL_CLOSED) {
		snprintf(err, err_size, "%s %s: %s", ep->spec.name, ep->spec.addr,
			 strerror(-ep->open_errno));
		return ep->open_errno;
	}
	endpoint_pump(ep);
	return 0;
}

struct vp_endpoint *vp_endpoint_new(const struct vp_endpoint_config *cfg,
				    char *err, size_t err_size)
{
	struct vp_endpoint *ep = calloc(1, sizeof(*ep));
	int r;

	if (!ep) {
		snprintf(err, err_size, "out of memory");
		return NULL;
	}
	ep->loop = cfg->loop;
	ep->spec = cfg->channel;
	ep->guest = cfg->guest;
	ep->lock_fd = -1;
	ep->backoff = OPEN_DELAY_MIN;
	ep->reattach_delay = REATTACH_MIN;
	if (cfg->label)
		log_escape(ep->label, sizeof(ep->label), cfg->label, strlen(cfg->label));
	else
		log_escape(ep->label, sizeof(ep->label), ep->spec.addr,
			   strlen(ep->spec.addr));
	vp_transport_init(&ep->transport, &ep->spec, ep->label);
	snprintf(err, err_size, "out of memory");
	r = channel_lock(&ep->spec, ep->guest, &ep->lock_fd, err, err_size);
	if (r == 0)
		r = make_parts(ep, cfg);
	if (r == 0)
		r = first_open(ep, err, err_size);
	if (r < 0) {
		vp_endpoint_free(ep);
		errno = -r;
		return NULL;
	}
	return ep;
}

void vp_endpoint_free(struct vp_endpoint *ep)
{
	if (!ep)
		return;
	ep->pumping = true; /* nothing is written any more */
	qmp_free(ep->qmp);
	ctl_free_all(ep);
	if (ep->mux)
		vp_mux_free(ep->mux);
	forward_free_all(ep);
	loop_fd_free(ep->channel_src);
	vp_transport_done(&ep->transport);
	loop_timer_free(ep->open_timer);
	loop_timer_free(ep->tick_timer);
	loop_timer_free(ep->goodbye_timer);
	if (ep->lock_fd >= 0)
		close(ep->lock_fd);
	free(ep->rx);
	free(ep);
}

bool vp_endpoint_session_up(const struct vp_endpoint *ep)
{
	return vp_mux_session_up(ep->mux);
}

void vp_endpoint_on_session(struct vp_endpoint *ep,
			    void (*fn)(void *arg, bool up, const char *why),
			    void *arg)
{
	ep->on_session = fn;
	ep->on_session_arg = arg;
}

static bool all_sent(const struct vp_endpoint *ep)
{
	return ep->state != CHANNEL_UP ||
	       (!vp_mux_wants_write(ep->mux) && fd_unsent(ep->transport.fd) <= 0);
}

static void on_goodbye(void *arg)
{
	struct vp_endpoint *ep = arg;
	static const uint64_t poll_ns = 5 * NSEC_PER_MSEC;

	endpoint_pump(ep);
	if (!all_sent(ep) && clock_now() < ep->goodbye_until) {
		loop_timer_in(ep->goodbye_timer, poll_ns);
		return;
	}
	ep->goodbye_done(ep->goodbye_arg);
}

void vp_endpoint_shutdown(struct vp_endpoint *ep, loop_fn done, void *arg)
{
	if (ep->goodbye)
		return;
	ep->goodbye = true;
	ep->goodbye_done = done;
	ep->goodbye_arg = arg;
	ep->goodbye_until = clock_now() + GOODBYE_MAX;
	vp_mux_goaway(ep->mux, "shutdown");
	vp_mux_reset_session(ep->mux, VP_RESET_SHUTDOWN, clock_now());
	ep->goodbye_timer = loop_timer_new(ep->loop, on_goodbye, ep);
	if (!ep->goodbye_timer)
		done(arg);
	else
		loop_timer_in(ep->goodbye_timer, 0);
}
