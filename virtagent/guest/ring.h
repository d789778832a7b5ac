/*
 * ring.h - the kept part of a byte stream
 *
 * Holds the bytes [start, end) of a stream that is counted from its beginning.
 * Memory grows by doubling up to the size given, then the oldest bytes go.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_RING_H
#define VA_GUEST_RING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ring {
	uint8_t *mem;
	size_t alloc, max;
	uint64_t start, end; /* stream offsets */
};

#define RING_INIT(bytes) ((struct ring){ .max = (bytes) })

void ring_done(struct ring *r);

static inline size_t ring_used(const struct ring *r)
{
	return (size_t)(r->end - r->start);
}

/* Drops kept bytes in front of offset (at most all). */
void ring_drop(struct ring *r, uint64_t offset);
/*
 * Reads from fd what fits behind the kept bytes without dropping any: the
 * count, 0 at the end of the file, -ENOBUFS when the ring is full, or another
 * negative errno.
 */
ssize_t ring_read_fd(struct ring *r, int fd);
/* The same, but when it is full the oldest bytes give way to those that come. */
ssize_t ring_read_over(struct ring *r, int fd);
/* Copies up to max bytes from offset (moved up to start when it lies before):
 * the count; *offset is where they were. */
size_t ring_peek(const struct ring *r, uint64_t *offset, void *to, size_t max);

#endif
