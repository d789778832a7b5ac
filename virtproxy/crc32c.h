/*
 * crc32c.h - CRC-32C (Castagnoli), running
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_CRC32C_H
#define VP_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * Continues crc (0 to begin; or the result of an earlier call; or any seed)
 * over len bytes.  crc32c(crc32c(0, a), b) is the CRC of a followed by b.
 */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The routines crc32c() picks from, for tests and benchmarks: from 0; NULL past
 * the end or where the machine cannot run it. */
typedef uint32_t (*crc32c_fn)(uint32_t crc, const uint8_t *p, size_t len);
crc32c_fn crc32c_routine(size_t i, const char **name);
/* The name of the one that was picked. */
const char *crc32c_picked(void);

#endif
