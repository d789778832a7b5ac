/*
 * procfs.c - see procfs.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"

int procfs_read(int dir_fd, const char *path, struct buf *b)
{
	CLEANUP_CLOSE int fd = -1;
	ssize_t n;

	fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	do
		n = buf_read_fd(b, fd, 4096);
	while (n > 0);
	return n == -EMSGSIZE ? 0 : (int)n;
}

int procfs_line(int dir_fd, const char *path, char *ret, size_t size)
{
	CLEANUP_BUF struct buf b = BUF_INIT(4096);
	const char *text, *end;
	size_t n;
	int r = procfs_read(dir_fd, path, &b);

	if (r < 0)
		return r;
	text = buf_cstr(&b);
	if (!text)
		return -ENOMEM;
	end = strchr(text, '\n');
	n = end ? (size_t)(end - text) : strlen(text);
	if (n >= size)
		n = size - 1;
	memcpy(ret, text, n);
	ret[n] = 0;
	return 0;
}

int procfs_u64(int dir_fd, const char *path, uint64_t *ret)
{
	char line[64];
	int r = procfs_line(dir_fd, path, line, sizeof(line));

	if (r < 0)
		return r;
	line[strcspn(line, " \t")] = 0;
	return str_to_u64(line, UINT64_MAX, ret);
}

char *procfs_next_line(char **text)
{
	char *line = *text, *end;

	if (!line || !*line)
		return NULL;
	end = strchr(line, '\n');
	if (end) {
		*end = 0;
		*text = end + 1;
	} else {
		*text = line + strlen(line);
	}
	return line;
}
