/*
 * file.c - see file.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"

int file_write(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n) {
		ssize_t done = write(fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

int file_replace(const char *dir, const char *name, const void *data, size_t n,
		 mode_t mode)
{
	CLEANUP_FREE char *path = str_printf("%s/%s", dir, name);
	CLEANUP_FREE char *tmp = str_printf("%s/.%s.new", dir, name);
	CLEANUP_CLOSE int fd = -1;
	int err;

	if (!path || !tmp)
		return -ENOMEM;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	err = file_write(fd, data, n);
	if (err == 0 && rename(tmp, path) < 0)
		err = -errno;
	if (err < 0)
		unlink(tmp);
	return err;
}
