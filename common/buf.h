/*
 * buf.h - the one buffer type for bytes from outside
 *
 * A buffer has a hard cap given when it is made; nothing grows past it.  All
 * access goes through checked calls: a getter that would run past the end
 * fails with -EBADMSG and moves nothing, a putter that would pass the cap
 * fails with -EMSGSIZE and adds nothing.  Numbers are little-endian, as in
 * virtproxy/PROTOCOL.
 *
 * Bytes are consumed at the front and appended at the back; the space in front
 * is reclaimed when that is cheap, so a pointer from buf_data() is valid only
 * until the next call that is not a getter of the length.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_BUF_H
#define VA_COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/cleanup.h"

struct buf {
	uint8_t *mem;
	size_t off;   /* first unread byte */
	size_t end;   /* one past the last byte */
	size_t alloc; /* bytes at mem */
	size_t cap;   /* most bytes the buffer may hold, never exceeded */
};

#define BUF_INIT(max) ((struct buf){ .cap = (max) })

/* Sets up an empty buffer that holds at most cap bytes; allocates nothing. */
void buf_init(struct buf *b, size_t cap);
/* Frees the memory; the buffer is empty and may be used again. */
void buf_done(struct buf *b);

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->off;
}

static inline const uint8_t *buf_data(const struct buf *b)
{
	return b->mem ? b->mem + b->off : (const uint8_t *)"";
}

/* How many bytes may still be added. */
static inline size_t buf_room(const struct buf *b)
{
	return b->cap - buf_len(b);
}

/* Forgets the content, keeps the memory. */
void buf_reset(struct buf *b);
/* Gives an empty buffer's memory back: for one that is seldom used. */
void buf_release(struct buf *b);

/* Drops n bytes from the front; -EBADMSG when there are fewer. */
int buf_consume(struct buf *b, size_t n);
/* Keeps the first n bytes only. */
int buf_truncate(struct buf *b, size_t n);

/*
 * Makes room for n bytes at the back and returns where they go; NULL with
 * errno EMSGSIZE (cap) or ENOMEM.  buf_commit() then says how many were
 * written, at most n.
 */
uint8_t *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);

int buf_put(struct buf *b, const void *data, size_t n);
int buf_put_u8(struct buf *b, uint8_t v);
int buf_put_u16(struct buf *b, uint16_t v);
int buf_put_u32(struct buf *b, uint32_t v);
int buf_put_u64(struct buf *b, uint64_t v);
int buf_puts(struct buf *b, const char *s);
int buf_printf(struct buf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

int buf_get(struct buf *b, void *data, size_t n);
int buf_get_u8(struct buf *b, uint8_t *v);
int buf_get_u16(struct buf *b, uint16_t *v);
int buf_get_u32(struct buf *b, uint32_t *v);
int buf_get_u64(struct buf *b, uint64_t *v);

/*
 * The content as a NUL-terminated string (the NUL is not counted and lies
 * within the cap); NULL on ENOMEM or when the cap leaves no room.  Valid until
 * the next change.
 */
const char *buf_cstr(struct buf *b);

/*
 * Reads from fd to the back, at most max bytes.  Returns the number read, 0 at
 * the end of the file, or a negative errno; -EMSGSIZE when the buffer is full.
 */
ssize_t buf_read_fd(struct buf *b, int fd, size_t max);
/* Writes from the front to fd and consumes what went out; as write(2). */
ssize_t buf_write_fd(struct buf *b, int fd);

/* Little-endian access to raw memory that the caller has checked. */
static inline uint16_t get_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get_le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
	       (uint32_t)p[3] << 24;
}

static inline uint64_t get_le64(const uint8_t *p)
{
	return get_le32(p) | (uint64_t)get_le32(p + 4) << 32;
}

static inline void put_le16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void put_le32(uint8_t *p, uint32_t v)
{
	put_le16(p, (uint16_t)v);
	put_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void put_le64(uint8_t *p, uint64_t v)
{
	put_le32(p, (uint32_t)v);
	put_le32(p + 4, (uint32_t)(v >> 32));
}

#define CLEANUP_BUF CLEANUP(buf_done)

#endif
