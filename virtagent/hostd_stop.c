/*
 * hostd_stop.c - ending virtproxies that nobody watches
 *
 * A guest's directory with a guest.json was made by a va-hostd of this user.
 * Asking is a line on the control socket; the process then ends by itself and
 * tells its peer, and the end of the connection says that it did.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/sock.h"
#include "common/str.h"
#include "virtagent/hostd.h"
#include "virtagent/hostd_dir.h"
#include "virtagent/hostd_stop.h"

#define STOP_NS (5 * NSEC_PER_SEC)

static int ms_left(uint64_t deadline_ns)
{
	uint64_t now = clock_now();

	return now >= deadline_ns ? 0 :
				    (int)((deadline_ns - now) / NSEC_PER_MSEC) + 1;
}

/* Until the connection ends; what comes before is dropped. */
static int wait_end(int fd, uint64_t deadline_ns)
{
	char drop[4096];

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int n = poll(&p, 1, ms_left(deadline_ns));
		ssize_t got;

		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0)
			continue; /* EINTR */
		got = read(fd, drop, sizeof(drop));
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			return 0;
	}
}

/* Opens the control socket and asks; the connection, or a negative errno. */
static int ask_one(const char *dir)
{
	static const char line[] = "shutdown\n";
	CLEANUP_FREE char *path = str_printf("%s/ctl.sock", dir);
	CLEANUP_CLOSE int fd = -1;

	if (!path)
		return -ENOMEM;
	fd = sock_unix_connect(path);
	if (fd < 0)
		return fd;
	if (send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL) < 0)
		return -errno;
	return take_fd(fd);
}

static void stop_one(const char *dir, const char *name)
{
	CLEANUP_CLOSE int fd = ask_one(dir);
	struct peer_cred cred;

	if (fd < 0)
		return;
	if (wait_end(fd, clock_now() + STOP_NS) == 0) {
		log_info("guest %s: virtproxy stopped", name);
		return;
	}
	if (sock_peer_cred(fd, &cred) == 0 && cred.pid > 1) {
		log_warning("guest %s: killing virtproxy %d: it does not stop",
			    name, (int)cred.pid);
		kill(cred.pid, SIGKILL);
	}
}

static bool configured(const struct hostd *h, const char *id)
{
	for (size_t i = 0; i < h->conf.nguests; i++) {
		if (strcmp(h->conf.guests[i].id, id) == 0)
			return true;
	}
	for (size_t i = 0; i < h->nfound; i++) {
		if (strcmp(h->found[i].id, id) == 0)
			return true;
	}
	return false;
}

/* Stops those below RUNTIME/guests that were ours and, given h, are configured
 * no more. */
static int stop_below(const struct hostd *h)
{
	CLEANUP_FREE char *top = str_printf("%s/guests", dir_runtime());
	CLEANUP_CLOSEDIR DIR *d = top ? opendir(top) : NULL;
	const struct dirent *e;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((e = readdir(d))) {
		CLEANUP_FREE char *dir = str_printf("%s/%s", top, e->d_name);
		CLEANUP(guest_record_done) struct guest_record r = { 0 };

		if (!dir || strcmp(e->d_name, ".") == 0 ||
		    strcmp(e->d_name, "..") == 0 ||
		    (h && configured(h, e->d_name)) ||
		    guest_record_read(dir, &r) < 0)
			continue;
		stop_one(dir, r.name);
		guest_dir_remove(dir);
	}
	return 0;
}

void hostd_stop_strays(struct hostd *h)
{
	stop_below(h);
}

/* Ends the daemon that holds the lock and waits until it is free. */
static int stop_daemon(const char *lock)
{
	uint64_t deadline = clock_now() + STOP_NS;
	pid_t holder = 0, told = 0;
	int fd, err;

	while ((err = lock_file(lock, &fd, &holder)) == -EBUSY) {
		if (clock_now() > deadline) {
			log_error("va-hostd (process %d) does not end",
				  (int)holder);
			return -ETIMEDOUT;
		}
		if (holder > 1 && holder != told && kill(holder, SIGTERM) == 0)
			told = holder;
		poll(NULL, 0, 20);
	}
	if (err < 0)
		return err;
	/* Kept until this process ends: nobody starts between. */
	return 0;
}

int hostd_stop_all(void)
{
	CLEANUP_FREE char *lock = str_printf("%s/hostd.lock", dir_runtime());
	int err;

	if (!lock)
		return -ENOMEM;
	if (access(dir_runtime(), F_OK) < 0)
		return 0;
	err = stop_daemon(lock);
	if (err == 0)
		err = stop_below(NULL);
	if (err < 0)
		log_error("%s: %s", dir_runtime(), strerror(-err));
	return err;
}
