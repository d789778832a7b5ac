/*
 * kv.h - what the kv verbs share
 *
 * On a host the keys are va-hostd's and the first operand names the guest, unless
 * -G does or it is a key already; in a guest (and behind unix:PATH) they are the
 * agent's and there is no such operand.  On a host --all and --group stand for a
 * guest: keys that all guests, or those of a group, get.
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
	char guest[264]; /* "" in a guest */
	int argc;	 /* operands behind the guest */
	char **argv;
};

/* First member of the options of verbs with KV_GROUP_ROWS. */
struct kv_opts {
	bool all;
	const char *group;
};

int kv_set_all(void *ctx, const char *value, char *err, size_t size);
int kv_set_group(void *ctx, const char *value, char *err, size_t size);

#define KV_GROUP_ROWS                                                          \
	{ 0, "all", NULL, "keys that all guests get; no GUEST then",	       \
	  kv_set_all },							       \
	{ 0, "group", "PATTERN", "keys that guests whose name matches get; no "\
	  "GUEST then", kv_set_group }

/* Finds out and connects; o: of a verb with KV_GROUP_ROWS, or NULL; to_host: in a
 * guest, too, the host's keys (user.*).  0 or an exit code after the error went to
 * stderr. */
int kv_open(const struct client *cl, const struct kv_opts *o, int argc,
	    char **argv, bool to_host, struct kv *ret);
void kv_close(struct kv *kv);
/* Calls host.kv.WHAT with the guest's name first, or guest.kv.WHAT.  Takes params
 * over; flags as rpc_call()'s, loud: the error goes to stderr. */
int kv_call(struct kv *kv, const char *what, unsigned flags,
	    struct va_value *params, bool loud, struct va_value **ret);
/* At least min operands are left, at most max (-1 = any)?  Else VAC_USAGE. */
int kv_need(const struct client *cl, const struct kv *kv, int min, int max);

#endif
