/*
 * endpoint.c - makes and ends an endpoint: mux, channel and what hangs on them
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
#include "virtproxy/counters.h"
#include "virtproxy/lock.h"

#define HOLD_MAX NSEC_PER_SEC
#define GOODBYE_MAX (500 * NSEC_PER_MSEC)
#define GOODBYE_POLL (5 * NSEC_PER_MSEC)

static struct log_limit session_limit = LOG_LIMIT_INIT;

static void on_session(void *arg, bool up, const char *why)
{
	struct vp_endpoint *ep = arg;

	log_ratelimited(&session_limit, LOG_LVL_INFO, "%s: session %s%s%s", ep->label,
			up ? "up" : "down", why && *why ? ": " : "", why ? why : "");
	if (up) {
		ep->reattach_delay = VP_REATTACH_MIN;
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
		.long_rest = cfg->long_rest,
	};

	ep->open_timer = loop_timer_new(ep->loop, channel_on_open_timer, ep);
	ep->tick_timer = loop_timer_new(ep->loop, channel_on_tick, ep);
	ep->quiesce_timer = loop_timer_new(ep->loop, ctl_on_quiesce_over, ep);
	ep->mux = vp_mux_new(&mux_cfg, &mux_ops, ep, clock_now());
	if (!ep->open_timer || !ep->tick_timer ||
	    !ep->quiesce_timer || !ep->mux)
		return -ENOMEM;
	if (cfg->qmp_path) {
		ep->qmp = qmp_new(ep, cfg->qmp_path);
		if (!ep->qmp)
			return -errno;
	}
	return 0;
}

/* A channel that is reached by name is looked up now, once: that may block. */
static int resolve(struct vp_endpoint *ep, char *err, size_t err_size)
{
	int r;

	if (ep->spec.method != VP_TCP_CONNECT && ep->spec.method != VP_TCP_LISTEN)
		return 0;
	r = sock_tcp_resolve(ep->spec.addr, ep->spec.port, ep->spec.addr,
			     sizeof(ep->spec.addr));
	if (r < 0)
		snprintf(err, err_size, "%s %s:%s: %s", ep->spec.name, ep->spec.addr,
			 ep->spec.port, strerror(-r));
	return r;
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
	ep->backoff = VP_OPEN_DELAY_MIN;
	ep->reattach_delay = VP_REATTACH_MIN;
	if (cfg->label)
		log_escape(ep->label, sizeof(ep->label), cfg->label, strlen(cfg->label));
	else
		log_escape(ep->label, sizeof(ep->label), ep->spec.addr,
			   strlen(ep->spec.addr));
	vp_transport_init(&ep->transport, &ep->spec, ep->label);
	snprintf(err, err_size, "out of memory");
	r = resolve(ep, err, err_size);
	if (r == 0)
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
	loop_timer_free(ep->quiesce_timer);
	loop_timer_free(ep->goodbye_timer);
	if (ep->lock_fd >= 0)
		close(ep->lock_fd);
	free(ep->rx);
	free(ep);
}

void endpoint_hold(struct vp_endpoint *ep, bool hold)
{
	size_t n = ep->held;

	if (hold == (ep->hold_until != 0))
		return;
	ep->hold_until = hold ? clock_now() + HOLD_MAX : 0;
	ep->held = 0;
	if (ep->state != CHANNEL_UP)
		return;
	if (ep->channel_src)
		loop_fd_set(ep->channel_src, (loop_fd_events(ep->channel_src) & LOOP_WRITE) |
						     endpoint_read_interest(ep));
	if (n && !ep->goodbye)
		vp_mux_input(ep->mux, ep->rx, n, clock_now());
}

bool vp_endpoint_session_up(const struct vp_endpoint *ep)
{
	return vp_mux_session_up(ep->mux);
}

uint64_t vp_endpoint_bytes(const struct vp_endpoint *ep)
{
	uint64_t in, out;

	vp_mux_counter(ep->mux, VP_C_STREAM_BYTES_IN, &in);
	vp_mux_counter(ep->mux, VP_C_STREAM_BYTES_OUT, &out);
	return in + out;
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

	endpoint_pump(ep);
	if (!all_sent(ep) && clock_now() < ep->goodbye_until) {
		loop_timer_in(ep->goodbye_timer, GOODBYE_POLL);
		return;
	}
	ep->goodbye_done(ep->goodbye_arg);
}

void vp_endpoint_shutdown(struct vp_endpoint *ep, const char *why, loop_fn done,
			  void *arg)
{
	if (ep->goodbye)
		return;
	ep->goodbye = true;
	ep->goodbye_done = done;
	ep->goodbye_arg = arg;
	ep->goodbye_until = clock_now() + GOODBYE_MAX;
	vp_mux_goaway(ep->mux, why ? why : "shutdown");
	vp_mux_reset_session(ep->mux, VP_RESET_SHUTDOWN, clock_now());
	ep->goodbye_timer = loop_timer_new(ep->loop, on_goodbye, ep);
	if (!ep->goodbye_timer)
		done(arg);
	else
		loop_timer_in(ep->goodbye_timer, 0);
}
