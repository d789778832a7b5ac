/*
 * file.h - files written whole
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_FILE_H
#define VA_COMMON_FILE_H

#include <stddef.h>
#include <sys/types.h>

/* Writes all of it, with as many calls as that takes.  0 or a negative errno. */
int file_write(int fd, const void *data, size_t n);
/* Replaces DIR/NAME, atomically: a reader sees the old or the new content.  0 or a
 * negative errno. */
int file_replace(const char *dir, const char *name, const void *data, size_t n,
		 mode_t mode);

#endif
