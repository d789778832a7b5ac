/*
 * agent_audit.h - one log line per call
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_AUDIT_H
#define VA_AGENT_AUDIT_H

#include "virtagent/method.h"

/*
 * Logs who called what, a digest of the arguments (never the arguments, which
 * may be secrets), the result and the time.  Rows with VA_M_QUIET only when they
 * failed.
 */
void agent_audit(struct va_call *call, int error, uint64_t ns);

#endif
