/*
 * nomem.h - every allocation fails once, each in its turn
 *
 * malloc() and its kin are the program's own here, also for the libraries.  A
 * scenario is run to count its allocations, then once for each of them with that
 * one failing: it must not crash or hang, must say that it failed or give the
 * right result, and must leave nothing behind.  Afterwards it works.
 *
 * Threads of the scenario count, too.
 *
 * Not under a sanitizer, whose allocator it would have to replace.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_NOMEM_H
#define VA_NOMEM_H

#include <stdbool.h>

/*
 * scenario: 0 = all of it worked, negative = it said that it failed.  lost: what a
 * library may leave behind then.
 */
void nomem_each(int (*scenario)(void), long lost);
/* One in step only, for what takes long; all with VA_NOMEM_STEP=1. */
void nomem_some(int (*scenario)(void), long lost, long step);
/* In a scenario: what is allocated from here on does not fail and is not counted, or
 * again is. */
void nomem_hold(bool on);

#endif
