/*
 * nomem.c - the allocator of nomem.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/nomem.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <time.h>

#include "tests/lib/unit.h"

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void __libc_free(void *p);

#define SETTLE_MS 2000

static atomic_long calls, live; /* since armed */
static atomic_long fail_at;	/* 0 = none */
static atomic_bool armed, held;

static bool fails(void)
{
	long n;

	if (!atomic_load(&armed) || atomic_load(&held))
		return false;
	n = atomic_fetch_add(&calls, 1) + 1;
	if (n != atomic_load(&fail_at))
		return false;
	errno = ENOMEM;
	return true;
}

/*
 * What the loader allocates for a thread is kept with the stacks of threads that
 * have ended, and so is nobody's leak.
 */
static uintptr_t loader_from, loader_to;

static int find_loader(struct dl_phdr_info *info, size_t size, void *arg)
{
	if (info->dlpi_addr != getauxval(AT_BASE))
		return 0;
	loader_from = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD)
			loader_to = loader_from + p->p_vaddr + p->p_memsz;
	}
	return 1;
}

static void count(const void *caller, int by)
{
	uintptr_t at = (uintptr_t)caller;

	if (atomic_load(&armed) && !(at >= loader_from && at < loader_to))
		atomic_fetch_add(&live, by);
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t n)
{
	void *p = fails() ? NULL : __libc_malloc(n);

	if (p)
		count(CALLER, 1);
	return p;
}

void *calloc(size_t n, size_t size)
{
	void *p = fails() ? NULL : __libc_calloc(n, size);

	if (p)
		count(CALLER, 1);
	return p;
}

void *realloc(void *old, size_t n)
{
	void *p = fails() ? NULL : __libc_realloc(old, n);

	if (p && !old)
		count(CALLER, 1);
	return p;
}

void free(void *p)
{
	if (p)
		count(CALLER, -1);
	__libc_free(p);
}

/* A thread that is about to end may still hold something: it gets its time. */
static void settle(long lost)
{
	static const struct timespec moment = { .tv_nsec = 1000000 };

	atomic_store(&held, true);
	for (int i = 0; i < SETTLE_MS && atomic_load(&live) > lost; i++)
		nanosleep(&moment, NULL);
	atomic_store(&held, false);
}

/*
 * Runs it with the nth allocation failing; how many there were.  left: what was
 * allocated and not freed, lost of which may be.
 */
static long run_failing(int (*scenario)(void), long nth, long lost, int *ret, long *left)
{
	atomic_store(&calls, 0);
	atomic_store(&live, 0);
	atomic_store(&fail_at, nth);
	atomic_store(&armed, true);
	*ret = scenario();
	nth = atomic_load(&calls);
	settle(lost);
	atomic_store(&armed, false);
	*left = atomic_load(&live);
	return nth;
}

void nomem_hold(bool on)
{
	atomic_store(&held, on);
}

static int descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 64; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

#define COUNTED 3 /* runs; of threads the number may differ */

void nomem_each(int (*scenario)(void), long lost)
{
	nomem_some(scenario, lost, 1);
}

void nomem_some(int (*scenario)(void), long lost, long step)
{
	const char *want = getenv("VA_NOMEM_STEP");
	long total = 0, left, n, failed = 0;
	int r, fds;

	if (want && atol(want) > 0)
		step = atol(want);
	dl_iterate_phdr(find_loader, NULL);
	/* What libraries make once and keep is made here. */
	CHECK_INT(scenario(), 0);
	CHECK_INT(scenario(), 0);
	for (int i = 0; i < COUNTED; i++) {
		n = run_failing(scenario, 0, 0, &r, &left);
		CHECK_INT(r, 0);
		CHECK_INT(left, 0);
		total = n > total ? n : total;
	}
	CHECK(total > 0);
	fprintf(stderr, "# %ld allocations\n", total);
	fds = descriptors();
	for (n = 1; n <= total; n += step) {
		run_failing(scenario, n, lost, &r, &left);
		if (left > lost)
			unit_fail(__FILE__, __LINE__, "allocation %ld of %ld "
				  "failed: %ld were left behind (%d)", n, total,
				  left, r);
		if (descriptors() != fds)
			unit_fail(__FILE__, __LINE__, "allocation %ld of %ld "
				  "failed: a descriptor was left open (%d)", n,
				  total, r);
		failed += r < 0;
	}
	CHECK(failed > 0);
	CHECK_INT(scenario(), 0);
	fprintf(stderr, "# %ld failures told\n", failed);
}
