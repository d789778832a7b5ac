/*
 * init.c - see init.h
 *
 * Asked when the agent is told to end, which every init does before the machine
 * goes:
 *
 *	systemd   stops our unit; the job of the target that it goes to is in
 *		  systemctl list-jobs, and what logind was asked for, with the
 *		  message and (since version 256) the user, in
 *		  /run/systemd/shutdown/scheduled.  systemctl as root asks process
 *		  1 itself and needs no D-Bus.
 *	sysvinit  runs the scripts of runlevel 0 or 6, which stands in utmp by then
 *		  (upstart as well).  Who asked is not recorded.
 *	others    process 1 itself sends the signal, which systemd's alone does
 *		  also when only our unit is stopped: busybox's init, at its end,
 *		  to everybody; whether to reboot it tells nobody.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utmp.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/sock.h"
#include "common/str.h"
#include "virtagent/guest/procfs.h"

#define SYSTEMCTL "/bin/systemctl"
#define SCHEDULED "/run/systemd/shutdown/scheduled"
#define OUTPUT_MAX (16u << 10)

bool init_is_systemd(void)
{
	return access("/run/systemd/system", F_OK) == 0 &&
	       access(SYSTEMCTL, X_OK) == 0;
}

/* --- systemd ------------------------------------------------------------ */

/* A program's output, until it ends or the time is over. */
static int output_of(struct spawn_client *spawn, const char *const *argv,
		     struct buf *out)
{
	uint64_t until = clock_now() + INIT_ASK_NS, now;
	struct spawn_request rq = { .argv = argv, .fds = { -1, -1, -1 },
				    .timeout_ns = INIT_ASK_NS };
	CLEANUP_CLOSE int from = -1;
	struct spawn_job *job;
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	from = ends[0];
	rq.fds[1] = ends[1];
	r = fd_set_nonblock(from, true);
	if (r == 0)
		r = spawn_start(spawn, &rq, -1, INIT_ASK_NS, &job);
	close(ends[1]);
	if (r < 0)
		return r;
	for (;;) {
		struct pollfd p = { .fd = from, .events = POLLIN };
		ssize_t n = buf_read_fd(out, from, OUTPUT_MAX);

		if (n == 0 || (n < 0 && n != -EAGAIN))
			break;
		now = clock_now();
		if (n == -EAGAIN &&
		    (now >= until ||
		     poll(&p, 1, (int)((until - now) / NSEC_PER_MSEC) + 1) <= 0))
			break;
	}
	spawn_job_free(job);
	return 0;
}

static const struct {
	const char *target, *mode;
} targets[] = {
	{ "reboot.target", "reboot" },	   { "poweroff.target", "powerdown" },
	{ "halt.target", "halt" },	   { "kexec.target", "reboot" },
	{ "soft-reboot.target", "reboot" }, { "shutdown.target", "unknown" },
};

/* The jobs, one a line: number, unit, type, state. */
static bool find_target(char *jobs, struct init_shutdown *ret)
{
	size_t best = sizeof(targets) / sizeof(targets[0]);
	char unit[sizeof(ret->target)], type[16];
	char *line;

	while ((line = procfs_next_line(&jobs)) != NULL) {
		if (sscanf(line, "%*u %63s %15s", unit, type) != 2 ||
		    strcmp(type, "start") != 0)
			continue;
		for (size_t i = 0; i < best; i++) {
			if (strcmp(unit, targets[i].target) != 0)
				continue;
			best = i;
			snprintf(ret->mode, sizeof(ret->mode), "%s",
				 targets[i].mode);
			snprintf(ret->target, sizeof(ret->target), "%s", unit);
		}
	}
	return best < sizeof(targets) / sizeof(targets[0]);
}

/* What shutdown(8) asked logind for.  The message is as systemd writes it, with
 * C's escapes. */
static void take_scheduled(struct init_shutdown *ret)
{
	CLEANUP_BUF struct buf b = BUF_INIT(4096);
	int64_t uid;
	char *text, *line;

	if (procfs_read(AT_FDCWD, SCHEDULED, &b) < 0)
		return;
	text = (char *)(uintptr_t)buf_cstr(&b);
	while (text && (line = procfs_next_line(&text)) != NULL) {
		if (str_starts(line, "WALL_MESSAGE="))
			snprintf(ret->message, sizeof(ret->message), "%s",
				 strchr(line, '=') + 1);
		else if (str_starts(line, "UID=") &&
			 str_to_i64(line + 4, 0, UINT32_MAX, &uid) == 0)
			ret->uid = uid;
	}
}

static bool systemd_goes_down(struct spawn_client *spawn, struct init_shutdown *ret)
{
	static const char *const argv[] = { SYSTEMCTL, "list-jobs", "--plain",
					    "--no-legend", "--no-pager", NULL };
	CLEANUP_BUF struct buf out = BUF_INIT(OUTPUT_MAX);

	ret->init = "systemd";
	if (output_of(spawn, argv, &out) < 0 || !buf_cstr(&out) ||
	    !find_target((char *)(uintptr_t)buf_cstr(&out), ret))
		return false;
	take_scheduled(ret);
	return true;
}

/* --- runlevels ---------------------------------------------------------- */

/* The runlevel that was entered last; 0 = none is recorded. */
static char runlevel(void)
{
	static const char *const files[] = { "/run/utmp", "/var/run/utmp" };
	CLEANUP_CLOSE int fd = -1;
	struct utmp u;
	char level = 0;

	for (size_t i = 0; i < 2 && fd < 0; i++)
		fd = open(files[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	while (fd >= 0 && read(fd, &u, sizeof(u)) == sizeof(u))
		if (u.ut_type == RUN_LVL)
			level = (char)(u.ut_pid & 0xff);
	return level;
}

bool init_going_down(struct spawn_client *spawn, pid_t from,
		     struct init_shutdown *ret)
{
	char level;

	*ret = (struct init_shutdown){ .init = "init", .mode = "unknown", .uid = -1 };
	if (init_is_systemd())
		return systemd_goes_down(spawn, ret);
	level = runlevel();
	if (level == '0' || level == '6') {
		ret->init = "sysvinit";
		snprintf(ret->mode, sizeof(ret->mode), "%s",
			 level == '6' ? "reboot" : "powerdown");
		ret->or_mode = level == '0' ? "halt" : NULL;
		snprintf(ret->target, sizeof(ret->target), "runlevel %c", level);
		return true;
	}
	return from == 1;
}
