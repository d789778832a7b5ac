/*
 * hostd_runtime.h - va-hostd's runtime directory: one daemon's, and its group's
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_RUNTIME_H
#define VA_HOSTD_RUNTIME_H

#include <sys/types.h>

/* Each logs what failed. */

/* Makes it and takes its lock, into *ret_fd: one va-hostd per directory.  0 or a
 * negative errno; -EBUSY: another one has it. */
int runtime_take(int *ret_fd);
/* Lets the group pass, when it is not (gid_t)-1.  0 or a negative errno. */
int runtime_open_to(gid_t gid);

#endif
