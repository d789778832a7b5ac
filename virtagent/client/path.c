/*
 * path.c - see path.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/path.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "virtagent/client/client.h"
#include "virtagent/client/output.h"

int path_split(const char *word, char *guest_buf, unsigned size,
	       const char **guest, const char **path)
{
	const char *colon = strchr(word, ':'), *slash = strchr(word, '/');

	*guest = NULL;
	*path = word;
	if (str_starts(word, "unix:")) {
		colon = strchr(word + 5, ':');
	} else if (*word == '/' || *word == '.' || *word == '-' ||
		   (slash && slash < colon)) {
		return 0;
	}
	if (!colon)
		return 0;
	if ((size_t)(colon - word) >= size)
		return -E2BIG;
	snprintf(guest_buf, size, "%.*s", (int)(colon - word), word);
	/* ":PATH" is a remote path of the guest that -G names. */
	*guest = guest_buf;
	*path = colon + 1;
	return 0;
}

int path_check_remote(const char *word, const char *path)
{
	if (*path == '/')
		return VAC_OK;
	if (!*word)
		out_error(NULL, NULL, "behind GUEST: a path is missing, which begins with /");
	else if (strchr(word, '/') || strchr(word, ':'))
		out_error(NULL, word, "a path in a guest begins with /");
	else
		out_error(NULL, word, "a path in a guest begins with /; if this is the "
			  "guest: %s:/PATH", word);
	return VAC_USAGE;
}

char *path_join(const char *dir, const char *name)
{
	size_t n = strlen(dir);

	return str_printf("%s%s%s", dir, n && dir[n - 1] != '/' ? "/" : "",
			  name);
}

char *path_base(const char *path)
{
	size_t end = strlen(path), start;

	while (end > 0 && path[end - 1] == '/')
		end--;
	start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	return strndup(path + start, end - start);
}

bool path_name_ok(const char *name)
{
	return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       !strchr(name, '/');
}

char *path_encode(const char *path)
{
	char *out = malloc(3 * strlen(path) + 1), *to = out;

	if (!out)
		return NULL;
	for (const unsigned char *p = (const unsigned char *)path; *p; p++) {
		if ((*p < 0x80 && isalnum(*p)) || strchr("._~/-", *p))
			*to++ = (char)*p;
		else
			to += sprintf(to, "%%%02X", *p);
	}
	*to = '\0';
	return out;
}
