/*
 * localfs.c - see localfs.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/localfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/client/path.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define TEMP_TRIES 100
#define TEMP_NAME_MAX 200 /* as in the formats below */
#define PART_SUFFIX ".va-part"

/* The next part of rel into name; the rest.  NULL at the end. */
static const char *next_part(const char *rel, char name[256], int *error)
{
	size_t n;

	while (*rel == '/')
		rel++;
	if (!*rel)
		return NULL;
	n = strcspn(rel, "/");
	if (n > 255) {
		*error = -ENAMETOOLONG;
		return NULL;
	}
	memcpy(name, rel, n);
	name[n] = '\0';
	if (!path_name_ok(name)) {
		*error = -EINVAL;
		return NULL;
	}
	return rel + n;
}

int local_open_dir(const char *root, const char *rel, bool create)
{
	CLEANUP_CLOSE int fd = open(root, DIR_FLAGS);
	char name[256];
	int error = 0;

	if (fd < 0 && errno == ENOENT && create && mkdir(root, 0777) == 0)
		fd = open(root, DIR_FLAGS);
	if (fd < 0)
		return -errno;
	while ((rel = next_part(rel, name, &error))) {
		int next;

		if (create && mkdirat(fd, name, 0777) && errno != EEXIST)
			return -errno;
		next = openat(fd, name, DIR_FLAGS | O_NOFOLLOW);
		if (next < 0)
			return -errno;
		close(fd);
		fd = next;
	}
	return error ? error : take_fd(fd);
}

/* A name that nobody has yet, beside the final one. */
static int create_temp(struct local_file *f)
{
	for (int i = 0; i < TEMP_TRIES; i++) {
		snprintf(f->temp, sizeof(f->temp), ".%.200s.va-%06llx", f->name,
			 (unsigned long long)((clock_now() / 1000 +
					       (uint64_t)getpid() * 7919 +
					       (uint64_t)i) & 0xffffff));
		f->fd = openat(f->dir_fd, f->temp, O_WRONLY | O_CREAT | O_EXCL |
			       O_CLOEXEC | O_NOFOLLOW, 0600);
		if (f->fd >= 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	f->temp[0] = '\0';
	return -errno;
}

/* The fixed name: what lies there must be a plain file of ours. */
static int open_part(struct local_file *f, uint64_t *have)
{
	struct stat st;

	snprintf(f->temp, sizeof(f->temp), ".%.200s" PART_SUFFIX, f->name);
	f->fd = openat(f->dir_fd, f->temp, O_RDWR | O_CREAT | O_CLOEXEC |
		       O_NOFOLLOW | O_NONBLOCK, 0600);
	if (f->fd < 0 || fstat(f->fd, &st)) {
		f->temp[0] = '\0';
		return -errno;
	}
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 ||
	    st.st_uid != geteuid()) {
		f->temp[0] = '\0'; /* not ours to remove */
		return -EPERM;
	}
	f->keep = true;
	*have = (uint64_t)st.st_size;
	return 0;
}

int local_create(struct local_file *f, int dir_fd, const char *name,
		 bool resume, uint64_t *have)
{
	int error = 0;

	*f = (struct local_file){ .dir_fd = dir_fd, .fd = -1 };
	*have = 0;
	if (!path_name_ok(name))
		error = -EINVAL;
	else if (strlen(name) >= sizeof(f->name))
		error = -ENAMETOOLONG;
	else
		snprintf(f->name, sizeof(f->name), "%s", name);
	/* A longer name has no fixed temporary name of its own. */
	if (!error && resume && strlen(name) <= TEMP_NAME_MAX)
		error = open_part(f, have);
	else if (!error)
		error = create_temp(f);
	if (error)
		local_done(f);
	return error;
}

int local_create_path(struct local_file *f, const char *path, bool resume,
		      uint64_t *have)
{
	CLEANUP_FREE char *real = NULL, *name = NULL, *dir = NULL;
	struct stat st;
	int dir_fd;

	*f = (struct local_file){ .dir_fd = -1, .fd = -1 };
	*have = 0;
	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return -EISDIR;
		if (!S_ISREG(st.st_mode)) {
			f->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
			return f->fd < 0 ? -errno : 0;
		}
		real = realpath(path, NULL);
		if (!real)
			return -errno;
		path = real;
	}
	name = path_base(path);
	if (!name)
		return -ENOMEM;
	dir = strndup(path, strlen(path) - strlen(name));
	if (!dir)
		return -ENOMEM;
	dir_fd = open(*dir ? dir : ".", DIR_FLAGS);
	if (dir_fd < 0)
		return -errno;
	return local_create(f, dir_fd, name, resume, have);
}

int local_commit(struct local_file *f, mode_t mode, double mtime)
{
	int error = 0;

	if (!*f->temp) {
		error = close(f->fd) ? -errno : 0;
		f->fd = -1;
		return error;
	}
	if (mode && fchmod(f->fd, mode & 0777))
		return -errno;
	if (mtime >= 0) {
		struct timespec t = { .tv_sec = (time_t)mtime };
		const struct timespec both[2] = { { .tv_nsec = UTIME_NOW }, t };

		if (futimens(f->fd, both))
			return -errno;
	}
	if (fsync(f->fd) && errno != EINVAL)
		return -errno;
	if (renameat(f->dir_fd, f->temp, f->dir_fd, f->name))
		return -errno;
	f->temp[0] = '\0';
	return 0;
}

void local_done(struct local_file *f)
{
	if (*f->temp && !f->keep && f->dir_fd >= 0)
		unlinkat(f->dir_fd, f->temp, 0);
	if (f->fd >= 0)
		close(f->fd);
	if (f->dir_fd >= 0)
		close(f->dir_fd);
	*f = (struct local_file){ .dir_fd = -1, .fd = -1 };
}

int local_open_read(const char *root, const char *rel)
{
	CLEANUP_FREE char *copy = NULL;
	CLEANUP_CLOSE int dir = -1;
	char *slash;
	int fd;

	if (!*rel) {
		fd = open(root, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		return fd < 0 ? -errno : fd;
	}
	copy = strdup(rel);
	if (!copy)
		return -ENOMEM;
	slash = strrchr(copy, '/');
	if (slash)
		*slash = '\0';
	dir = local_open_dir(root, slash ? copy : "", false);
	if (dir < 0)
		return dir;
	fd = openat(dir, slash ? slash + 1 : copy,
		    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}
