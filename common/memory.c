/*
 * memory.c - see memory.h
 *
 * A page of a program's code is mapped when it is first used, its neighbours
 * (64 KiB) with it, and stays: after a start, which touches nearly everything
 * once, a small daemon holds most of its text.  Segments that cannot be written
 * have no content of their own, so dropping their pages loses nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/memory.h"

#include <link.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* glibc would raise its threshold at the first free() of more. */
#define LARGE (256 << 10)

void memory_large_apart(void)
{
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, LARGE);
#endif
}

void memory_one_arena(void)
{
#ifdef __GLIBC__
	mallopt(M_ARENA_MAX, 1);
#endif
}

static int drop_text(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t page = *(const uintptr_t *)arg;

	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t from = info->dlpi_addr + ph->p_vaddr;
		uintptr_t to = from + ph->p_filesz;

		if (ph->p_type != PT_LOAD || (ph->p_flags & PF_W))
			continue;
		from &= ~(page - 1);
		to = (to + page - 1) & ~(page - 1);
		(void)madvise((void *)from, to - from, MADV_DONTNEED);
	}
	return 0;
}

void memory_trim(void)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

#ifdef __GLIBC__
	malloc_trim(0);
#endif
	dl_iterate_phdr(drop_text, &page);
}
