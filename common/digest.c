/*
 * digest.c - see digest.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/digest.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include <sha2.h>

#include "common/cleanup.h"

/* Large enough that the stop descriptor is asked rarely, small enough that a
 * cancelled checksum ends in milliseconds. */
#define DIGEST_PIECE (64u << 10)

struct digest {
	SHA2_CTX ctx;
};

struct digest *digest_new(void)
{
	struct digest *d = malloc(sizeof(*d));

	if (d)
		SHA256Init(&d->ctx);
	return d;
}

void digest_add(struct digest *d, const void *data, size_t n)
{
	SHA256Update(&d->ctx, data, n);
}

void digest_finish(struct digest *d, char hex[DIGEST_HEX])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t raw[SHA256_DIGEST_LENGTH];

	if (!d)
		return;
	SHA256Final(raw, &d->ctx);
	if (hex) {
		for (size_t i = 0; i < sizeof(raw); i++) {
			hex[2 * i] = digits[raw[i] >> 4];
			hex[2 * i + 1] = digits[raw[i] & 15];
		}
		hex[2 * sizeof(raw)] = 0;
	}
	free(d);
}

int digest_of(const void *data, size_t n, char hex[DIGEST_HEX])
{
	struct digest *d = digest_new();

	if (!d)
		return -ENOMEM;
	digest_add(d, data, n);
	digest_finish(d, hex);
	return 0;
}

static int stopped(int stop_fd)
{
	struct pollfd p = { .fd = stop_fd, .events = POLLIN };

	return stop_fd >= 0 && poll(&p, 1, 0) > 0;
}

int digest_fd(int fd, uint64_t offset, uint64_t length, int stop_fd,
	      char hex[DIGEST_HEX], uint64_t *done)
{
	CLEANUP_FREE uint8_t *piece = malloc(DIGEST_PIECE);
	struct digest *d = digest_new();
	uint64_t total = 0;
	int r = 0;

	if (!piece || !d) {
		digest_finish(d, NULL);
		return -ENOMEM;
	}
	while (total < length) {
		uint64_t left = length - total;
		size_t want = left < DIGEST_PIECE ? (size_t)left : DIGEST_PIECE;
		ssize_t n = pread(fd, piece, want, (off_t)(offset + total));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
		digest_add(d, piece, (size_t)n);
		total += (uint64_t)n;
		if (stopped(stop_fd)) {
			r = -ECANCELED;
			break;
		}
	}
	digest_finish(d, r == 0 ? hex : NULL);
	if (r == 0)
		*done = total;
	return r;
}
