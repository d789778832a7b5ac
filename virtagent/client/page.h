/*
 * page.h - lists that come page by page
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_PAGE_H
#define VA_CLIENT_PAGE_H

#include "virtagent/client/rpc.h"

/*
 * Calls a list method until its last page, and fn for each item.  The result is
 * an array (all there is), or a struct with one array member, "eof" (false: there
 * is more) and "cursor", which goes behind params (kept) then.  Exit code, the error said; a negative value of fn ends it and
 * gives VAC_ERROR.
 */
int page_each(struct rpc *r, const char *method, const struct va_value *params,
	      int (*fn)(void *arg, const struct va_value *item), void *arg);
/* All items as one array. */
int page_all(struct rpc *r, const char *method, const struct va_value *params,
	     struct va_value **ret);

#endif
