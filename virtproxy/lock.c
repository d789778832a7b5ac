/*
 * lock.c - see lock.h
 *
 * QEMU parks a second client of a chardev socket without a word, where it hears
 * nothing and is adopted much later.  So a lock decides who may try: a file in
 * DIR_RUNTIME/locks named after the channel's address, symbolic links resolved.
 *
 * Limit: users have runtime directories of their own, so the lock does not hold
 * between users.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/lock.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/str.h"

/* The path as one name, however it was written.  A device or socket that is not
 * there yet is named by its directory. */
static char *real_name(const struct vp_spec *spec)
{
	CLEANUP_FREE char *dir = NULL, *real = NULL;
	const char *slash = strrchr(spec->addr, '/');

	real = realpath(spec->addr, NULL);
	if (real)
		return take_ptr(real);
	dir = slash ? str_printf("%.*s", (int)(slash - spec->addr + 1), spec->addr) :
		      strdup(".");
	real = dir ? realpath(dir, NULL) : NULL;
	if (!real)
		return strdup(spec->addr);
	return str_printf("%s/%s", strcmp(real, "/") == 0 ? "" : real,
			  slash ? slash + 1 : spec->addr);
}

/* The end of the channel that is held: with sockets, who listens and who connects
 * are two. */
static char *channel_name(const struct vp_spec *spec)
{
	CLEANUP_FREE char *real = NULL;

	if (strcmp(spec->port, "-") != 0)
		return str_printf("%s:%s:%s", spec->name, spec->addr, spec->port);
	real = real_name(spec);
	if (!real || (spec->method != VP_UNIX_CONNECT && spec->method != VP_UNIX_LISTEN))
		return take_ptr(real);
	return str_printf("%s:%s", spec->name, real);
}

static int take_lock(const struct vp_spec *spec, int *ret_fd, char *err,
		     size_t err_size)
{
	CLEANUP_FREE char *name = channel_name(spec);
	CLEANUP_FREE char *dir = str_printf("%s/locks", dir_runtime());
	CLEANUP_FREE char *path = NULL;
	char id[STR_ID_MAX];
	pid_t holder = 0;
	int r;

	if (!name || !dir)
		return -ENOMEM;
	str_path_id(name, id);
	path = str_printf("%s/%s.lock", dir, id);
	if (!path)
		return -ENOMEM;
	r = dir_make_private(dir);
	if (r == 0)
		r = lock_file(path, ret_fd, &holder);
	if (r == -EBUSY)
		snprintf(err, err_size, "channel %s is held by process %d (lock %s)",
			 spec->addr, (int)holder, path);
	else if (r < 0)
		snprintf(err, err_size, "%s: %s", path, strerror(-r));
	return r;
}

int channel_lock(const struct vp_spec *spec, bool guest, int *ret_fd, char *err,
		 size_t err_size)
{
	int r;

	*ret_fd = -1;
	if (spec->method == VP_FD)
		return 0;
	r = take_lock(spec, ret_fd, err, err_size);
	if (r < 0 && r != -EBUSY && guest) {
		log_warning("no lock on channel %s: %s", spec->addr, err);
		return 0;
	}
	return r;
}
