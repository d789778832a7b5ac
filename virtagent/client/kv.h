/*
 * kv.h - what the kv verbs share
 *
 * On a host the keys are va-hostd's and the first operand names the guest, unless
 * -G does or it is a key already; in a guest (and behind unix:PATH) they are the
 * agent's and there is no such operand.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_KV_H
#define VA_CLIENT_KV_H

#include <stdbool.h>

#include "virtagent/client/rpc.h"

struct kv {
	struct rpc *r;
	bool host;
	char guest[256]; /* "" in a guest */
	int argc;	 /* operands behind the guest */
	char **argv;
};

/* Finds out and connects; to_host: in a guest, too, the host's keys (user.*).  0
 * or an exit code after the error went to stderr. */
int kv_open(const struct client *cl, int argc, char **argv, bool to_host,
	    struct kv *ret);
void kv_close(struct kv *kv);
/* Calls host.kv.WHAT with the guest's name first, or guest.kv.WHAT.  Takes params
 * over; as rpc_call(), loud: the error goes to stderr. */
int kv_call(struct kv *kv, const char *what, struct va_value *params, bool loud,
	    struct va_value **ret);
/* At least min operands are left, at most max (-1 = any)?  Else VAC_USAGE. */
int kv_need(const struct client *cl, const struct kv *kv, int min, int max);

#endif
