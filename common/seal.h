/*
 * seal.h - addresses and paths that a confined process may still use
 *
 * A system-call filter sees a pointer and not what it points to.  So what may be
 * opened, removed or connected to is copied to pages that become read-only, at
 * an address that nothing else may take later; the filter compares the pointer.
 * Code that passes such an argument asks seal_path() or seal_data() for the
 * sealed copy and falls back to its own.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_SEAL_H
#define VA_COMMON_SEAL_H

#include <stddef.h>
#include <stdint.h>

/* What the filter permits with it. */
enum seal_use {
	SEAL_CONNECT, /* a socket address */
	SEAL_REMOVE,  /* unlink, rmdir */
	SEAL_APPEND,  /* open a log file */
	SEAL_OPEN,    /* open to read and write */
	SEAL_READ,    /* open to read */
};

/* Before seal_close(): adds a copy.  0, -ENOSPC, -EBUSY (closed already). */
int seal_add(enum seal_use use, const void *data, size_t n);
/* A path, or nothing when it is NULL. */
int seal_add_path(enum seal_use use, const char *path);

/* The sealed copy, or data itself when there is none. */
const void *seal_data(const void *data, size_t n);
const char *seal_path(const char *path);

/* Makes them read-only.  0 or a negative errno. */
int seal_close(void);
/* The i-th, or NULL. */
const void *seal_item(size_t i, enum seal_use *use);
/* The first address above the pages and their guard. */
uintptr_t seal_end(void);

#endif
