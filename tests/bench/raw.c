/*
 * raw.c - raw PORT: the guest's end of a bare port, as fast as it goes
 *
 * What every figure of the benchmark is compared with: no framing, no check, no
 * acknowledgement but the one that keeps a serial line from losing bytes.  One
 * command per line comes from the host:
 *
 *   echo SIZE COUNT        sends COUNT messages of SIZE bytes back
 *   source BYTES BLOCK     sends zeros
 *   get BLOCK PATH         sends a file: read() and write() in turns
 *   sink BYTES ACK         takes bytes, answers "." for every ACK of them
 *   put BYTES ACK PATH     the same into a file
 *
 * sink and put say "." once more when all is there.  A failure is said on stderr
 * and ends the program: init starts it again, the host runs into its time limit.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define BLOCK_MAX (1 << 20)
#define AWAY_US 20000 /* nobody attached at the host's end */

static char block[BLOCK_MAX];

static void die(const char *what)
{
	fprintf(stderr, "raw: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_port(const char *path)
{
	struct termios t;
	int fd;

	/* The driver makes the port a moment after boot. */
	while ((fd = open(path, O_RDWR | O_NOCTTY)) < 0) {
		if (errno != ENOENT)
			die(path);
		usleep(AWAY_US);
	}
	if (isatty(fd)) {
		if (tcgetattr(fd, &t) < 0)
			die(path);
		cfmakeraw(&t);
		cfsetspeed(&t, B115200);
		t.c_cflag |= CLOCAL | CREAD;
		if (tcsetattr(fd, TCSANOW, &t) < 0)
			die(path);
	}
	return fd;
}

static size_t take(int fd, size_t max)
{
	ssize_t n;

	while ((n = read(fd, block, max)) == 0)
		usleep(AWAY_US);
	if (n < 0)
		die("read");
	return (size_t)n;
}

static void give(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t done = write(fd, p, n);

		if (done < 0)
			die("write");
		p += done;
		n -= (size_t)done;
	}
}

static void read_line(int fd, char *line, size_t size)
{
	size_t n = 0;

	/* One byte at a time: what follows belongs to the command. */
	do {
		take(fd, 1);
		line[n++] = block[0];
	} while (block[0] != '\n' && n < size);
	line[n - 1] = '\0';
}

static void echo(int fd, size_t size, size_t count)
{
	while (count--) {
		for (size_t got = 0; got < size;) {
			size_t n = take(fd, size - got);

			give(fd, block, n);
			got += n;
		}
	}
}

static void source(int fd, size_t bytes, size_t size)
{
	memset(block, 0, sizeof(block));
	while (bytes) {
		size_t n = bytes < size ? bytes : size;

		give(fd, block, n);
		bytes -= n;
	}
}

static void get(int fd, size_t size, const char *path)
{
	int file = open(path, O_RDONLY);
	ssize_t n;

	if (file < 0)
		die(path);
	while ((n = read(file, block, size)) > 0)
		give(fd, block, (size_t)n);
	close(file);
}

static void put(int fd, size_t bytes, size_t ack, const char *path)
{
	int file = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
	size_t since = 0;

	if (path && file < 0)
		die(path);
	while (bytes) {
		size_t n = take(fd, bytes < BLOCK_MAX ? bytes : BLOCK_MAX);

		if (path)
			give(file, block, n);
		bytes -= n;
		for (since += n; since >= ack; since -= ack)
			give(fd, ".", 1);
	}
	give(fd, ".", 1);
	if (path)
		close(file);
}

int main(int argc, char **argv)
{
	char line[256], path[200];
	size_t a, b;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: raw PORT\n");
		return 3;
	}
	fd = open_port(argv[1]);
	for (;;) {
		read_line(fd, line, sizeof(line));
		if (sscanf(line, "echo %zu %zu", &a, &b) == 2 && a <= BLOCK_MAX)
			echo(fd, a, b);
		else if (sscanf(line, "source %zu %zu", &a, &b) == 2 && b && b <= BLOCK_MAX)
			source(fd, a, b);
		else if (sscanf(line, "get %zu %199s", &a, path) == 2 && a <= BLOCK_MAX)
			get(fd, a, path);
		else if (sscanf(line, "put %zu %zu %199s", &a, &b, path) == 3 && b)
			put(fd, a, b, path);
		else if (sscanf(line, "sink %zu %zu", &a, &b) == 2 && b)
			put(fd, a, b, NULL);
	}
}
