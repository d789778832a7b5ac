/*
 * hostd_guest_priv.h - what hostd_guest.c (making, ending) and hostd_guest_state.c
 * (what is known) share
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_GUEST_PRIV_H
#define VA_HOSTD_GUEST_PRIV_H

#include "virtagent/hostd_guest.h"
#include "virtagent/hostd_proxy.h"

/* What a guest hears of its virtproxy; arg is the guest. */
extern const struct proxy_ops guest_proxy_ops;
/* Its timer's: a look at its silence, and at its virtproxy. */
void guest_on_timer(void *arg);

/* Its virtproxy was stopped for good: takes the guest off the list and frees it. */
void guest_stopped(void *arg);

#endif
