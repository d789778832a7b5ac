/*
 * procfs.h - small files of /proc, /sys and /etc, read whole and bounded
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_PROCFS_H
#define VA_GUEST_PROCFS_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/* Appends the file to b, up to b's cap (the rest is left out); 0 or a negative
 * errno.  dir_fd as in openat(2). */
int procfs_read(int dir_fd, const char *path, struct buf *b);
/* The first line, without its end, cut to size - 1 bytes. */
int procfs_line(int dir_fd, const char *path, char *ret, size_t size);
/* A decimal number that is the file's first word. */
int procfs_u64(int dir_fd, const char *path, uint64_t *ret);
/* The next line of a NUL-terminated text, which is changed; NULL at the end. */
char *procfs_next_line(char **text);

#endif
