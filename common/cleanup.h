/*
 * cleanup.h - scope-bound release of locals
 *
 * A local declared with one of these attributes is released when it goes out
 * of scope, on every path.  Hand it on with take_ptr() / take_fd(), which
 * leave the local empty.  configure refuses a compiler without the attribute.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_CLEANUP_H
#define VA_COMMON_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Unused: some variables are there only to be cleaned up; clang minds. */
#define CLEANUP(fn) __attribute__((cleanup(fn), unused))

/* Defines fn_p(T **p), for use as CLEANUP(fn_p), out of a destructor fn(T *). */
#define DEFINE_CLEANUP(T, fn)                                                  \
	static inline void fn##_p(T **p)                                       \
	{                                                                      \
		if (*p)                                                        \
			fn(*p);                                                \
	}                                                                      \
	struct cleanup_semicolon_##fn

static inline void cleanup_free_p(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_p(const int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

static inline void cleanup_fclose_p(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_closedir_p(DIR **d)
{
	if (*d)
		closedir(*d);
}

#define CLEANUP_FREE CLEANUP(cleanup_free_p)
#define CLEANUP_CLOSE CLEANUP(cleanup_close_p)
#define CLEANUP_FCLOSE CLEANUP(cleanup_fclose_p)
#define CLEANUP_CLOSEDIR CLEANUP(cleanup_closedir_p)

/* Takes the value out of a cleanup local, leaving it empty. */
#define take_ptr(p)                                                            \
	({                                                                     \
		__typeof__(p) taken_ = (p);                                    \
		(p) = NULL;                                                    \
		taken_;                                                        \
	})

#define take_fd(fd)                                                            \
	({                                                                     \
		int taken_ = (fd);                                             \
		(fd) = -1;                                                     \
		taken_;                                                        \
	})

#endif
