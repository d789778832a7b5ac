/*
 * rlimits.c - what a virtproxy may have of the host at most
 *
 * Its own bounds (virtproxy/PROTOCOL, ctl.c) keep an honest process far below; the
 * kernel's are for one that leaks or was taken over.  Soft and hard limit are the
 * same, and the sandbox lets nobody raise them.  CPU time has no limit: a process
 * that spins is found by va-hostd, and has one thread of ordinary weight.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "virtproxy/sandbox.h"

/* Per channel: 256 streams, 64 control clients; room for more of both. */
#define FDS 64u
#define FDS_CHANNEL 448u
/* A process with one channel maps 4 MiB; received and unsent bytes are at most 24
 * MiB (PROTOCOL, section 1), a control client's answers 256 KiB. */
#define MEMORY (64ull << 20)
#define MEMORY_CHANNEL (96ull << 20)

static int lower(int what, rlim_t most)
{
	struct rlimit rl;

	if (getrlimit((__rlimit_resource_t)what, &rl) < 0)
		return -errno;
	if (rl.rlim_max != RLIM_INFINITY && rl.rlim_max < most)
		most = rl.rlim_max;
	rl.rlim_cur = rl.rlim_max = most;
	return setrlimit((__rlimit_resource_t)what, &rl) < 0 ? -errno : 0;
}

int sandbox_limits(size_t channels)
{
	const struct {
		int what;
		rlim_t most;
	} rows[] = {
		{ RLIMIT_NOFILE, FDS + channels * FDS_CHANNEL },
		/* Sanitizers map terabytes. */
		{ RLIMIT_AS, sandbox_is_possible() ? MEMORY + channels * MEMORY_CHANNEL :
						     RLIM_INFINITY },
		{ RLIMIT_CORE, 0 }, /* it would hold the guests' bytes */
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(rows) / sizeof(rows[0]); i++)
		r = lower(rows[i].what, rows[i].most);
	return r;
}

int sandbox_no_children(void)
{
	return lower(RLIMIT_NPROC, 0);
}
