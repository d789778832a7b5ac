/*
 * http_transfer.h - one request and its reply by libcurl: what http_client.c and
 * http_multi.c share; nobody else's business
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HTTP_TRANSFER_H
#define VA_HTTP_TRANSFER_H

#include <stdbool.h>

#include <curl/curl.h>

#include "virtagent/http_client.h"

/* What a transfer's callbacks work on. */
struct transfer {
	CURL *easy;
	struct curl_slist *headers;
	struct http_call *call;
	struct buf head; /* of the reply: lines "Name: value" */
	bool head_whole; /* its empty line came */
	bool head_told;
	bool no_memory; /* an option could not be set */
	int error; /* of a callback: why the transfer was aborted */
	char text[CURL_ERROR_SIZE]; /* libcurl's words */
	char why[96];		    /* ours, of an error of a callback */
};

/* 0 or -ENOMEM, then to be done all the same. */
int http_transfer_init(struct transfer *t);
void http_transfer_done(struct transfer *t);
/* Makes the handle ready for the call, by the unix socket at path.  0 or a negative
 * errno, for http_transfer_refuse(). */
int http_transfer_begin(struct transfer *t, const char *path, struct http_call *c);
/* libcurl's result as ours, into the call, too. */
int http_transfer_end(struct transfer *t, CURLcode code);
/* The call was not begun because of r, which is returned. */
int http_transfer_refuse(struct http_call *c, int r);

#endif
