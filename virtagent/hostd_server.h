/*
 * hostd_server.h - the host's HTTP server: hostd.sock and each guest's host.sock
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_SERVER_H
#define VA_HOSTD_SERVER_H

#include <sys/types.h>

#include "virtagent/hostd.h"
#include "virtagent/hostd_places.h"

struct hostd_server;
struct server_port;

/* NULL with errno. */
struct hostd_server *hostd_server_new(struct hostd *h);
/* Ends all requests; the loop must still answer loop_call()s of other threads
 * or be out of loop_run() for good. */
void hostd_server_free(struct hostd_server *s);

/* Takes what a guest may have at once from h->conf. */
void hostd_server_set_limits(struct hostd_server *s);
/* Reads the directories of commands from h->conf again. */
void hostd_server_set_commands(struct hostd_server *s);
/* What a guest has and had under way here. */
struct place_counts hostd_server_counts(struct hostd_server *s, const char *guest,
					enum place_kind kind);
/* Takes over what guests may call, at start and after a reload. */
void hostd_server_set_policies(struct hostd_server *s,
			       struct policy_set *policies);

/*
 * Listens at path.  guest: the guest whose calls come by this socket, whatever
 * they say; NULL = this host's own clients.  NULL with errno.
 */
struct server_port *server_port_new(struct hostd_server *s, const char *path,
				    const char *guest, gid_t gid);
void server_port_free(struct server_port *p);

#endif
