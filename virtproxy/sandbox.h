/*
 * sandbox.h - what a virtproxy gives up before it reads the peer's first byte
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_SANDBOX_H
#define VP_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

struct sandbox {
	bool tcp;     /* it makes TCP connections */
	bool devices; /* a guest's end: opens ports by what /sys says */
	bool foreign; /* its channel's socket may belong to another user */
};

/* Can this build be confined (sanitizers and coverage cannot)? */
bool sandbox_is_possible(void);
/* Lowers what the kernel lets a process with so many channels have: descriptors,
 * memory, core files (rlimits.c).  0 or a negative errno. */
int sandbox_limits(size_t channels);
/* And processes: none.  sandbox_enter() does so when it needs none itself any more; for
 * whoever runs without. */
int sandbox_no_children(void);
/*
 * From here on: no new privileges, no capabilities (but, if it has it and
 * foreign is set, the one to open what belongs to others), and the system calls of
 * sandbox.c only, with the sealed arguments (common/seal.h), which it closes.  For
 * ever and with one thread.  0; -ENOTSUP when this build or kernel cannot, with
 * the reason in why (a static text), or another negative errno.
 */
int sandbox_enter(const struct sandbox *s, const char **why);

#endif
