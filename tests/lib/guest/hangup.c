/*
 * hangup.c - inside a test guest: what a getty does to its terminal, "hangup TTY"
 *
 * Takes the terminal as its own and hangs it up: every descriptor that others
 * have open on it reads end of file from then on.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	signal(SIGHUP, SIG_IGN);
	int status = 0;

	if (fork()) {	/* setsid() is for who leads no group */
		wait(&status);
		return WEXITSTATUS(status);
	}
	setsid();
	int fd = open(argv[1], O_RDWR | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, TIOCSCTTY, 1) < 0 || vhangup() < 0) {
		perror(argv[1]);
		return 1;
	}
	return 0;
}
