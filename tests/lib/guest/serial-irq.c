/*
 * serial-irq.c - serial-irq TTY IRQ: tells the 8250 driver a port's interrupt
 *
 * Without ACPI or PnP (-M isapc) the kernel takes COM3's from a table, where it
 * is shared with COM1; QEMU's isa-serial does not share a line, so the tests
 * give the port another one and say so here.  What setserial(8) would do.
 *
 * SPDX-License-Identifier: MIT
 */
#include <fcntl.h>
#include <linux/serial.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct serial_struct ss;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: serial-irq TTY IRQ\n");
		return 3;
	}
	fd = open(argv[1], O_RDWR | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || ioctl(fd, TIOCGSERIAL, &ss) < 0) {
		perror(argv[1]);
		return 1;
	}
	ss.irq = atoi(argv[2]);
	if (ioctl(fd, TIOCSSERIAL, &ss) < 0) {
		perror("TIOCSSERIAL");
		return 1;
	}
	return close(fd) < 0;
}
