/*
 * named.c - see named.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/named.h"

#include <stdlib.h>
#include <string.h>

void *named_find(struct named *list, const char *name)
{
	while (list && strcmp(list->name, name) != 0)
		list = list->next;
	return list;
}

void *named_add(struct named **list, size_t size, const char *name)
{
	size_t n = strlen(name) + 1;
	struct named *one = calloc(1, size + n);

	if (!one)
		return NULL;
	one->name = memcpy((char *)one + size, name, n);
	one->next = *list;
	*list = one;
	return one;
}

void named_free(struct named **list)
{
	while (*list) {
		struct named *one = *list;

		*list = one->next;
		free(one);
	}
}
