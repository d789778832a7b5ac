/*
 * digest.h - SHA-256, and the only place that knows libmd
 *
 * For checksums of files, and for naming call arguments in the audit log
 * without showing them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_DIGEST_H
#define VA_COMMON_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 32u
#define DIGEST_HEX 65u /* with the terminating NUL */

struct digest;

/* NULL on ENOMEM. */
struct digest *digest_new(void);
void digest_add(struct digest *d, const void *data, size_t n);
/* Writes the result as lower-case hex and frees d (hex NULL: only frees). */
void digest_finish(struct digest *d, char hex[DIGEST_HEX]);

/* Of one piece of memory. */
int digest_of(const void *data, size_t n, char hex[DIGEST_HEX]);

/*
 * length bytes of fd from offset (to the end when length is UINT64_MAX).
 * Stops with -ECANCELED when stop_fd (-1: none) becomes readable.  *done: how
 * many bytes there were.  0 or a negative errno.
 */
int digest_fd(int fd, uint64_t offset, uint64_t length, int stop_fd,
	      char hex[DIGEST_HEX], uint64_t *done);

#endif
