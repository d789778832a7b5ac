/*
 * count.c - inside a test guest: notes that something was executed, "count ID"
 *
 * Appends ID to /run/count, which goes back in time with the guest and ends with
 * it, and writes it to the port of QEMU's isa-debugcon, whose file on the host
 * keeps what was executed in every boot and timeline.  Both under one lock: a
 * line is written whole.  No buffer lies between: when this program has ended,
 * the host has the line.
 *
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/io.h>
#include <unistd.h>

#define PORT 0x5c0	/* faults.py gives it to QEMU */

int main(int argc, char **argv)
{
	char line[128];
	int n, fd;

	if (argc != 2)
		return 2;
	n = snprintf(line, sizeof(line), "%s\n", argv[1]);
	fd = open("/run/count", O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (n >= (int)sizeof(line) || fd < 0 || flock(fd, LOCK_EX) < 0 || iopl(3) < 0 ||
	    write(fd, line, (size_t)n) != n) {
		perror("count");
		return 1;
	}
	for (int i = 0; i < n; i++)
		outb((unsigned char)line[i], PORT);
	return 0;
}
