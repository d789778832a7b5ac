/*
 * place.h - what this host knows of a guest whose port comes or goes
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_PLACE_H
#define VA_CLIENT_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"
#include "virtagent/client/client.h"

#define PLACE_PATH_MAX 256

struct place {
	const struct client *cl;
	char name[256]; /* of the guest */
	char id[STR_ID_MAX];
	bool hostd;	 /* va-hostd answers */
	bool guest;	 /* and has a guest of that name */
	bool configured; /* which stands in a file */
	char channel[PLACE_PATH_MAX + 32]; /* of that guest */
	char qmp[PLACE_PATH_MAX];     /* that its virtproxy holds, or "" */
	char found[PLACE_PATH_MAX];   /* that va-hostd found for a machine of that name */
	char monitor[PLACE_PATH_MAX]; /* that its port was attached by */
};

/* Asks va-hostd, if there is one, and reads what an attach left.  0 or an exit code
 * after the error went to stderr. */
int place_look(const struct client *cl, const char *name, struct place *ret);

/* The path of a file of this guest's in RUNTIME/attached, which is made. */
int place_path(const struct place *p, const char *suffix, char *ret, size_t size);
/* What va-hostd shall know of a port that was attached (hostd_attached.h); keep: its
 * virtproxy may have the monitor.  0 or a negative errno. */
int place_write(const struct place *p, const char *uuid, const char *monitor, bool keep);
void place_remove(const struct place *p);

/* Has the guest's virtproxy leave its monitor alone (seconds 0: take it again).
 * 0, or a negative errno. */
int place_release(const struct place *p, unsigned seconds);

/* Waits until va-hostd has (or has not) a guest of that name, or one of that channel
 * when channel is given.  0, -ETIMEDOUT, -ENOTCONN: va-hostd is away. */
int place_wait(struct place *p, bool there, const char *channel, uint64_t deadline_ns);

#endif
