/*
 * target.h - which socket a call goes to
 *
 * On a host, guest.* methods go to guests/ID/rpc.sock and host.* methods to
 * hostd.sock.  In a guest (no hostd.sock, or --up), guest.* methods go to the
 * machine's own agent.sock and host.* methods to host.sock.  unix:PATH is taken
 * for everything.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_TARGET_H
#define VA_CLIENT_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "virtagent/client/client.h"
#include "virtagent/value.h"

enum target_side { SIDE_GUEST, SIDE_HOST };

#define TARGET_PATH_MAX 256

struct target {
	enum target_side side;
	char name[256];		   /* for messages */
	char rpc[TARGET_PATH_MAX];
	char ctl[TARGET_PATH_MAX]; /* "" when there is no virtproxy in between
				      whose control socket we could ask */
	char events[TARGET_PATH_MAX]; /* "" likewise */
};

/* "host." methods are the host's, all others the guest's. */
enum target_side target_side_of(const char *method);
/*
 * Finds the target; guest overrides cl->guest when it is not NULL.  0, or an
 * exit code after the error went to stderr.  Says nothing about whether anybody
 * answers there.
 */
int target_resolve(const struct client *cl, enum target_side side,
		   const char *guest, struct target *ret);
/*
 * Asks the control socket whether the guest's session is up, within a second.
 * 0 when it is or when there is none to ask, else VAC_NOT_CONNECTED with the
 * reason in why.  refused, if not NULL, gets how many streams were refused so
 * far.
 */
int target_check(const struct target *t, char *why, size_t size,
		 uint64_t *refused);

/* One guest that this host knows. */
struct guest_entry {
	char id[64];
	char name[256];
	bool connected;
	char state[16]; /* "connected", "silent" or "absent" (va-hostd(8)) */
	struct va_value *info; /* host.guests' struct, or NULL without va-hostd */
};

struct guest_list {
	struct guest_entry *guest;
	size_t count;
	bool from_hostd;
};

/*
 * The guests of this host: from va-hostd, or, when it does not answer, from the
 * sockets of the virtproxies that outlived it.  0 or a negative errno.
 */
int guest_list_get(const struct client *cl, struct guest_list *ret);
void guest_list_done(struct guest_list *l);

/* The runtime directory in use: dir_runtime(), or root's when only that one has
 * our sockets. */
const char *target_runtime(void);
/* Are we on a host (false: in a guest, or nothing runs here)? */
bool target_on_host(const struct client *cl);

#endif
