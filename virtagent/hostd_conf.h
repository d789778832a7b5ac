/*
 * hostd_conf.h - what va-hostd is told: hostd.conf, guests.d, the command line
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_CONF_H
#define VA_HOSTD_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/str.h"
#include "virtagent/hostd_policy.h"
#include "virtagent/hostd_watch.h"

#define HOSTD_NAME_MAX 255u   /* bytes of a guest's name */
#define HOSTD_GUESTS_MAX 4096u /* guests of one daemon */

/* One guest as configured. */
struct guest_spec {
	char *name;
	char *channel; /* METHOD:ADDR:PORT, as virtproxy -c takes it */
	char *qmp;     /* path of a QMP socket, or NULL */
	char *uuid;    /* or NULL */
	char *mark;    /* which QMP socket it was learnt from (hostd_monitor.c), or NULL */
	char *file;    /* where the guest was configured ... */
	unsigned line; /* ... for messages */
	char id[STR_ID_MAX];
};

struct patterns {
	char **list;
	size_t n;
};

struct hostd_conf {
	struct guest_spec *guests;
	size_t nguests;
	gid_t gid;	    /* of the sockets; (gid_t)-1 = mode 0600 */
	char *virtproxy;    /* path of the program, or NULL */
	char *name;	    /* what guests are told this host is called, or NULL */
	bool no_sandbox;    /* virtproxies run unconfined */
	struct watch_limits watch; /* of virtproxies that hang or spin */
	char *commands;	    /* directories of commands, ":" between them */
	struct patterns channels, monitors; /* of sockets (hostd_discover.h) */
	char *serial; /* pattern of character devices, or NULL (qmp_machine.h) */
	char *hooks;	    /* directory of event hooks, or NULL = default */
	uint64_t event_age_ns;
	uint64_t event_count;
	uint64_t hook_timeout_ns;
	unsigned guest_calls, guest_streams; /* of one guest at once; 0 = default */
	unsigned stream_buffer; /* bytes of a stream's direction; 0 = default */
	unsigned guest_events; /* of one guest a second; 0 = default */
	struct policy_set *policies; /* of [policy] and [policy NAME] */
};

/*
 * Reads FILE (may be missing unless must_exist), each .conf in DIR, then the command
 * line's NAME=CHANNEL words.  0 with *ret filled (hostd_conf_done() it), or a
 * negative errno with the file, line and reason in err; *ret is then empty.
 */
int hostd_conf_load(struct hostd_conf *ret, const char *file, bool must_exist,
		    const char *dir, const char *const *words, size_t nwords,
		    char *err, size_t err_size);
void hostd_conf_done(struct hostd_conf *c);
/* What this host is called: as configured, or as the system has it. */
void hostd_conf_hostname(const struct hostd_conf *c, char *ret, size_t size);
void guest_spec_done(struct guest_spec *s);
/* Is it the same channel and QMP socket (so that a running virtproxy serves)? */
bool guest_spec_same(const struct guest_spec *a, const struct guest_spec *b);

#endif
