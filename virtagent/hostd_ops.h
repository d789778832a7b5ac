/*
 * hostd_ops.h - what the host's methods ask of the daemon (host.h)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_OPS_H
#define VA_HOSTD_OPS_H

#include "virtagent/host/host.h"

/* arg: struct hostd. */
extern const struct host_ops hostd_ops;

#endif
