/*
 * ring.c - see ring.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING_FIRST 4096u /* most programs say little */

void ring_done(struct ring *r)
{
	free(r->mem);
	*r = RING_INIT(r->max);
}

void ring_drop(struct ring *r, uint64_t offset)
{
	if (offset > r->end)
		offset = r->end;
	if (offset > r->start)
		r->start = offset;
}

static int ring_grow(struct ring *r)
{
	size_t want = r->alloc ? r->alloc * 2 : RING_FIRST, used = ring_used(r);
	uint64_t at = r->start;
	uint8_t *mem;

	if (want > r->max)
		want = r->max;
	mem = malloc(want);
	if (!mem)
		return -ENOMEM;
	/* Offsets map to memory by modulus, which changes with the size. */
	while (used > 0) {
		size_t from = (size_t)(at % r->alloc), to = (size_t)(at % want);
		size_t n = used;

		if (n > r->alloc - from)
			n = r->alloc - from;
		if (n > want - to)
			n = want - to;
		memcpy(mem + to, r->mem + from, n);
		at += n;
		used -= n;
	}
	free(r->mem);
	r->mem = mem;
	r->alloc = want;
	return 0;
}

/* Reads up to room bytes to the place behind the end. */
static ssize_t read_behind(struct ring *r, int fd, size_t room)
{
	size_t to = (size_t)(r->end % r->alloc);
	ssize_t n;

	if (room > r->alloc - to)
		room = r->alloc - to;
	do
		n = read(fd, r->mem + to, room);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	r->end += (uint64_t)n;
	return n;
}

ssize_t ring_read_fd(struct ring *r, int fd)
{
	if (ring_used(r) == r->alloc) {
		if (r->alloc == r->max)
			return -ENOBUFS;
		if (ring_grow(r) < 0)
			return -ENOMEM;
	}
	return read_behind(r, fd, r->alloc - ring_used(r));
}

ssize_t ring_read_over(struct ring *r, int fd)
{
	ssize_t n = ring_read_fd(r, fd);

	if (n != -ENOBUFS)
		return n;
	/* The place behind the end is that of the oldest byte. */
	n = read_behind(r, fd, r->alloc);
	if (n > 0)
		ring_drop(r, r->end - r->max);
	return n;
}

size_t ring_peek(const struct ring *r, uint64_t *offset, void *to, size_t max)
{
	uint64_t at = *offset < r->start ? r->start : *offset;
	size_t done = 0;

	*offset = at;
	while (done < max && at < r->end) {
		size_t from = (size_t)(at % r->alloc);
		size_t n = max - done;

		if (n > r->end - at)
			n = (size_t)(r->end - at);
		if (n > r->alloc - from)
			n = r->alloc - from;
		memcpy((uint8_t *)to + done, r->mem + from, n);
		done += n;
		at += n;
	}
	return done;
}
