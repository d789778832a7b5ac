/*
 * hostd_keys.h - a guest's keys on their way to it
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_KEYS_H
#define VA_HOSTD_KEYS_H

#include <stdbool.h>

#include "virtagent/hostd.h"

struct guest_keys;

/* NULL with errno. */
struct guest_keys *guest_keys_new(struct hostd *h, struct guest *g);
void guest_keys_free(struct guest_keys *gk);
/* Which virtual machine it is; "" = not known.  Another one than that the keys
 * belong to is a clone, or a new one in its place, and has no guest.* keys. */
void guest_keys_vm(struct guest_keys *gk, const char *uuid);
/* Its agent answers, running as boot.  fresh: another one than before, or on
 * another host; was_off: its channel was closed since it was here last. */
void guest_keys_up(struct guest_keys *gk, const char *boot, bool fresh,
		   bool was_off);
void guest_keys_down(struct guest_keys *gk);
/* host.* keys may be others now. */
void guest_keys_recompute(struct guest_keys *gk);
/* There may be something new for it. */
void guest_keys_changed(struct guest_keys *gk);
/* What it has is not known any more: its agent's server was replaced. */
void guest_keys_refresh(struct guest_keys *gk);

#endif
