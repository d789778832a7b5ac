/*
 * endpoint.h - what endpoint, forward, ctl and qmp share; nobody else's business
 *
 * The endpoint owns the channel and the mux.  After anything has happened that
 * may leave bytes to write, its parts call endpoint_pump(), once, last.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_ENDPOINT_H
#define VP_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/log.h"
#include "common/loop.h"
#include "virtproxy/mux.h"
#include "virtproxy/transport.h"
#include "virtproxy/virtproxy.h"

#define VP_REFUSED_KEPT 16u
#define VP_RX_SIZE 262144u
#define VP_OPEN_DELAY_MIN UINT64_C(100000000) /* ns; doubled each time */
#define VP_REATTACH_MIN UINT64_C(3000000000)
#define VP_SILENT_NS UINT64_C(5000000000) /* five beacons are missing */

/* Where the channel stands. */
enum channel_state {
	CHANNEL_CLOSED,	 /* to be opened when open_timer fires */
	CHANNEL_OPENING, /* waits for transport.wait_fd */
	CHANNEL_ABSENT,	 /* open, but nobody at the other side (virtio) */
	CHANNEL_UP,
	CHANNEL_FROZEN,	 /* the VM has moved away: neither read nor written (R30) */
};

struct vp_refused {
	uint32_t number;
	char service[VP_SERVICE_MAX + 1];
	char reason[VP_REASON_MAX + 1];
};

/* What the endpoint counts besides the mux's counters. */
struct vp_counts {
	uint64_t channel_opens;	     /* the channel was opened */
	uint64_t channel_losses;     /* ... and broke */
	uint64_t reattaches;	     /* closed by us because of silence (R19) */
	uint64_t refused_absent;     /* local connections closed: no session */
	uint64_t refused_here;	     /* the peer's streams that we refused */
	uint64_t refused_there;	     /* ours that the peer refused */
	uint64_t open_while_silent;  /* opened with the peer silent for 3 s */
	uint64_t ctl_commands;	     /* on the control socket */
};

struct vp_oforward;
struct vp_iforward;
struct vp_conn;
struct vp_ctl;
struct vp_qmp;

struct vp_endpoint {
	struct loop *loop;
	struct vp_spec spec;
	char label[160];
	bool guest;
	struct vp_mux *mux;
	struct vp_transport transport;
	enum channel_state state;
	struct loop_fd *channel_src; /* the channel, or what is waited for */
	struct loop_timer *open_timer; /* CLOSED: open; ABSENT: look again */
	struct loop_timer *tick_timer;
	struct loop_timer *quiesce_timer; /* ends a quiesce nobody ended */
	uint64_t tick_latest; /* traffic never puts the tick off beyond this */
	uint64_t backoff;	/* until the next open */
	uint64_t reattach_after; /* earliest time of the next R19 reconnect */
	uint64_t reattach_delay;
	uint64_t next_check;	/* of the transport's settings */
	int open_errno;		/* last failure that was logged */
	uint64_t heard_ns;	/* last valid frame on any attachment; 0 = never */
	bool silent;		/* told the supervisor so */
	bool pumping;
	bool blocked;		/* the channel takes nothing now */
	uint64_t retry_at;	/* ... and does not say when it will */
	bool vm_paused;		/* QMP says so: silence means nothing */
	uint64_t hold_until;	/* see endpoint_hold(); 0 = no hold */
	size_t held;		/* bytes in rx that wait for its end */
	bool goodbye;
	uint64_t goodbye_until;
	int lock_fd;
	uint8_t *rx; /* what the channel gave; NULL while nothing comes */
	bool rx_used; /* more than its first pages */

	struct vp_oforward *oforwards;
	struct vp_iforward *iforwards;
	struct vp_conn *conns;
	struct vp_conn *current; /* whose event is being handled */
	bool have_broken;

	struct vp_refused refused[VP_REFUSED_KEPT];
	size_t refused_total;
	struct vp_counts counts;

	struct vp_ctl *ctls;
	struct vp_qmp *qmp;

	void (*on_session)(void *arg, bool up, const char *why);
	void *on_session_arg;
	struct loop_timer *goodbye_timer;
	loop_fn goodbye_done;
	void *goodbye_arg;
};

/* channel.c */

/* Tries to get the channel; on failure again later. */
void channel_open(struct vp_endpoint *ep);
/* For open_timer and tick_timer. */
void channel_on_open_timer(void *arg);
void channel_on_tick(void *arg);
/* Writes what the mux offers and sets the timer. */
/* ns without a sign of the peer from which on it is called silent. */
uint64_t endpoint_silent_after(const struct vp_endpoint *ep);
void endpoint_pump(struct vp_endpoint *ep);
/* Closes the channel and opens it again, at once or after a while. */
void endpoint_reopen(struct vp_endpoint *ep, const char *why);
/* R30: the VM has left this host (or has come back, or never left). */
void endpoint_freeze(struct vp_endpoint *ep, bool frozen, const char *why);
/* The VM stopped, and QEMU has not said yet whether it migrates away: until it has,
 * at most HOLD_MAX, what the channel gives is kept back. */
void endpoint_hold(struct vp_endpoint *ep, bool hold);
/* Whether the channel is read now: LOOP_READ or 0. */
static inline unsigned endpoint_read_interest(const struct vp_endpoint *ep)
{
	return ep->hold_until ? 0 : LOOP_READ;
}
const char *endpoint_channel_word(const struct vp_endpoint *ep);

/* ctl.c */

/* For quiesce_timer: goes on. */
void ctl_on_quiesce_over(void *arg);

/* endpoint.c */

/* Remembers and tells of a stream that was refused, here or there; number 0: it
 * never became one. */
void endpoint_note_refused(struct vp_endpoint *ep, uint32_t number,
			   const char *service, const char *reason);

/* forward.c: the mux's stream callbacks, and what is left to do after a pump */
int forward_opened(void *arg, struct vp_stream *s, const char *service,
		   const struct vp_meta *meta, char *why);
ssize_t forward_fill(void *arg, struct vp_stream *s, uint8_t *buf, size_t max);
size_t forward_deliver(void *arg, struct vp_stream *s, const uint8_t *data,
		       size_t len);
void forward_eof(void *arg, struct vp_stream *s);
void forward_closed(void *arg, struct vp_stream *s, int reason, const char *text);
/* Ends the connections whose local side broke.  True when there were any. */
bool forward_reap(struct vp_endpoint *ep);
void forward_free_all(struct vp_endpoint *ep);
/* One line per stream into answer. */
int forward_list(const struct vp_endpoint *ep, struct buf *answer);

/* ctl.c */

/* One line, without its end, to every supervisor. */
void ctl_event(struct vp_endpoint *ep, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void ctl_free_all(struct vp_endpoint *ep);

/* status.c: the answers of "status" and "status json" */
int status_text(const struct vp_endpoint *ep, struct buf *answer);
int status_json(const struct vp_endpoint *ep, struct buf *answer);

/* qmp.c */
struct vp_qmp *qmp_new(struct vp_endpoint *ep, const char *path);
void qmp_free(struct vp_qmp *q);
/* Leaves the monitor to others for ns. */
void qmp_release(struct vp_qmp *q, uint64_t ns);
/* Takes what the monitor has said by now, before bytes that the channel gave by now
 * are believed.  Does nothing without a monitor (NULL). */
void qmp_poll(struct vp_qmp *q);
/* "off", "connected", "waiting". */
const char *qmp_word(const struct vp_qmp *q);
/* The machine's, "" as long as it is not known. */
const char *qmp_uuid(const struct vp_qmp *q);

#endif
