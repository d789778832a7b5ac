/*
 * memory.h - giving back memory that an idle process does not need
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef COMMON_MEMORY_H
#define COMMON_MEMORY_H

#include "common/clock.h"

/* For a process with one or two large buffers that come and go: they are mapped
 * apart, and go back to the kernel when they are freed. */
void memory_large_apart(void);

/* For a process whose threads come and go and allocate little: one heap for all of
 * them.  Before the first thread. */
void memory_one_arena(void);

/*
 * For a process that has nothing to do for a while: free heap goes back to the
 * kernel, and pages of programs and libraries, which the start and the last
 * work have mapped, are let go of.  They stay in the page cache and come back one
 * by one when they are used.  Costs some 10 us, and as much as they come back.
 */
void memory_trim(void);
/* Not more often than this. */
#define MEMORY_TRIM_NS (3 * NSEC_PER_SEC)

#endif
