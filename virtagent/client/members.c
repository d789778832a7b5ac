/*
 * members.c - see members.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/members.h"

#include <stdio.h>
#include <string.h>

#include "virtagent/client/output.h"
#include "virtagent/client/table.h"

#define MEMBERS_INDENT_MAX 8

static void print_struct(const struct client *cl, const struct va_value *v,
			 int indent);

static void print_one(const struct client *cl, const struct va_value *v,
		      const char *name, int indent)
{
	const struct va_value *m = va_member(v, name);
	CLEANUP_TABLE struct table *t = NULL;
	bool structs = m && va_typeof(m) == VA_ARRAY && va_count(m) &&
		       va_typeof(va_item(m, 0)) == VA_STRUCT;

	if (indent < MEMBERS_INDENT_MAX && (structs || va_typeof(m) == VA_STRUCT)) {
		printf("%*s", indent, "");
		out_text(cl, name, strlen(name));
		printf(":\n");
		for (size_t i = 0; structs && i < va_count(m); i++) {
			if (i)
				putchar('\n');
			print_struct(cl, va_item(m, i), indent + 2);
		}
		if (!structs)
			print_struct(cl, m, indent + 2);
		return;
	}
	t = table_new("name,value");
	if (!t)
		return;
	table_cellf(t, "%*s%s:", indent, "", name);
	table_member(t, v, name);
	table_print(t, stdout, false);
}

static void print_struct(const struct client *cl, const struct va_value *v,
			 int indent)
{
	for (size_t i = 0; i < va_count(v); i++) {
		const char *name = "";

		va_member_at(v, i, &name);
		print_one(cl, v, name, indent);
	}
}

void members_print(const struct client *cl, const struct va_value *v, int indent)
{
	if (va_typeof(v) == VA_STRUCT)
		print_struct(cl, v, indent);
	else
		out_value(cl, v);
}
