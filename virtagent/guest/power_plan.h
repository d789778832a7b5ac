/*
 * power_plan.h - a shutdown that was asked for, kept in a file of this boot
 *
 * A delay may be a day long; the agent's processes need not live that long.  The
 * file is what the next ones find: lines of NAME=VALUE, the message last and to
 * the file's end.  It is 0600 in the agent's runtime directory, replaced
 * atomically, and another boot's is as good as none.
 *
 * Times are CLOCK_MONOTONIC's, which all processes of a boot share.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_POWER_PLAN_H
#define VA_GUEST_POWER_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#define POWER_MESSAGE_MAX 200u

struct power_plan {
	bool begun;	 /* init has been asked; nothing is waited for any more */
	char mode[16];	 /* halt, powerdown, reboot, suspend */
	char by[8];	 /* "host" or "guest" */
	int64_t uid;	 /* there */
	uint64_t due_ns; /* CLOCK_MONOTONIC */
	char message[POWER_MESSAGE_MAX + 1];
};

/* 0 or a negative errno. */
int power_plan_write(const char *path, const char *boot_id,
		     const struct power_plan *p);
/* -ENOENT: there is none, or it is another boot's; -EBADMSG: it is damaged. */
int power_plan_read(const char *path, const char *boot_id, struct power_plan *ret);

#endif
