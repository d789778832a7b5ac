/*
 * outcome.h - what became of calls that must not run twice
 *
 * A client that needs to know marks its call with a Virtagent-Call id of its
 * own; should the connection end without a reply, it asks with guest.outcome or
 * host.outcome.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_OUTCOME_H
#define VA_OUTCOME_H

#include "common/buf.h"
#include "virtagent/method.h"

struct outcomes;

/* NULL with errno ENOMEM.  All calls below may come from any thread. */
struct outcomes *outcomes_new(void);
void outcomes_free(struct outcomes *o);

/* "AGENT-ID/UUID": at most VA_CALL_ID_MAX letters, digits, ".", "-", "_" and one
 * slash. */
bool outcome_id_valid(const char *id);

/* Before the call: 0, -EALREADY when the id was begun or asked about before (do
 * not run it), -EMFILE when too many such calls are running, -ENOMEM. */
int outcome_begin(struct outcomes *o, const char *id);
/* After it, with the reply document. */
void outcome_end(struct outcomes *o, const char *id, const struct buf *reply);

/*
 * The answer: a struct with state "never", "running", "done" or "unknown" (it
 * may have been forgotten); done: result, or fault {code, text}, or dropped =
 * true when the reply is not kept (any more).  An id that was never seen is
 * remembered, so that its call, should it still be under way, is refused.
 */
int outcome_query(struct outcomes *o, const char *id, struct va_value **ret);

#endif
