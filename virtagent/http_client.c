/*
 * http_client.c - the blocking HTTP client (http_client.h)
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/http_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "virtagent/http_transfer.h"

struct http_client {
	char *path;
	struct transfer t;
};

struct http_client *http_client_new(const char *path)
{
	struct http_client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->path = strdup(path);
	if (!c->path || http_transfer_init(&c->t) < 0) {
		http_client_free(c);
		errno = ENOMEM;
		return NULL;
	}
	return c;
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	http_transfer_done(&c->t);
	free(c->path);
	free(c);
}

const char *http_client_path(const struct http_client *c)
{
	return c->path;
}

int http_client_perform(struct http_client *c, struct http_call *call)
{
	int r = http_transfer_begin(&c->t, c->path, call);

	if (r < 0)
		return http_transfer_refuse(call, r);
	return http_transfer_end(&c->t, curl_easy_perform(c->t.easy));
}

const char *http_client_reply_header(struct http_client *c, const char *name)
{
	static _Thread_local char value[1024];
	const char *line = buf_cstr(&c->t.head);
	size_t n = strlen(name);

	for (; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		if (strncasecmp(line, name, n) != 0 || line[n] != ':')
			continue;
		line += n + 1;
		line += strspn(line, " \t");
		snprintf(value, sizeof(value), "%.*s", (int)strcspn(line, "\r\n"), line);
		return value;
	}
	return NULL;
}
