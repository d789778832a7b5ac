/*
 * hostd_pattern.c - see hostd_pattern.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/hostd_pattern.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int pattern_check(const char *pattern, bool named, const char **why)
{
	const char *name = strstr(pattern, "{name}");

	*why = "not an absolute path";
	if (pattern[0] != '/')
		return -EINVAL;
	*why = named ? "{name} must stand in it, once" : "{name} may stand in it once";
	if (name ? strstr(name + 1, "{name}") != NULL : named)
		return -EINVAL;
	*why = "{id} may stand in it once";
	name = strstr(pattern, "{id}");
	return name && strstr(name + 1, "{id}") ? -EINVAL : 0;
}

struct match {
	const char *name, *id; /* in the path */
	size_t name_len, id_len;
};

/* The longest way first, so that a name may hold what follows it.  Patterns have
 * a few marks and paths a few hundred bytes: depth and time are bounded. */
static bool match_here(const char *p, const char *s, struct match *m)
{
	size_t mark, n = 0;

	while (*p && *p != '*' && strncmp(p, "{name}", 6) && strncmp(p, "{id}", 4))
		if (*p++ != *s++)
			return false;
	if (!*p)
		return !*s;
	mark = *p == '*' ? 1 : p[1] == 'n' ? 6 : 4;
	while (s[n] && s[n] != '/' && (mark != 4 || isdigit((unsigned char)s[n])))
		n++;
	for (;; n--) {
		if ((n || mark == 1) && match_here(p + mark, s + n, m)) {
			if (mark == 6)
				m->name = s, m->name_len = n;
			else if (mark == 4)
				m->id = s, m->id_len = n;
			return true;
		}
		if (!n)
			return false;
	}
}

int pattern_match(const char *pattern, const char *path, char *name, size_t size,
		   uint64_t *id)
{
	struct match m = { .name = NULL };
	char digits[24];

	*id = 0;
	if (!match_here(pattern, path, &m) || m.name_len >= size)
		return -ENOENT;
	if (m.name)
		memcpy(name, m.name, m.name_len);
	name[m.name_len] = '\0';
	if (m.id && m.id_len < sizeof(digits)) {
		memcpy(digits, m.id, m.id_len);
		digits[m.id_len] = '\0';
		*id = strtoull(digits, NULL, 10);
	}
	return 0;
}

char *pattern_glob(const char *pattern, size_t end)
{
	char *out = malloc(2 * end + 1), *to = out;

	for (size_t i = 0; out && i < end; i++) {
		if (strncmp(pattern + i, "{name}", 6) == 0) {
			*to++ = '*';
			i += 5;
		} else if (strncmp(pattern + i, "{id}", 4) == 0) {
			*to++ = '*';
			i += 3;
		} else {
			if (strchr("?[\\", pattern[i]))
				*to++ = '\\';
			*to++ = pattern[i];
		}
	}
	if (out)
		*to = '\0';
	return out;
}
