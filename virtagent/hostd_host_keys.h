/*
 * hostd_host_keys.h - host.*: what the host that runs the guest says of itself
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_HOST_KEYS_H
#define VA_HOSTD_HOST_KEYS_H

#include <stdbool.h>

#include "virtagent/hostd.h"

struct host_keys;

/* NULL with errno. */
struct host_keys *host_keys_new(struct hostd *h, struct guest *g);
void host_keys_free(struct host_keys *hk);
/* Computes them anew and keeps what changed; fresh: host.attached is now. */
void host_keys_compute(struct host_keys *hk, bool fresh);

#endif
