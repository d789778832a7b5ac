/*
 * rpc.h - one call, at most once, with an exit code
 *
 * Before the first call the control socket is asked whether anybody is there.
 * A method that must not run twice carries "Virtagent-Call: AGENT-ID/UUID";
 * when its connection ends without a reply, the guest is asked what became of
 * it until the deadline (design: PROTOCOL, "Calls that must not run twice").
 * A method that may run twice is sent a second time, once.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_RPC_H
#define VA_CLIENT_RPC_H

#include <stdint.h>

#include "common/cleanup.h"
#include "virtagent/client/client.h"
#include "virtagent/client/target.h"
#include "virtagent/http_client.h"
#include "virtagent/value.h"

struct rpc;

#define RPC_IDEMPOTENT 1u
/* No Virtagent-Call: the other side ends it when this client leaves. */
#define RPC_UNMARKED 2u

/* The target is copied.  NULL on ENOMEM. */
struct rpc *rpc_open(const struct client *cl, const struct target *t);
void rpc_free(struct rpc *r);
DEFINE_CLEANUP(struct rpc, rpc_free);
#define CLEANUP_RPC CLEANUP(rpc_free_p)

/* Resolves the target (guest may be NULL) and opens it: 0, or an exit code after
 * the error went to stderr. */
int rpc_connect(const struct client *cl, enum target_side side,
		const char *guest, struct rpc **ret);

/* va-hostd itself, for calls that end within wait_ns from now.  NULL on ENOMEM. */
struct rpc *rpc_open_hostd(const struct client *cl, uint64_t wait_ns);

const struct target *rpc_target(const struct rpc *r);
const struct client *rpc_client(const struct rpc *r);
/* The kept connection, for GET and PUT; check first with rpc_check(). */
struct http_client *rpc_http(struct rpc *r);
/* Is somebody there?  0, or an exit code; says nothing itself. */
int rpc_check(struct rpc *r);
/* Every call ends by then; the default is set at each call: -t or
 * CLIENT_CALL_NS from its start. */
void rpc_set_deadline(struct rpc *r, uint64_t deadline_ns);

/* Ctrl-C does not end its calls: for cleaning up after one. */
void rpc_ignore_interrupt(struct rpc *r);

/*
 * Calls; params is taken over.  VAC_OK with *ret (the caller's), or an exit
 * code with rpc_error() and rpc_fault().
 */
int rpc_try(struct rpc *r, const char *method, unsigned flags,
	    struct va_value *params, struct va_value **ret);
/* The same, and the error goes to stderr. */
int rpc_call(struct rpc *r, const char *method, unsigned flags,
	     struct va_value *params, struct va_value **ret);
/* "va-client: GUEST: METHOD: reason" of the last failure; returns code. */
int rpc_report(struct rpc *r, const char *method, int code);

/* Of the last call that failed: its text; the fault's code, 0 = it was none. */
const char *rpc_error(const struct rpc *r);
int rpc_fault(const struct rpc *r);
/* Sets the text of a failure found by the caller (an HTTP form). */
void rpc_set_error(struct rpc *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * What the server says of one of its methods (system.methodInfo), or NULL: no such
 * method, or no such server.  A thirtieth of what its capabilities are.
 */
struct va_value *rpc_method_info(struct rpc *r, const char *method);
/* The server's capabilities, fetched once and borrowed; NULL when it does not
 * tell them (rpc_error() then says why). */
const struct va_value *rpc_capabilities(struct rpc *r);

/* The exit code that a fault's code stands for. */
int rpc_fault_exit(int fault_code);

/* An array of strings as parameters, for the verbs: text that is not clean UTF-8
 * goes as bytes. */
struct va_value *rpc_params(const char *first, ...)
	__attribute__((sentinel));
struct va_value *rpc_text(const char *s);

#endif
