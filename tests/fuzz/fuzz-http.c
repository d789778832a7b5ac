/*
 * fuzz-http.c - what of HTTP we take apart ourselves: a request's target, and the
 * frames of an upgraded connection
 *
 * The first byte chooses; the rest is the text.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "virtagent/exec_wire.h"
#include "virtagent/http_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void target(const char *uri)
{
	static const struct http_route routes[] = {
		{ .method = "POST", .path = "/RPC2" },
		{ .method = "GET", .path = "/file" },
		{ .method = "PUT", .path = "/file" },
	};
	const struct http_config cfg = { .routes = routes, .nroutes = 3 };
	struct http_target t = { 0 };
	bool known = false;
	char allow[64];

	if (http_target_parse(&t, uri) < 0)
		return;
	if (t.npairs > VA_HTTP_QUERY_MAX || !t.path ||
	    strlen(t.path) > strlen(uri))
		abort();
	for (size_t i = 0; i < t.npairs; i++)
		if (strlen(t.pairs[i].key) + strlen(t.pairs[i].value) >
		    strlen(uri))
			abort();
	http_route_find(&cfg, "GET", t.path, &known, allow, sizeof(allow));
	http_target_done(&t);
}

/* Whatever the frames are: none is longer than allowed, none lies outside. */
static void frames(const uint8_t *data, size_t size)
{
	CLEANUP_BUF struct buf b = BUF_INIT(size + 1);
	const uint8_t *payload;
	uint8_t type;
	size_t n;

	if (buf_put(&b, data, size) < 0)
		return;
	while (exec_frame_peek(&b, &type, &payload, &n) == 1) {
		if (n > EXEC_FRAME_MAX || payload < buf_data(&b) ||
		    payload + n > buf_data(&b) + buf_len(&b))
			abort();
		exec_frame_next(&b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *uri = NULL;

	if (size == 0)
		return 0;
	if (data[0] & 1) {
		frames(data + 1, size - 1);
		return 0;
	}
	uri = strndup((const char *)data + 1, size - 1);
	if (uri)
		target(uri);
	return 0;
}
