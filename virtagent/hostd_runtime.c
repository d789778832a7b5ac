/*
 * hostd_runtime.c - see hostd_runtime.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/hostd_runtime.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/str.h"

#define LOCK_NS (2 * NSEC_PER_SEC)

static int fail(const char *what, int err)
{
	log_error("%s: %s", what, strerror(-err));
	return err;
}

/* A program that a va-hostd just started has its lock until it is executed, also
 * when that va-hostd is killed at that moment: such a lock is waited for. */
static int lock_when_free(const char *path, int *fd, pid_t *holder)
{
	uint64_t until = clock_now() + (uint64_t)(clock_scale() * LOCK_NS);
	int err;

	while ((err = lock_file(path, fd, holder)) == -EBUSY &&
	       (*holder <= 0 || (kill(*holder, 0) < 0 && errno == ESRCH)) &&
	       clock_now() < until)
		usleep(10000);
	return err;
}

int runtime_take(int *ret_fd)
{
	CLEANUP_FREE char *path = str_printf("%s/hostd.lock", dir_runtime());
	CLEANUP_FREE char *guests = str_printf("%s/guests", dir_runtime());
	pid_t holder = 0;
	int err;

	if (!path || !guests)
		return fail(dir_runtime(), -ENOMEM);
	err = dir_make_private(dir_runtime());
	if (err < 0)
		return fail(dir_runtime(), err);
	err = dir_make_private(guests);
	if (err < 0)
		return fail(guests, err);
	err = lock_when_free(path, ret_fd, &holder);
	if (err == -EBUSY)
		log_error("another va-hostd runs already: process %d holds %s",
			  (int)holder, path);
	else if (err < 0)
		fail(path, err);
	return err;
}

static int open_group(const char *path, gid_t gid)
{
	if (gid == (gid_t)-1)
		return 0;
	return chown(path, (uid_t)-1, gid) < 0 || chmod(path, 0750) < 0 ?
		       -errno : 0;
}

int runtime_open_to(gid_t gid)
{
	CLEANUP_FREE char *guests = str_printf("%s/guests", dir_runtime());
	int err = guests ? open_group(dir_runtime(), gid) : -ENOMEM;

	if (err == 0)
		err = open_group(guests, gid);
	return err < 0 ? fail(dir_runtime(), err) : 0;
}
