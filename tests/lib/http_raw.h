/*
 * http_raw.h - the crudest HTTP client, for saying what no library would say
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_TESTS_HTTP_RAW_H
#define VA_TESTS_HTTP_RAW_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"

/* Sends; false when the other side is gone. */
bool raw_send(int fd, const void *data, size_t n);
bool raw_puts(int fd, const char *text);

/*
 * Reads one response into head (up to the empty line) and body (by
 * Content-Length, chunks decoded, or up to the end).  in keeps what came too
 * early.  no_body: the answer to HEAD.  The status; 0 when the connection ended
 * before anything came, -1 when it was cut within, -2 after 5 s of silence.
 */
int raw_response(int fd, struct buf *in, struct buf *head, struct buf *body,
		 bool no_body);
/* 1 when the other side closes within ms. */
int raw_closed(int fd, int ms);

#endif
