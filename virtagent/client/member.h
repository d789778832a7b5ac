/*
 * member.h - members of structs that another program sent
 *
 * A missing member, or one of another type, gives the default.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_MEMBER_H
#define VA_CLIENT_MEMBER_H

#include "virtagent/value.h"

/* Borrowed; "" by default.  strct may be NULL. */
static inline const char *member_text(const struct va_value *strct,
				      const char *name)
{
	const struct va_value *m = strct ? va_member(strct, name) : NULL;
	const char *s;

	return m && !va_get_string(m, &s) ? s : "";
}

static inline int64_t member_int(const struct va_value *strct, const char *name,
				 int64_t dflt)
{
	const struct va_value *m = strct ? va_member(strct, name) : NULL;
	int64_t i;

	return m && !va_get_int(m, &i) ? i : dflt;
}

static inline bool member_bool(const struct va_value *strct, const char *name,
			       bool dflt)
{
	const struct va_value *m = strct ? va_member(strct, name) : NULL;
	bool b;

	return m && !va_get_bool(m, &b) ? b : dflt;
}

#endif
