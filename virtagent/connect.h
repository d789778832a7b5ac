/*
 * connect.h - from "HOST:PORT" or "unix:PATH" to a connected socket
 *
 * A host is an address, a name in /etc/hosts, or localhost: no name server is
 * asked.  What was looked up and checked is what is connected to: a name is looked
 * up once, a path is opened (O_PATH) and the opened socket connected to.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CONNECT_H
#define VA_CONNECT_H

#include "virtagent/method.h"

#define CONNECT_TARGET_MAX 4200u /* "unix:" and a path */

struct connect_to {
	char asked[CONNECT_TARGET_MAX];
	char real[CONNECT_TARGET_MAX]; /* with numeric address, or real path */
	const char *path; /* the real path, or NULL */
};

/*
 * check(call, to) may refuse (it fails the call).  Waits for VA_CONNECT_S at most,
 * or until the caller leaves.  0 with *ret_fd (does not block) and *to, or the
 * failed call's negative errno: -EINVAL, -ENOENT (no such host, no such path),
 * -ECONNREFUSED, -ETIMEDOUT, -ECANCELED, ...
 */
int connect_target(struct va_call *call, const char *target,
		   int (*check)(struct va_call *call, const struct connect_to *to),
		   struct connect_to *to, int *ret_fd);

#endif
