/*
 * buf.c - see buf.h
 *
 * Growth doubles, starting at 256 bytes, never past the cap (plus the one byte
 * that buf_cstr() may need).  Before growing, unread bytes are moved to the
 * front when at least half of the memory lies in front of them, so that a
 * stream that is consumed as fast as it is filled never copies more than once.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_init(struct buf *b, size_t cap)
{
	*b = BUF_INIT(cap);
}

void buf_done(struct buf *b)
{
	free(b->mem);
	*b = BUF_INIT(b->cap);
}

void buf_reset(struct buf *b)
{
	b->off = b->end = 0;
}

void buf_release(struct buf *b)
{
	size_t cap = b->cap;

	if (b->off != b->end || !b->mem)
		return;
	buf_done(b);
	buf_init(b, cap);
}

int buf_consume(struct buf *b, size_t n)
{
	if (n > buf_len(b))
		return -EBADMSG;
	b->off += n;
	if (b->off == b->end)
		b->off = b->end = 0;
	return 0;
}

int buf_truncate(struct buf *b, size_t n)
{
	if (n > buf_len(b))
		return -EBADMSG;
	b->end = b->off + n;
	return 0;
}

/* Makes at least n bytes of room behind end; the cap has been checked. */
static int buf_grow(struct buf *b, size_t n)
{
	size_t used = buf_len(b), want = b->alloc ? b->alloc : 256;
	uint8_t *mem;

	if (b->alloc - b->end >= n && b->mem)
		return 0;
	if (b->mem && b->off && b->alloc - used >= n && b->off >= b->alloc / 2) {
		memmove(b->mem, b->mem + b->off, used);
		b->off = 0;
		b->end = used;
		return 0;
	}
	while (want < used + n)
		want = want > SIZE_MAX / 2 ? used + n : want * 2;
	if (want > b->cap + 1)
		want = b->cap + 1;
	if (want < used + n)
		want = used + n;
	mem = malloc(want);
	if (!mem)
		return -ENOMEM;
	if (used)
		memcpy(mem, b->mem + b->off, used);
	free(b->mem);
	b->mem = mem;
	b->alloc = want;
	b->off = 0;
	b->end = used;
	return 0;
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
	int r;

	if (n > buf_room(b)) {
		errno = EMSGSIZE;
		return NULL;
	}
	r = buf_grow(b, n ? n : 1);
	if (r < 0) {
		errno = -r;
		return NULL;
	}
	return b->mem + b->end;
}

void buf_commit(struct buf *b, size_t n)
{
	size_t room = b->alloc - b->end;

	b->end += n < room ? n : room;
}

int buf_put(struct buf *b, const void *data, size_t n)
{
	uint8_t *to = buf_reserve(b, n);

	if (!to)
		return -errno;
	if (n)
		memcpy(to, data, n);
	b->end += n;
	return 0;
}

int buf_put_u8(struct buf *b, uint8_t v)
{
	return buf_put(b, &v, 1);
}

int buf_put_u16(struct buf *b, uint16_t v)
{
	uint8_t raw[2];

	put_le16(raw, v);
	return buf_put(b, raw, sizeof(raw));
}

int buf_put_u32(struct buf *b, uint32_t v)
{
	uint8_t raw[4];

	put_le32(raw, v);
	return buf_put(b, raw, sizeof(raw));
}

int buf_put_u64(struct buf *b, uint64_t v)
{
	uint8_t raw[8];

	put_le64(raw, v);
	return buf_put(b, raw, sizeof(raw));
}

int buf_puts(struct buf *b, const char *s)
{
	return buf_put(b, s, strlen(s));
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	char small[256];
	CLEANUP_FREE char *big = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	if ((size_t)n < sizeof(small))
		return buf_put(b, small, (size_t)n);
	if ((size_t)n > buf_room(b))
		return -EMSGSIZE;
	va_start(ap, fmt);
	n = vasprintf(&big, fmt, ap);
	va_end(ap);
	if (n < 0) {
		big = NULL;
		return -ENOMEM;
	}
	return buf_put(b, big, (size_t)n);
}

int buf_get(struct buf *b, void *data, size_t n)
{
	if (n > buf_len(b))
		return -EBADMSG;
	if (n)
		memcpy(data, b->mem + b->off, n);
	return buf_consume(b, n);
}

int buf_get_u8(struct buf *b, uint8_t *v)
{
	return buf_get(b, v, 1);
}

int buf_get_u16(struct buf *b, uint16_t *v)
{
	uint8_t raw[2];
	int r = buf_get(b, raw, sizeof(raw));

	if (r == 0)
		*v = get_le16(raw);
	return r;
}

int buf_get_u32(struct buf *b, uint32_t *v)
{
	uint8_t raw[4];
	int r = buf_get(b, raw, sizeof(raw));

	if (r == 0)
		*v = get_le32(raw);
	return r;
}

int buf_get_u64(struct buf *b, uint64_t *v)
{
	uint8_t raw[8];
	int r = buf_get(b, raw, sizeof(raw));

	if (r == 0)
		*v = get_le64(raw);
	return r;
}

const char *buf_cstr(struct buf *b)
{
	if (b->mem && b->end < b->alloc) {
		b->mem[b->end] = 0;
		return (const char *)b->mem + b->off;
	}
	/* One byte past the cap is allowed for the terminator. */
	if (buf_grow(b, 1) < 0)
		return NULL;
	b->mem[b->end] = 0;
	return (const char *)b->mem + b->off;
}

ssize_t buf_read_fd(struct buf *b, int fd, size_t max)
{
	size_t room = buf_room(b);
	uint8_t *to;
	ssize_t n;

	if (room == 0)
		return -EMSGSIZE;
	to = buf_reserve(b, max < room ? max : room);
	if (!to)
		return -errno;
	do
		n = read(fd, to, max < room ? max : room);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	b->end += (size_t)n;
	return n;
}

ssize_t buf_write_fd(struct buf *b, int fd)
{
	ssize_t n;

	if (buf_len(b) == 0)
		return 0;
	do
		n = write(fd, b->mem + b->off, buf_len(b));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	buf_consume(b, (size_t)n);
	return n;
}
