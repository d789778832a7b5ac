/*
 * hostd_call.h - va-hostd calls a guest, as any client does
 *
 * An HTTP request to the guest's rpc socket, on the event loop, with a deadline:
 * a guest that hangs costs one waiting request.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_CALL_H
#define VA_HOSTD_CALL_H

#include <stdint.h>

#include "virtagent/hostd.h"
#include "virtagent/value.h"

struct hostd_call;

/* error 0 with v (borrowed), or a negative errno with why (escaped): -EREMOTEIO
 * is a fault of the guest's. */
typedef void (*hostd_call_fn)(void *arg, int error, const struct va_value *v,
			      const char *why);

/* params stay the caller's.  NULL with errno; else fn is called once, later,
 * unless it is abandoned. */
struct hostd_call *hostd_call_start(struct guest *g, const char *method,
				    const struct va_value *params,
				    uint64_t deadline_ns, hostd_call_fn fn,
				    void *arg);
/* The request goes on alone: its answer is dropped.  Accepts NULL. */
void hostd_call_abandon(struct hostd_call *c);

#endif
