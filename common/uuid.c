/*
 * uuid.c - see uuid.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/uuid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"

/* getrandom(2) is of Linux 3.17; the device is as good once the system is up. */
static int random_bytes(void *buf, size_t n)
{
	CLEANUP_CLOSE int fd = -1;
	ssize_t got = -1;

#ifdef SYS_getrandom
	got = syscall(SYS_getrandom, buf, n, 0);
	if (got == (ssize_t)n)
		return 0;
#endif
	fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, buf, n);
	return got == (ssize_t)n ? 0 : -EIO;
}

int uuid_random(char ret[UUID_SIZE])
{
	uint8_t r[16];
	int e = random_bytes(r, sizeof(r));

	if (e < 0)
		return e;
	r[6] = (uint8_t)((r[6] & 0x0f) | 0x40); /* version 4 */
	r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
	snprintf(ret, UUID_SIZE,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
		 "%02x%02x%02x%02x%02x%02x",
		 r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9],
		 r[10], r[11], r[12], r[13], r[14], r[15]);
	return 0;
}
