/*
 * hooks.h - programs that are run for each event
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_HOOKS_H
#define VA_HOST_HOOKS_H

#include <stdint.h>

#include "common/loop.h"
#include "virtagent/host/child.h"
#include "virtagent/host/events.h"

struct hooks;

/* Guests whose events have hooks running at the same time. */
#define HOOKS_AT_ONCE 8u

/* Runs the executables of dir, in name order, for each event from now on: a guest's
 * one at a time and in order, of HOOKS_AT_ONCE guests at once.  NULL with errno.
 * The directory may be missing. */
struct hooks *hooks_new(struct loop *loop, struct children *children,
			struct events *events, const char *dir,
			uint64_t timeout_ns);
void hooks_set(struct hooks *k, const char *dir, uint64_t timeout_ns);
/* Hooks that run are killed. */
void hooks_free(struct hooks *k);

/*
 * May this file be run for us?  A regular executable file, owned by root or this
 * user, writable by nobody else; no symbolic link.  0, or a negative errno with
 * the reason in why.
 */
int hook_check(const char *dir, const char *name, char *why, size_t size);

#endif
