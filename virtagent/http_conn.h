/*
 * http_conn.h - the connections of an HTTP server: places, deadlines, the cancel
 * fd, the end
 *
 * Knows no HTTP and no HTTP library.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HTTP_CONN_H
#define VA_HTTP_CONN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtagent/method.h"

/* First member of the server's own struct. */
struct http_conn {
	struct http_conn *next, **prev;
	struct http_conns *all;
	int fd; /* the HTTP library's, which closes it */
	int cancel_fd;
	struct va_caller caller;
	char *guest;
	bool evicted;  /* shut down, not counted any more */
	bool busy;     /* a request is being handled */
	bool upgraded; /* another protocol runs on it */
	uint64_t since;	   /* when it became idle */
	uint64_t deadline; /* CLOCK_NEVER = none */
};

struct http_conns {
	int stop_fd; /* eventfd, readable from the stop on */
	unsigned max, max_per_guest; /* 0 = no limit */
	unsigned alive_max;
	uint64_t request_ns, idle_ns;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* for the reaper, and for the stop */
	struct http_conn *list;
	unsigned count;	   /* of those not evicted */
	unsigned alive;	   /* of all; evicted ones take a moment to go */
	unsigned upgraded; /* other protocols running */
	bool stopping;
	uint64_t moved;	    /* when a request last began or ended */
	uint64_t next_wake; /* the reaper's */
	pthread_t reaper;
};

/* 0 or a negative errno (nothing to be released then). */
int http_conns_init(struct http_conns *all, unsigned max, unsigned max_per_guest,
		    unsigned request_timeout_s);
/* Wakes all handlers and waits for the other protocols to end. */
void http_conns_stop(struct http_conns *all);
/* After the stop, with the list empty. */
void http_conns_done(struct http_conns *all);
unsigned http_conns_count(const struct http_conns *all);
/* When a request last began or ended; 0 = never. */
uint64_t http_conns_moved(struct http_conns *all);

/* Fills in a zeroed conn; 0 or a negative errno.  fd stays the caller's. */
int http_conn_init(struct http_conn *c, struct http_conns *all, int fd,
		   const struct va_caller *caller);
void http_conn_done(struct http_conn *c);
/* Takes a place: 0, -EMFILE, -ESHUTDOWN. */
int http_conn_enlist(struct http_conn *c);
/* Gives it back.  Must come before the fd is closed. */
void http_conn_unlist(struct http_conn *c);
struct http_conn *http_conn_find(struct http_conns *all, int fd);

/* What the connection does now, and the time from now after which it is shut
 * down; CLOCK_NEVER = none. */
void http_conn_state(struct http_conn *c, bool busy, uint64_t delta_ns);
void http_conn_upgrade_begins(struct http_conn *c);
void http_conn_upgrade_ended(struct http_conn *c);

#endif
