/*
 * test-hostd-nomem.c - every allocation of va-hostd's start fails once: of its loop,
 * its store, its HTTP client and server (tests/lib/nomem.h)
 *
 * It starts or says that it does not, and the next one then does.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/log.h"
#include "tests/lib/nomem.h"
#include "tests/lib/unit.h"
#include "virtagent/codec.h"
#include "virtagent/hostd_daemon.h"
#include "virtagent/http_client.h"

/* A thousand databases: where there is a disk in memory, on that. */
static char dir[64], runtime[80], state[80];

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *ftw)
{
	return remove(path);
}

static void remove_all(void)
{
	nftw(runtime, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	nftw(state, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct hostd_daemon *start(bool may_fail)
{
	static const struct hostd_args args = {
		.opt = { .config = "/nonexistent/hostd.conf",
			 .guests_dir = "/nonexistent/guests.d" },
		.virtproxy = "/nonexistent/virtproxy",
	};
	struct hostd_conf conf;
	char err[256] = "";

	CHECK_INT(hostd_options_load(&args.opt, &conf, err, sizeof(err)), 0);
	nomem_hold(!may_fail);
	return hostd_daemon_new(&args, &conf);
}

static int start_once(void)
{
	struct hostd_daemon *d;
	int r;

	nomem_hold(true);
	remove_all();
	d = start(true);
	r = d ? 0 : -errno;
	CHECK(d || r < 0);
	hostd_daemon_free(d);
	if (r == 0)
		return 0;
	/* Nothing that it left, a lock, a socket, is in the next one's way. */
	nomem_hold(true);
	d = start(false);
	CHECK(d);
	hostd_daemon_free(d);
	return r;
}

TEST(it_starts_or_does_not)
{
	snprintf(dir, sizeof(dir), "/dev/shm/va-nomem-XXXXXX");
	if (!mkdtemp(dir))
		snprintf(dir, sizeof(dir), "%s", unit_tmpdir());
	snprintf(runtime, sizeof(runtime), "%s/run", dir);
	snprintf(state, sizeof(state), "%s/state", dir);
	setenv("VA_RUNTIME_DIR", runtime, 1);
	setenv("VA_STATE_DIR", state, 1);
	CHECK_INT(http_global_init(), 0);
	CHECK_INT(codec_global_init(), 0);
	nomem_some(start_once, 0, 5);
	remove_all();
	rmdir(dir); /* the unit's own goes later */
}

UNIT_MAIN(CASE_SLOW(it_starts_or_does_not, 120))
