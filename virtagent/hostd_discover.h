/*
 * hostd_discover.h - guests that are found by their sockets
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_DISCOVER_H
#define VA_HOSTD_DISCOVER_H

#include "virtagent/hostd.h"

struct discover;

/* Looks for the first time, into h->found; afterwards each change calls
 * hostd_sync_guests(h).  NULL with errno. */
struct discover *discover_new(struct hostd *h);
/* h->conf is another one. */
void discover_reload(struct discover *d);
/* What is known of QMP sockets: an array of structs; NULL on ENOMEM. */
struct va_value *discover_monitors(const struct discover *d);
void discover_free(struct discover *d);

#endif
