/*
 * json_member.c - see json_member.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/json_member.h"

#include <string.h>

/* Behind the string that starts at p (a quote); NULL when it has no end. */
static const char *skip_string(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : NULL;
}

/* Copies the string at p without its quotes; escapes are left as they are. */
static void copy_string(const char *p, const char *end, char *to, size_t size)
{
	size_t n = (size_t)(end - p) - 2;

	if (n >= size)
		n = size - 1;
	memcpy(to, p + 1, n);
	to[n] = 0;
}

bool json_member(const char *text, int depth, const char *key, char *to, size_t size)
{
	char name[32];
	int level = 0;

	for (const char *p = text; p && *p; p++) {
		const char *end;

		if (*p == '{' || *p == '[')
			level++;
		else if (*p == '}' || *p == ']')
			level--;
		if (*p != '"')
			continue;
		end = skip_string(p);
		if (!end)
			return false;
		copy_string(p, end, name, sizeof(name));
		p = end;
		p += strspn(p, " \t");
		if (*p == ':' && level == depth && strcmp(name, key) == 0) {
			p++;
			p += strspn(p, " \t");
			end = *p == '"' ? skip_string(p) : NULL;
			if (end)
				copy_string(p, end, to, size);
			return end != NULL;
		}
		p--; /* the loop looks at what follows the string */
	}
	return false;
}
