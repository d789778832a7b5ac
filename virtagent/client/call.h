/*
 * call.h - call a method and print what it gives
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_CALL_H
#define VA_CLIENT_CALL_H

#include "virtagent/client/methods.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"

/*
 * Calls with words as arguments and prints the result: the row's raw member as
 * it is (to the end of the file where the row says so), else the result.
 * Returns an exit code; errors went to stderr.
 */
int call_words(const struct client *cl, struct rpc *r, const char *method,
	       int argc, char **argv);
/*
 * Calls a method that answers by pieces, from offset, until eof, and writes the
 * member raw to out.  params: what stands before the offset (kept).
 */
int call_pieces(const struct client *cl, struct rpc *r,
		const struct method_info *m, const struct va_value *params,
		struct out_stream *out);
/* Prints a result as `call` does: 0, or VAC_FALSE for a plain false. */
int call_print(const struct client *cl, const struct method_info *m,
	       const struct va_value *result);

#endif
