/*
 * localfs.h - files of this machine that a transfer writes and reads
 *
 * Everything below the directory that the user named is opened part by part,
 * never through a symbolic link, so that no name a guest chose and no link that
 * lies there can lead outside it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_LOCALFS_H
#define VA_CLIENT_LOCALFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Opens root/rel for use as a directory; rel "" is root itself (which may be a
 * link: the user named it).  With create, missing parts are made 0700 & ~umask
 * ... 0777 as mkdir(1) does.  The fd, or a negative errno: -ELOOP or -ENOTDIR
 * where a link or something else stands in the way, -EINVAL for a bad part.
 */
int local_open_dir(const char *root, const char *rel, bool create);

/* A file being written, beside its final name. */
struct local_file {
	int dir_fd, fd;
	char name[256];
	char temp[300]; /* "" = written in place (a device, a pipe) */
	bool keep;	/* the temporary file outlives a failure (resume) */
};

/*
 * Begins a file called name in dir_fd (taken over).  With resume, the temporary
 * file has a fixed name, and what an earlier try left of it stays (its size in
 * *have).  0 or a negative errno.
 */
int local_create(struct local_file *f, int dir_fd, const char *name,
		 bool resume, uint64_t *have);
/* For a path as the user typed it; devices and pipes are written in place, a
 * link to a file is followed. */
int local_create_path(struct local_file *f, const char *path, bool resume,
		      uint64_t *have);
/* Sets mode (0 = leave) and mtime (negative = leave), syncs and renames. */
int local_commit(struct local_file *f, mode_t mode, double mtime);
/* Closes; what was not committed is removed unless keep. */
void local_done(struct local_file *f);

/* Opens a regular file below root for reading, without following links; typed
 * by the user (rel "") it may be one. */
int local_open_read(const char *root, const char *rel);

#endif
