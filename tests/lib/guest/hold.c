/*
 * hold.c - inside a test guest: another program on the agent's port, "hold PATH SECONDS"
 *
 * Opens the port, for itself alone where it is a tty, reads whatever arrives for
 * SECONDS and prints how many bytes that were.  Until the port can be opened it
 * tries again, for that long: its owner may be about to die.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static char data[65536];
	unsigned long got = 0;
	struct termios tio;
	double end;
	int fd;

	if (argc != 3)
		return 2;
	end = now() + atof(argv[2]);
	while ((fd = open(argv[1], O_RDWR | O_NONBLOCK | O_NOCTTY)) < 0) {
		if (now() >= end) {
			perror(argv[1]);
			return 1;
		}
		usleep(2000);
	}
	end = now() + atof(argv[2]);
	if (tcgetattr(fd, &tio) == 0) {
		cfmakeraw(&tio);
		tcsetattr(fd, TCSANOW, &tio);
		ioctl(fd, TIOCEXCL);
	}
	while (now() < end) {
		struct pollfd p = { fd, POLLIN, 0 };
		ssize_t n;

		poll(&p, 1, 50);
		n = read(fd, data, sizeof(data));
		if (n > 0)
			got += (unsigned long)n;
		else
			usleep(10000);	/* nobody there: a port polls ready for that */
	}
	printf("%lu\n", got);
	return 0;
}
