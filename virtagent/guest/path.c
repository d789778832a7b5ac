/*
 * path.c - see path.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/guest/guest.h"

int guest_path_fail(struct va_call *call, int err, const char *path,
		    const char *what)
{
	char shown[300];

	log_escape(shown, sizeof(shown), path, strlen(path));
	return va_fail(call, err, "%s: %s: %s", shown, what, strerror(err));
}

int guest_arg_path(struct va_call *call, size_t i, const char **ret)
{
	const char *path;
	int r = va_arg_text(call, i, NULL, &path);

	if (r < 0)
		return r;
	if (!path || !*path)
		return va_fail(call, EINVAL, "argument %zu: the path is empty",
			       i + 1);
	if (path[0] != '/')
		return guest_path_fail(call, EINVAL, path,
				       "the path is not absolute");
	if (strlen(path) >= PATH_MAX)
		return va_fail(call, ENAMETOOLONG,
			       "argument %zu: a path of %zu bytes, the limit is %d",
			       i + 1, strlen(path), PATH_MAX - 1);
	*ret = path;
	return 0;
}

/* The path the kernel has for a descriptor, with name appended (or NULL). */
static int real_path(int fd, const char *name, char ret[PATH_MAX + 256])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, ret, PATH_MAX - 1);
	if (n < 0)
		return -errno;
	ret[n] = 0;
	if (name)
		snprintf(ret + n, 257, "%s%s", n == 1 ? "" : "/", name);
	return 0;
}

static int path_policy(struct va_call *call, int fd, const char *name)
{
	struct guest_context *ctx = guest_context(call);
	char path[PATH_MAX + 256];

	if (!ctx || !ctx->check_path)
		return 0;
	/* Without /proc the path is unknown, which no prefix allows. */
	if (real_path(fd, name, path) < 0)
		path[0] = 0;
	return ctx->check_path(call, path);
}

int guest_open(struct va_call *call, const char *path, int flags)
{
	CLEANUP_CLOSE int fd = -1;
	int r;

	fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return guest_path_fail(call, errno, path, "cannot open");
	r = path_policy(call, fd, NULL);
	if (r < 0)
		return r;
	return take_fd(fd);
}

void guest_entry_done(struct guest_entry *e)
{
	if (e->dir_fd >= 0)
		close(e->dir_fd);
	e->dir_fd = -1;
}

int guest_open_parent(struct va_call *call, const char *path,
		      struct guest_entry *ret)
{
	CLEANUP_CLOSE int fd = -1;
	char dir[PATH_MAX], *slash;
	size_t n = strlen(path);
	int r;

	if (n >= sizeof(dir))
		return guest_path_fail(call, ENAMETOOLONG, path, "cannot use");
	memcpy(dir, path, n + 1);
	while (n > 1 && dir[n - 1] == '/')
		dir[--n] = 0;
	slash = strrchr(dir, '/');
	if (!slash || !slash[1] || !strcmp(slash + 1, ".") ||
	    !strcmp(slash + 1, ".."))
		return guest_path_fail(call, EINVAL, path,
				       "does not end in a name");
	if (strlen(slash + 1) >= sizeof(ret->name))
		return guest_path_fail(call, ENAMETOOLONG, path, "cannot use");
	memcpy(ret->name, slash + 1, strlen(slash + 1) + 1);
	slash[slash == dir] = 0;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return guest_path_fail(call, errno, dir,
				       "cannot open the directory");
	r = path_policy(call, fd, ret->name);
	if (r < 0)
		return r;
	ret->dir_fd = take_fd(fd);
	return 0;
}

struct va_value *guest_text(const char *s)
{
	size_t n = strlen(s);

	return str_is_clean_text(s, n, "") ? va_string_n(s, n) : va_bytes(s, n);
}

const char *guest_file_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "char-device";
	case S_IFBLK:
		return "block-device";
	default:
		return "unknown";
	}
}

struct va_value *guest_stat_value(const struct stat *st)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	int r = 0;

	r |= va_set(v, "type", va_string(guest_file_type(st->st_mode)));
	r |= va_set(v, "mode", va_int(st->st_mode & 07777));
	r |= va_set(v, "uid", va_int(st->st_uid));
	r |= va_set(v, "gid", va_int(st->st_gid));
	r |= va_set(v, "size", va_int(st->st_size));
	r |= va_set(v, "allocated", va_int((int64_t)st->st_blocks * 512));
	r |= va_set(v, "mtime", va_int(st->st_mtime));
	r |= va_set(v, "atime", va_int(st->st_atime));
	r |= va_set(v, "ctime", va_int(st->st_ctime));
	r |= va_set(v, "nlink", va_int((int64_t)st->st_nlink));
	r |= va_set(v, "inode", va_int((int64_t)st->st_ino));
	r |= va_set(v, "device", va_int((int64_t)st->st_dev));
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		r |= va_set(v, "major", va_int(major(st->st_rdev)));
		r |= va_set(v, "minor", va_int(minor(st->st_rdev)));
	}
	return r < 0 ? NULL : take_ptr(v);
}
