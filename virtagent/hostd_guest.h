/*
 * hostd_guest.h - one guest: configuration, virtproxy, sockets, state
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_GUEST_H
#define VA_HOSTD_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "virtagent/hostd.h"
#include "virtagent/value.h"

struct proxy;
struct agent;
struct guest_keys;
struct announce;
struct guest_feed;
struct server_port;

/* Nothing heard for this long (a beacon is due each second; at rest its virtproxy says
 * how long): silent. */
#define GUEST_SILENT_NS (5 * NSEC_PER_SEC)
/* Silent for this long: lost. */
#define GUEST_LOST_NS (60 * NSEC_PER_SEC)
/* Its channel closed (its QEMU ended) and did not come back: lost. */
#define GUEST_GRACE_NS (2 * NSEC_PER_SEC)

/* What happened to it since this va-hostd knows it. */
struct guest_counts {
	uint64_t sessions, agents_up, silences, losses;
	uint64_t ends[3]; /* of its virtproxy, by enum proxy_end */
};

/* What the control socket said last. */
struct guest_link {
	bool channel_up, session_up;
	char why[160];	    /* of the last change */
	double heard_wall;  /* 0 = never */
	uint64_t heard_ns;
	uint64_t silent_ns; /* after so much silence its virtproxy calls it silent */
	struct va_value *status; /* the whole status, or NULL */
};

struct guest {
	struct guest *next;
	struct hostd *h;
	struct guest_spec spec;
	char *dir; /* RUNTIME/guests/ID */
	struct proxy *proxy;
	struct agent *agent;
	struct guest_keys *keys;
	struct announce *announce; /* agent-up, agent-down */
	struct guest_feed *feed; /* events.sock */
	struct server_port *port; /* host.sock */
	struct guest_link link;
	struct guest_counts counts;
	struct loop_timer *timer; /* watches for silence */
	uint64_t down_ns;   /* when the channel closed; 0 = it is open */
	double since;	    /* wall time of the last change of state */
	bool silent, lost;  /* announced */
	bool was_off;	    /* its channel was closed since it was last heard */
	bool announced;	    /* agent-up was said, agent-down not yet */
	bool adopted;	    /* the virtproxy was, and its session is the old one */
	char last_agent[64]; /* agent id that was announced; kept in guest.json */
	bool wanted;	    /* mark of a reload */
	bool stopping;
};

/* Makes its directory and sockets and begins.  NULL with the reason in err. */
struct guest *guest_new(struct hostd *h, const struct guest_spec *spec,
			char *err, size_t err_size);
/* Leaves the virtproxy running. */
void guest_free(struct guest *g);
/* Stops the virtproxy, then frees the guest and takes its directory away. */
void guest_stop(struct guest *g);
struct guest *guest_find(struct hostd *h, const char *name);

/* "connected", "silent" or "absent". */
const char *guest_state(const struct guest *g);
/*
 * The uuid of the virtual machine, or "" as long as it is not known: as configured;
 * or, with a QMP socket, as QEMU says; else as the guest's agent does.
 */
const char *guest_vm(const struct guest *g);
/* Facts for host.guests; with details: all, for host.guest. */
struct va_value *guest_facts(const struct guest *g, bool details);
/* Fresh facts from the virtproxy; fn is called when they are there, or cannot
 * be had.  -ENOTCONN: fn is not called. */
int guest_refresh(struct guest *g, loop_fn fn, void *arg);

/* From hostd_agent.c: the agent answered, or another one than before. */
void guest_agent_known(struct guest *g);
/* An event came from the agent of that id. */
void guest_agent_seen(struct guest *g, const char *agent);

#endif
