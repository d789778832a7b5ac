/*
 * named.h - a list of records that are known by a name
 *
 * For few of them, such as one a guest: a look goes through all.  A record's own struct
 * begins with a struct named:
 *
 *	struct bucket {
 *		struct named named;
 *		double tokens;
 *	};
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_NAMED_H
#define VA_COMMON_NAMED_H

#include <stddef.h>

struct named {
	struct named *next;
	const char *name; /* the record's own copy */
};

/* The record, or NULL. */
void *named_find(struct named *list, const char *name);
/* Adds one of size bytes, zeroed but for its name, and returns it; NULL on ENOMEM. */
void *named_add(struct named **list, size_t size, const char *name);
/* Frees all; what they own goes before. */
void named_free(struct named **list);

#endif
