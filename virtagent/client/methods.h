/*
 * methods.h - what the client knows of a method before it calls it
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_METHODS_H
#define VA_CLIENT_METHODS_H

#include <stdbool.h>

#include "virtagent/client/rpc.h"
#include "virtagent/value.h"

struct method_info {
	char name[80];
	char signature[48]; /* as in method.h; "" = not known */
	char args[120];
	char raw[32];
	char cls[16];
	char help[160];
	unsigned flags; /* VA_M_* */
	bool allowed;
	bool from_server;
};

/* The compiled-in knowledge: 0, or -ENOENT. */
int method_builtin(const char *name, struct method_info *ret);
/* A row of the server's capabilities: 0, or -EBADMSG. */
int method_from_value(const struct va_value *row, struct method_info *ret);
/*
 * What the server itself says: the method's row, else system.methodSignature for a
 * call with nargs arguments.  0, -ENOENT (the server has no such method),
 * or -ENODATA (it does not tell).
 */
int method_ask(struct rpc *r, const char *name, size_t nargs,
	       struct method_info *ret);
/* A signature of XML-RPC type names ({"struct", "string"}) as ours; exposed for
 * the tests. */
int method_signature(const struct va_value *signatures, size_t nargs,
		     char *ret, size_t size);

#endif
