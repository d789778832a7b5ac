/*
 * hostd_daemon.h - the parts of va-hostd: made, run by one loop, made anew by SIGHUP
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_DAEMON_H
#define VA_HOSTD_DAEMON_H

#include "virtagent/hostd_args.h"

struct hostd_daemon;

/*
 * Takes the runtime directory and makes all parts; no guest begins.  conf is taken over,
 * on failure too; args must live as long.  NULL with errno; why is in the log.
 */
struct hostd_daemon *hostd_daemon_new(const struct hostd_args *args,
				      struct hostd_conf *conf);
/* Begins the guests and serves until SIGTERM.  0 or a negative errno. */
int hostd_daemon_run(struct hostd_daemon *d);
/* The virtproxies run on. */
void hostd_daemon_free(struct hostd_daemon *d);

#endif
