/*
 * seal.c - see seal.h
 *
 * The pages lie at a fixed low address (1 MiB) between two that may not be
 * touched, so that a filter can keep them with comparisons alone: no mmap() at a
 * fixed address, no mprotect(), and munmap(), mremap() and madvise() only above.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/seal.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define SEAL_AT UINT64_C(0x100000)
#define SEAL_GUARD UINT64_C(0x10000) /* the largest page there is */
#define SEAL_SIZE UINT64_C(0x10000)
#define SEAL_MAX 256u

struct item {
	const void *data;
	size_t n;
	enum seal_use use;
};

static struct item items[SEAL_MAX];
static size_t nitems, used;
static uint8_t *pages;
static bool closed;

/* 0 or a negative errno.  Where the address is taken, or the kernel knows no
 * way to ask for it, there is no sealing. */
static int make_pages(void)
{
	void *want = (void *)(uintptr_t)SEAL_AT, *got;
	size_t all = SEAL_SIZE + 2 * SEAL_GUARD;

	if (pages)
		return 0;
	got = mmap(want, all, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (got == MAP_FAILED)
		return -errno;
	if (got != want) {
		munmap(got, all);
		return -ENOTSUP;
	}
	if (mprotect((uint8_t *)got + SEAL_GUARD, SEAL_SIZE,
		     PROT_READ | PROT_WRITE) < 0)
		return -errno;
	pages = (uint8_t *)got + SEAL_GUARD;
	return 0;
}

int seal_add(enum seal_use use, const void *data, size_t n)
{
	int r = closed ? -EBUSY : make_pages();

	if (r < 0)
		return r;
	if (nitems == SEAL_MAX)
		return -ENOSPC;
	/* One copy, also when it has two uses: it is found by its content. */
	for (size_t i = 0; i < nitems; i++)
		if (items[i].n == n && memcmp(items[i].data, data, n) == 0) {
			items[nitems++] = (struct item){ items[i].data, n, use };
			return 0;
		}
	if (n > SEAL_SIZE - used)
		return -ENOSPC;
	memcpy(pages + used, data, n);
	items[nitems++] = (struct item){ pages + used, n, use };
	used += (n + 15) & ~(size_t)15; /* socket addresses want alignment */
	if (used > SEAL_SIZE)
		used = SEAL_SIZE;
	return 0;
}

int seal_add_path(enum seal_use use, const char *path)
{
	return path ? seal_add(use, path, strlen(path) + 1) : 0;
}

const void *seal_data(const void *data, size_t n)
{
	if (closed)
		for (size_t i = 0; i < nitems; i++)
			if (items[i].n == n && memcmp(items[i].data, data, n) == 0)
				return items[i].data;
	return data;
}

const char *seal_path(const char *path)
{
	return seal_data(path, strlen(path) + 1);
}

int seal_close(void)
{
	int r = make_pages();

	if (r < 0)
		return r;
	if (mprotect(pages, SEAL_SIZE, PROT_READ) < 0)
		return -errno;
	closed = true;
	return 0;
}

const void *seal_item(size_t i, enum seal_use *use)
{
	if (i >= nitems)
		return NULL;
	*use = items[i].use;
	return items[i].data;
}

uintptr_t seal_end(void)
{
	return (uintptr_t)(SEAL_AT + SEAL_SIZE + 2 * SEAL_GUARD);
}
