/*
 * stream.c - inside a test guest: checked streams to an echo, while /run/go exists
 *
 *	stream PATH RECORDS PAUSE-US
 *
 * Connects to the unix socket PATH again and again.  Over each connection it
 * sends RECORDS records and reads them back, both at once.  A record says which
 * connection it is of, its number and when it was made; so the reader of either
 * end sees a byte that is lost, repeated, changed, or that comes from another
 * time of this guest (its clock goes back when the guest does: records of two
 * timelines in one connection are not in the order of their times).
 *
 * Prints a line per connection: "ID complete", "ID cut SENT GOT" (it ended before
 * all had come back) or "ID wrong NUMBER WHAT".  The receiver on the host is
 * faults.py, which knows the same record.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x7661737472656d31ull
#define BATCH 32u /* records between two pauses */

struct record {
	uint64_t magic, id, number, total, time, sum;
	uint64_t filler[2];
};

struct run {
	uint64_t id, total, sent, got, last;
	unsigned pause;
	struct record out, in;
	size_t out_left, in_have;
	const char *wrong;
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t sum(const struct record *r)
{
	return (r->magic ^ r->id) * 31 + r->number * 1000003 + r->total * 7919 + r->time;
}

static int dial(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		close(fd);
		return -1;
	}
	if (fd >= 0)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void make(struct run *r)
{
	r->out = (struct record){ .magic = MAGIC, .id = r->id, .number = r->sent,
				  .total = r->total, .time = now() };
	r->out.filler[0] = r->out.time * 0x9e3779b97f4a7c15ull;
	r->out.filler[1] = ~r->out.filler[0];
	r->out.sum = sum(&r->out);
	r->out_left = sizeof(r->out);
}

/* -1 when the connection is over. */
static int send_some(struct run *r, int fd)
{
	if (!r->out_left) {
		if (r->sent % BATCH == 0 && r->pause)
			usleep(r->pause);
		make(r);
	}
	ssize_t n = send(fd, (char *)&r->out + sizeof(r->out) - r->out_left, r->out_left,
			 MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	r->out_left -= (size_t)n;
	if (!r->out_left && ++r->sent == r->total)
		shutdown(fd, SHUT_WR);
	return 0;
}

static const char *check(struct run *r)
{
	const struct record *in = &r->in;

	if (in->magic != MAGIC || in->sum != sum(in) ||
	    in->filler[0] != in->time * 0x9e3779b97f4a7c15ull || in->filler[1] != ~in->filler[0])
		return "changed";
	if (in->id != r->id)
		return "of-another";
	if (in->number != r->got)
		return "out-of-order";
	if (in->time < r->last)
		return "of-another-time";
	r->last = in->time;
	return NULL;
}

static int receive_some(struct run *r, int fd)
{
	ssize_t n = recv(fd, (char *)&r->in + r->in_have, sizeof(r->in) - r->in_have, 0);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0)
		return -1;
	r->in_have += (size_t)n;
	if (r->in_have < sizeof(r->in))
		return 0;
	r->in_have = 0;
	r->wrong = check(r);
	r->got++;
	return r->wrong ? -1 : 0;
}

static void one(struct run *r, int fd)
{
	for (;;) {
		bool more = r->sent < r->total;
		struct pollfd p = { fd, (short)(POLLIN | (more ? POLLOUT : 0)), 0 };

		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			break;
		if (p.revents & (POLLIN | POLLHUP | POLLERR) && receive_some(r, fd) < 0)
			break;
		if (p.revents & POLLOUT && more && send_some(r, fd) < 0)
			more = false;	/* what has come back is still read */
	}
	if (r->wrong)
		printf("%llu wrong %llu %s\n", (unsigned long long)r->id,
		       (unsigned long long)r->got - 1, r->wrong);
	else if (r->got == r->total)
		printf("%llu complete\n", (unsigned long long)r->id);
	else
		printf("%llu cut %llu %llu\n", (unsigned long long)r->id,
		       (unsigned long long)r->sent, (unsigned long long)r->got);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: stream PATH RECORDS PAUSE-US\n");
		return 2;
	}
	while (access("/run/go", F_OK) == 0) {
		int fd = dial(argv[1]);
		struct run r = { .id = now(), .total = strtoull(argv[2], NULL, 10),
				 .pause = (unsigned)strtoul(argv[3], NULL, 10) };

		if (fd >= 0) {
			one(&r, fd);
			close(fd);
		}
		usleep(50000);
	}
	return 0;
}
