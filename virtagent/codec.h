/*
 * codec.h - XML-RPC in and out, and the only place that knows xmlrpc-c
 *
 * Every parse runs the strict validator (validate.h, libxml2) first: xmlrpc-c's
 * own parser can be crashed by a 140-byte document.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CODEC_H
#define VA_CODEC_H

#include <stddef.h>

#include "common/buf.h"
#include "virtagent/limits.h"
#include "virtagent/method.h"
#include "virtagent/value.h"

/* Process-wide set-up; before threads. */
int codec_global_init(void);

int codec_encode_call(const char *method, const struct va_value *params,
		      struct buf *out);
/* 0 with *ret, or a negative errno: -EREMOTEIO with *fault set when the reply is
 * a fault, -EBADMSG with fault->text when it is not valid. */
int codec_decode_reply(const void *xml, size_t n, struct va_value **ret,
		       struct va_fault *fault);
int codec_encode_reply(const struct va_value *result, struct buf *out);
int codec_encode_fault(const struct va_fault *fault, struct buf *out);

/*
 * The registry: every row of every family is registered with one C function,
 * which checks arguments, policy, limits and audit (so that system.multicall,
 * which calls inside xmlrpc-c, passes it too).
 */
struct codec_registry;
/*
 * guard(call) runs before the row's fn: policy and limits; negative = refused
 * with call->fault.  after(call, error, ns) runs after it, and after a refusal
 * (arguments, limit, guard), for the audit.  Either may be NULL.  NULL with
 * errno EEXIST or EINVAL for a name that is there twice or a row that is wrong.
 */
struct codec_registry *
codec_registry_new(const struct va_family *families, size_t nfamilies,
		   int (*guard)(struct va_call *call),
		   void (*after)(struct va_call *call, int error, uint64_t ns));
void codec_registry_free(struct codec_registry *r);
/* Runs a call document.  tmpl gives server, caller, cancel_fd, context, call_id.
 * The reply document (possibly a fault) is in out; 0, or -ENOMEM. */
int codec_dispatch(struct codec_registry *r, const void *xml, size_t n,
		   const struct va_call *tmpl, struct buf *out);
/* Calls a row by its name through the same checks (HTTP forms, tests).  call
 * has params, server, caller, cancel_fd, context; 0 with *ret, or a negative
 * errno with call->fault. */
int codec_invoke(struct codec_registry *r, const char *method,
		 struct va_call *call, struct va_value **ret);
const struct va_method *codec_find(const struct codec_registry *r,
				   const char *name);
/* The rows in the order of their names. */
size_t codec_count(const struct codec_registry *r);
const struct va_method *codec_at(const struct codec_registry *r, size_t i);
/* Most calls at once beside those of class info, of all and of one client that is no
 * guest; VA_CALLS_MAX and VA_CLIENT_CALLS_MAX when not set.  conf (kept): the file that
 * sets them, for the error; NULL = none.  Any thread. */
void codec_set_limits(struct codec_registry *r, unsigned calls, unsigned client_calls,
		      const char *conf);

/* What the policy says of a row for this caller; without fn everything is
 * allowed.  Only tells; the guard decides. */
void codec_set_allowed(struct codec_registry *r,
		       bool (*fn)(const struct va_call *call,
				  const struct va_method *m));
bool codec_allowed(const struct va_call *call, const struct va_method *m);

/*
 * The checks before a row's function and the accounts after it, for forms of a
 * call whose work is not done by that function (a streamed file).  call as for
 * codec_invoke().  After enter returned 0, leave must follow once, from any
 * thread; call must then still be there.
 */
struct codec_entry {
	uint64_t start;
	bool counted, client; /* among all calls, among the client's */
};
int codec_enter(struct codec_registry *r, const char *method,
		struct va_call *call, struct codec_entry *entry);
void codec_leave(struct va_call *call, int error, const struct codec_entry *entry);

/* system.*, part of every registry. */
extern const struct va_family va_system_family;

#endif
