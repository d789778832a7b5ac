/*
 * audit.h - one line of the log for each call, at the side that runs it
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AUDIT_H
#define VA_AUDIT_H

#include <stdint.h>

#include "virtagent/method.h"

/*
 * For codec_registry_new()'s after: logs who (guest, uid, gid, pid, stream),
 * method, a digest of the arguments, the result and the milliseconds.  Rows with
 * VA_M_QUIET are logged only when they fail.  Arguments themselves are never
 * logged: they may hold secrets.
 */
void audit_call(struct va_call *call, int error, uint64_t ns);

#endif
