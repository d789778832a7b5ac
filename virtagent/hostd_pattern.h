/*
 * hostd_pattern.h - patterns of the paths of channels' sockets
 *
 * In a pattern {name} stands for the guest's name, {id} for digits and * for
 * anything; none of them reaches over a slash.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_PATTERN_H
#define VA_HOSTD_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Is it an absolute path with {name} in it, once (or, unless named, not at all)?
 * 0, or -EINVAL with the reason (a static text). */
int pattern_check(const char *pattern, bool named, const char **why);
/*
 * The name of the guest whose socket path this is: what stands for {name} ("" where
 * the pattern has none), into name; *id is what stands for {id} (digits), or 0.  -ENOENT: it does not match.
 */
int pattern_match(const char *pattern, const char *path, char *name, size_t size,
		   uint64_t *id);

/* The first n bytes of a pattern as glob(3) takes it; NULL on ENOMEM. */
char *pattern_glob(const char *pattern, size_t n);

#endif
