/*
 * page.c - see page.h
 *
 * A server whose pages have no end is stopped: PAGES_MAX pages of 1,000 entries
 * are more than any directory holds.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/page.h"

#include <errno.h>
#include <string.h>

#include "virtagent/client/member.h"
#include "virtagent/client/output.h"

#define PAGES_MAX 100000

static const struct va_value *items_of(const struct va_value *result)
{
	if (va_typeof(result) == VA_ARRAY)
		return result;
	for (size_t i = 0; i < va_count(result); i++) {
		const char *name;
		const struct va_value *m = va_member_at(result, i, &name);

		if (m && va_typeof(m) == VA_ARRAY)
			return m;
	}
	return NULL;
}

static int bad_page(struct rpc *r, const char *method, const char *why)
{
	out_error(rpc_target(r)->name, method, "%s", why);
	return VAC_ERROR;
}

int page_each(struct rpc *r, const char *method, const struct va_value *params,
	      int (*fn)(void *arg, const struct va_value *item), void *arg)
{
	CLEANUP_VALUE struct va_value *cursor = NULL;

	for (int page = 0; page < PAGES_MAX; page++) {
		CLEANUP_VALUE struct va_value *result = NULL;
		struct va_value *p = va_value_copy(params);
		const struct va_value *items, *next;
		int code;

		if (cursor && va_append(p, va_value_copy(cursor)))
			va_value_free(take_ptr(p));
		code = rpc_call(r, method, RPC_IDEMPOTENT, p, &result);
		if (code)
			return code;
		items = items_of(result);
		if (!items)
			return bad_page(r, method, "the result is no list");
		for (size_t i = 0; i < va_count(items); i++)
			if (fn(arg, va_item(items, i)) < 0)
				return VAC_ERROR;
		next = va_typeof(result) == VA_STRUCT ?
			       va_member(result, "cursor") : NULL;
		if (!next || member_bool(result, "eof", true))
			return VAC_OK;
		if (!va_count(items))
			return bad_page(r, method, "an empty page is not the last");
		va_value_free(cursor);
		cursor = va_value_copy(next);
		if (!cursor)
			return VAC_ERROR;
	}
	return bad_page(r, method, "the list has no end");
}

static int collect(void *arg, const struct va_value *item)
{
	return va_append(arg, va_value_copy(item));
}

int page_all(struct rpc *r, const char *method, const struct va_value *params,
	     struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *all = va_array();
	int code = all ? page_each(r, method, params, collect, all) : VAC_ERROR;

	if (!code)
		*ret = take_ptr(all);
	return code;
}
