/*
 * hostd.h - what the parts of va-hostd share
 *
 * Everything here is the loop thread's.  The HTTP server's threads reach it by
 * the operations of host.h only, which pass through loop_call().
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_H
#define VA_HOSTD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/loop.h"
#include "virtagent/host/child.h"
#include "virtagent/host/events.h"
#include "virtagent/host/keys.h"
#include "virtagent/hostd_conf.h"
#include "virtagent/http_client.h"

struct discover;
struct guest;
struct hostd_server;

struct hostd_options {
	const char *config;    /* hostd.conf */
	const char *guests_dir; /* guests.d */
	bool config_given;     /* so it must exist */
	const char **words;    /* --guest NAME=CHANNEL */
	size_t nwords;
	const char *log;       /* --log as given, or NULL */
	bool verbose;
};

struct hostd {
	struct loop *loop;
	struct children *children;
	struct http_multi *multi;
	struct hostd_server *server;
	struct events *events;
	struct keys *keys;
	struct hostd_options opt;
	struct hostd_conf conf;
	char *program; /* virtproxy's path */
	struct discover *discover;
	struct guest_spec *found; /* by hostd_discover.c, none of conf's */
	size_t nfound;
	struct guest *guests;
	size_t nguests;
};

/* Takes the guests of h->conf and h->found over into h->guests: new ones start, changed ones
 * start anew, missing ones stop, the others are not touched. */
void hostd_sync_guests(struct hostd *h);
/* Stops the virtproxies of guests that no configuration names any more; they
 * were started by an earlier va-hostd. */
void hostd_stop_strays(struct hostd *h);

#endif
