/*
 * sim_arena.c - see sim_arena.h
 *
 * Sizes are rounded up to powers of two, with a free list for each.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/sim_arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ARENA_SIZE (UINT64_C(64) << 20)
#define CLASSES 27
#define UNIT 16u /* bytes in front of each block: its class */

struct arena {
	size_t top, used;
	struct block *free[CLASSES];
};

struct block {
	size_t size_class;
	struct block *next;
};

static struct arena *arena;
static void *saved;
static size_t saved_size;
static bool on;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static bool inside(const void *p)
{
	return arena && (const char *)p >= (const char *)arena &&
	       (const char *)p < (const char *)arena + ARENA_SIZE;
}

void sim_arena_reset(void)
{
	if (!arena)
		arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED)
		abort();
	memset(arena, 0, sizeof(*arena));
	arena->top = 4096;
}

void sim_arena_switch(bool to)
{
	on = to;
}

void sim_arena_save(void)
{
	__real_free(saved);
	saved_size = arena->top;
	saved = __real_malloc(saved_size);
	memcpy(saved, arena, saved_size);
}

void sim_arena_restore(void)
{
	memcpy(arena, saved, saved_size);
}

size_t sim_arena_used(void)
{
	return arena->used;
}

static void *arena_alloc(size_t n)
{
	size_t c = 0;
	struct block *b;

	while (((size_t)UNIT << c) < n + UNIT)
		c++;
	if (c >= CLASSES)
		return NULL;
	b = arena->free[c];
	if (b) {
		arena->free[c] = b->next;
	} else {
		if (arena->top + ((size_t)UNIT << c) > ARENA_SIZE)
			return NULL;
		b = (struct block *)((char *)arena + arena->top);
		arena->top += (size_t)UNIT << c;
	}
	b->size_class = c;
	arena->used += (size_t)UNIT << c;
	memset((char *)b + UNIT, 0xa5, ((size_t)UNIT << c) - UNIT);
	return (char *)b + UNIT;
}

static struct block *block_of(void *p)
{
	return (struct block *)((char *)p - UNIT);
}

void *__wrap_malloc(size_t n)
{
	return on ? arena_alloc(n) : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	void *p;

	if (!on)
		return __real_calloc(n, size);
	p = arena_alloc(n * size);
	return p ? memset(p, 0, n * size) : NULL;
}

void __wrap_free(void *p)
{
	if (!inside(p)) {
		__real_free(p);
		return;
	}
	arena->used -= (size_t)UNIT << block_of(p)->size_class;
	memset((char *)p, 0x5a, ((size_t)UNIT << block_of(p)->size_class) - UNIT);
	block_of(p)->next = arena->free[block_of(p)->size_class];
	arena->free[block_of(p)->size_class] = block_of(p);
}

void *__wrap_realloc(void *p, size_t n)
{
	size_t old;
	void *q;

	if (!inside(p) && (p || !on))
		return __real_realloc(p, n);
	q = arena_alloc(n);
	if (!q || !p)
		return q;
	old = ((size_t)UNIT << block_of(p)->size_class) - UNIT;
	memcpy(q, p, old < n ? old : n);
	__wrap_free(p);
	return q;
}
