/*
 * args.h - words of a command line as XML-RPC values
 *
 * A word is converted as the method's signature says.  A prefix overrides that:
 *
 *	i:42   s:text   b:true   d:1.5   json:[1,2]
 *	base64:@FILE (its bytes; "-" is stdin)   base64:aGVsbG8=
 *
 * so a text that begins like one of them is written s:i:42.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_ARGS_H
#define VA_CLIENT_ARGS_H

#include <stddef.h>

#include "virtagent/value.h"

/* The most a base64:@FILE may be; larger things go by GET and PUT. */
#define ARGS_FILE_MAX (1u << 20)

/* One word.  letter is a signature's letter ('x' = guess).  0 or -EINVAL (or
 * -errno of the file) with the reason in err. */
int arg_convert(char letter, const char *word, struct va_value **ret, char *err,
		size_t err_size);
/*
 * All words of a call.  signature "" = guess each.  Too few or too many: -E2BIG
 * with the reason in err.
 */
int args_convert(const char *signature, int argc, char **argv,
		 struct va_value **ret, char *err, size_t err_size);

#endif
