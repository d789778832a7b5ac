/*
 * rtt.c - rtt SOCKET STOP COUNT END <REQUEST: round trips over an inherited socket
 *
 * Sends the request (from stdin), reads one whole answer, COUNT times; prints the
 * microseconds of each, one per line.  END says where an answer ends: "http" (the
 * Content-Length), "line", or a number of bytes.  COUNT 0 goes on until the pipe
 * STOP is closed (-1: none); both are numbers of descriptors.  In C because
 * Python's own time is as long as what is measured.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

static char request[1 << 20], reply[1 << 22];

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Whether the first n bytes of reply are a whole answer. */
static int whole(const char *end, size_t n)
{
	const char *body, *length;

	if (strcmp(end, "line") == 0)
		return n && reply[n - 1] == '\n';
	if (strcmp(end, "http") != 0)
		return n >= strtoul(end, NULL, 10);
	reply[n] = '\0';
	body = strstr(reply, "\r\n\r\n");
	if (!body)
		return 0;
	length = strcasestr(reply, "content-length:");
	if (!length || length > body) {
		fprintf(stderr, "rtt: an answer without a length\n");
		exit(1);
	}
	return n >= (size_t)(body + 4 - reply) + strtoul(length + 15, NULL, 10);
}

static void one(int fd, size_t size, const char *end)
{
	size_t got = 0;

	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, request + done, size - done);

		if (n < 0) {
			perror("rtt: write");
			exit(1);
		}
		done += (size_t)n;
	}
	while (!whole(end, got)) {
		ssize_t n = read(fd, reply + got, sizeof(reply) - 1 - got);

		if (n <= 0) {
			fprintf(stderr, "rtt: the answer ended: %s\n",
				n ? strerror(errno) : "closed");
			exit(1);
		}
		got += (size_t)n;
	}
	if (strcmp(end, "http") == 0 && strncmp(reply, "HTTP/1.1 200", 12) != 0) {
		fprintf(stderr, "rtt: %.60s\n", reply);
		exit(1);
	}
}

static int stopped(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

int main(int argc, char **argv)
{
	size_t size = 0;
	unsigned long count, i;
	ssize_t n;

	if (argc != 5) {
		fprintf(stderr, "usage: rtt SOCKET STOP COUNT http|line|BYTES\n");
		return 3;
	}
	count = strtoul(argv[3], NULL, 10);
	while ((n = read(0, request + size, sizeof(request) - size)) > 0)
		size += (size_t)n;
	for (i = 0; count ? i < count : !stopped(atoi(argv[2])); i++) {
		double began = now_us();

		one(atoi(argv[1]), size, argv[4]);
		printf("%.1f\n", now_us() - began);
	}
	return 0;
}
