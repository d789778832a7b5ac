/*
 * stream.h - a forwarded connection: raw bytes both ways (PROTOCOL, "va-stream/1")
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_STREAM_H
#define VA_STREAM_H

#include <stddef.h>

#define STREAM_TOKEN "va-stream/1"
#define LISTEN_TOKEN "va-listen/1"

/*
 * Copies between two sockets that do not block, until both directions have ended
 * or one of the sockets broke.  An end of input is passed on as such (half-close).
 * extra: bytes that came from a before.  At most `buffer` bytes are kept for each
 * direction; who does not take them holds up only him who sends.
 * Neither socket is closed.  0, -ECANCELED once stop_fd (-1 = none) is readable, or
 * the negative errno of the socket that broke.
 */
int stream_pump(int a, int b, const void *extra, size_t extra_len, size_t buffer,
		int stop_fd);

#endif
