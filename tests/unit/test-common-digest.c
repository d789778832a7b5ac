/*
 * test-common-digest.c - SHA-256 of memory and of files
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/cleanup.h"
#include "common/digest.h"
#include "tests/lib/unit.h"

#include <fcntl.h>

/* FIPS 180-2, appendix B.1. */
#define SHA_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

TEST(known_answer)
{
	char hex[DIGEST_HEX];

	CHECK_INT(digest_of("abc", 3, hex), 0);
	CHECK_STR(hex, SHA_ABC);
}

static int file_with(const char *text)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/file", unit_tmpdir());
	fd = open(path, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0);
	CHECK_INT(write(fd, text, strlen(text)), (long)strlen(text));
	return fd;
}

TEST(part_of_a_file)
{
	CLEANUP_CLOSE int fd = file_with("xxabcyy");
	char hex[DIGEST_HEX];
	uint64_t done;

	CHECK_INT(digest_fd(fd, 2, 3, -1, hex, &done), 0);
	CHECK_INT(done, 3);
	CHECK_STR(hex, SHA_ABC);
	CHECK_INT(digest_fd(fd, 5, UINT64_MAX, -1, hex, &done), 0);
	CHECK_INT(done, 2);
}

TEST(stops_when_told)
{
	CLEANUP_CLOSE int fd = file_with("abc");
	char hex[DIGEST_HEX] = "untouched";
	uint64_t done;
	int pipe_fds[2];

	CHECK_INT(pipe(pipe_fds), 0);
	CHECK_INT(write(pipe_fds[1], "x", 1), 1);
	CHECK_INT(digest_fd(fd, 0, UINT64_MAX, pipe_fds[0], hex, &done),
		  -ECANCELED);
	CHECK_STR(hex, "untouched");
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

UNIT_MAIN(CASE(known_answer), CASE(part_of_a_file), CASE(stops_when_told))
