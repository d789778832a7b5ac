/*
 * clockshim.c - LD_PRELOAD: the wall's clock as far off as a file says
 *
 * $VA_CLOCK_FILE holds seconds as a 64-bit number of this machine; whoever writes there
 * sets the clock of all programs that run with it, at once.  The clocks that waits are
 * measured by do not change, as on a real machine whose date is set.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *off;
static int (*real_clock)(clockid_t id, struct timespec *ts);

/* Before any sandbox. */
static void __attribute__((constructor)) start(void)
{
	const char *path = getenv("VA_CLOCK_FILE");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*off), PROT_READ, MAP_SHARED,
					    fd, 0);

	if (fd >= 0)
		close(fd);
	off = p == MAP_FAILED ? NULL : p;
	real_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	/* Other libraries' constructors may come first. */
	int r = real_clock ? real_clock(id, ts) : (int)syscall(SYS_clock_gettime, id, ts);

	if (r == 0 && off && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		ts->tv_sec += *off;
	return r;
}

time_t time(time_t *ret)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	if (ret)
		*ret = ts.tv_sec;
	return ts.tv_sec;
}

int gettimeofday(struct timeval *tv, void *zone)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}
