/*
 * net.h - connections made and taken by the guest on the host's behalf
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_NET_H
#define VA_GUEST_NET_H

#include "virtagent/connect.h"

/* Connects to a target that the policy allows; as connect_target(). */
int guest_connect(struct va_call *call, const char *target, struct connect_to *to,
		  int *ret_fd);

/* Listens at "[ADDRESS:]PORT" (127.0.0.1); address gets what it is bound to, the
 * port's number included.  0, or the failed call's negative errno. */
int guest_listen(struct va_call *call, const char *at, char *address, size_t size,
		 int *ret_fd);

#endif
