/*
 * key_methods_priv.h - what the files of host.kv.* share
 *
 * key_methods.c holds the rows, whose keys a call is about, and reading;
 * key_methods_change.c set and unset, key_methods_move.c export and import.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_KEY_METHODS_PRIV_H
#define VA_HOST_KEY_METHODS_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "virtagent/host/host.h"
#include "virtagent/host/keys.h"

/* Whose keys a call is about. */
struct kv_whose {
	const char *guest; /* as the store names it */
	bool group;
	char name[1 + KEYS_PATTERN_MAX + 1];
};

/* Until when the store may take its time. */
uint64_t host_kv_deadline(void);
/* Is the caller root, or the daemon's user? */
bool host_kv_root(const struct va_call *call);
enum keys_who host_kv_who(const struct va_call *call);
/* Parameter 0: a guest, or a group of them.  Fails the call. */
int host_kv_guest(struct va_call *call, struct kv_whose *w);
/* Fails the call as the store's result says; err is negative. */
int host_kv_failed(struct va_call *call, int err, const struct keys_result *r);

int host_kv_set(struct va_call *call, struct va_value **ret);
int host_kv_unset(struct va_call *call, struct va_value **ret);
int host_kv_export(struct va_call *call, struct va_value **ret);
int host_kv_import(struct va_call *call, struct va_value **ret);

#endif
