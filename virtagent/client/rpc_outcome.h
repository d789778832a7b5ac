/*
 * rpc_outcome.h - what became of a call whose connection ended
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_RPC_OUTCOME_H
#define VA_CLIENT_RPC_OUTCOME_H

#include <stddef.h>
#include <stdint.h>

#include "virtagent/value.h"

#define OUTCOME_ID_MAX 120

/* "AGENT-ID/UUID" with a fresh UUID; -EINVAL when agent_id is empty or not of
 * [A-Za-z0-9._-], or is too long. */
int outcome_new_id(const char *agent_id, char ret[OUTCOME_ID_MAX]);

/*
 * Asks once: 0 with the answer's struct, -EREMOTEIO with *fault, -EAGAIN when
 * nobody answered by deadline_ns.
 */
typedef int (*outcome_ask_fn)(void *arg, const char *call_id,
			      uint64_t deadline_ns, struct va_value **ret,
			      int *fault);

/*
 * Asks until the answer is known or the deadline passes.  Returns an exit code:
 * VAC_OK with the kept result, VAC_NOT_CONNECTED = never seen, VAC_UNKNOWN, or
 * the code of the kept fault; a text in err, the fault's code in *fault.
 */
int outcome_ask(outcome_ask_fn ask, void *arg, const char *call_id,
		uint64_t deadline_ns, struct va_value **ret, int *fault,
		char *err, size_t err_size);

#endif
