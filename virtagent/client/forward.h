/*
 * forward.h - the streams and sockets of va-client forward
 *
 * Errors go to stderr, naming the target.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_FORWARD_H
#define VA_CLIENT_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/sock.h"
#include "virtagent/client/client.h"
#include "virtagent/client/target.h"

struct forward {
	const struct client *cl;
	struct target to;   /* the other side's socket */
	const char *who;    /* its name, for messages */
	const char *listen; /* where connections come from, as given */
	const char *target; /* where they go, as given */
	uint32_t listener;  /* reversed: the number of the guest's */
	volatile bool over; /* reversed: it has ended */
};

enum forward_what {
	FORWARD_CONNECT, /* GET /connect: to f->target */
	FORWARD_LISTEN,	 /* GET /listen: at f->listen */
	FORWARD_ACCEPT,	 /* GET /accept: of f->listener; waits */
};

/* A stream: 0 with *ret_fd (does not block) and what came behind it in extra, or an
 * exit code; loud: after the error went to stderr.  From any thread. */
int forward_open(const struct forward *f, enum forward_what what, int *ret_fd,
		 struct buf *extra, bool loud);

/* Listens at f->listen; text gets its address.  The fd, or a negative errno. */
int forward_listen_here(const struct forward *f, char *text, size_t size);
/* Removes what listening here made. */
void forward_unlisten(const struct forward *f);
/* Makes the guest listen, for as long as *ret_fd is open.  0 or an exit code. */
int forward_listen_there(struct forward *f, int *ret_fd, char *text, size_t size);
/* Connects to f->target; the fd, or a negative errno. */
int forward_connect_here(const struct forward *f);

#endif
