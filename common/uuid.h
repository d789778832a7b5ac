/*
 * uuid.h - random UUIDs (version 4), for what must be told apart
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_UUID_H
#define VA_COMMON_UUID_H

#define UUID_SIZE 37 /* its text and a NUL */

/* 0 or a negative errno. */
int uuid_random(char ret[UUID_SIZE]);

#endif
