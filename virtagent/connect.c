/*
 * connect.c - see connect.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/limits.h"

static int fail(struct va_call *call, int err, const struct connect_to *to,
		const char *why)
{
	char shown[200];

	return va_fail(call, err, "%s: %s",
		       log_escape(shown, sizeof(shown), to->asked, strlen(to->asked)), why);
}

/* Waits for a connect() that is under way. */
static int wait_connected(struct va_call *call, const struct connect_to *to, int fd)
{
	uint64_t deadline = clock_now() +
			    (uint64_t)(VA_CONNECT_S * clock_scale() * 1e9);

	for (;;) {
		struct pollfd p[] = { { .fd = fd, .events = POLLOUT },
				      { .fd = call->cancel_fd, .events = POLLIN } };
		uint64_t now = clock_now();
		int n, r;

		if (now >= deadline)
			return fail(call, ETIMEDOUT, to, "no answer in time");
		n = poll(p, 2, (int)((deadline - now) / NSEC_PER_MSEC + 1));
		if (n < 0 && errno != EINTR)
			return fail(call, errno, to, strerror(errno));
		if (n <= 0)
			continue;
		if (p[1].revents)
			return fail(call, ECANCELED, to, "the caller left");
		r = sock_error(fd);
		return r < 0 ? fail(call, -r, to, strerror(-r)) : 0;
	}
}

static int tcp_target(struct va_call *call, struct connect_to *to,
		      int (*check)(struct va_call *, const struct connect_to *), int *ret)
{
	CLEANUP_CLOSE int fd = -1;
	char host[256], addr[64];
	const char *port;
	uint64_t number;
	int r = sock_host_port(to->asked, host, sizeof(host), &port);

	if (r < 0 || str_to_u64(port, 65535, &number) < 0 || number == 0)
		return fail(call, EINVAL, to,
			    "needs HOST:PORT, [ADDRESS6]:PORT, PORT or unix:PATH");
	r = sock_tcp_numeric(*host ? host : "127.0.0.1", addr, sizeof(addr));
	if (r < 0)
		return fail(call, ENOENT, to,
			    "no such host: needs an address or a name in /etc/hosts");
	snprintf(to->real, sizeof(to->real), strchr(addr, ':') ? "[%s]:%s" : "%s:%s", addr,
		 port);
	r = check(call, to);
	if (r < 0)
		return r;
	fd = sock_tcp_connect(addr, port);
	if (fd < 0)
		return fail(call, -fd, to, strerror(-fd));
	r = wait_connected(call, to, fd);
	if (r == 0)
		*ret = take_fd(fd);
	return r;
}

static int unix_target(struct va_call *call, struct connect_to *to,
		       int (*check)(struct va_call *, const struct connect_to *), int *ret)
{
	const char *path = to->asked + strlen("unix:");
	CLEANUP_CLOSE int at = -1, fd = -1;
	char link[40];
	struct stat st;
	ssize_t n;
	int r;

	if (*path != '/')
		return fail(call, EINVAL, to, "the path must be absolute");
	at = open(path, O_PATH | O_CLOEXEC);
	if (at < 0 || fstat(at, &st) < 0)
		return fail(call, errno, to, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return fail(call, ENOTSOCK, to, "is no socket");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
	strcpy(to->real, "unix:");
	n = readlink(link, to->real + 5, sizeof(to->real) - 6);
	if (n < 0)
		return fail(call, errno, to, "its real path cannot be told without /proc");
	to->real[5 + n] = 0;
	to->path = to->real + 5;
	r = check(call, to);
	if (r < 0)
		return r;
	fd = sock_unix_connect(link);
	if (fd < 0)
		return fail(call, -fd, to, fd == -EAGAIN ? "its queue is full" : strerror(-fd));
	*ret = take_fd(fd);
	return 0;
}

int connect_target(struct va_call *call, const char *target,
		   int (*check)(struct va_call *call, const struct connect_to *to),
		   struct connect_to *to, int *ret_fd)
{
	int r;

	to->path = NULL;
	if (strlen(target) >= sizeof(to->asked) - 8) {
		snprintf(to->asked, sizeof(to->asked), "%.60s...", target);
		return fail(call, ENAMETOOLONG, to, strerror(ENAMETOOLONG));
	}
	snprintf(to->asked, sizeof(to->asked), "%s", target);
	r = str_starts(target, "unix:") ? unix_target(call, to, check, ret_fd) :
					  tcp_target(call, to, check, ret_fd);
	return r;
}
