/*
 * power.h - halt, power down, reboot, suspend: what does it, now or when its time
 * has come
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_POWER_H
#define VA_GUEST_POWER_H

#include "common/clock.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/power_plan.h"

/* Between the acknowledgement and the act: a reply takes milliseconds, at 115200
 * baud behind a full queue less than this. */
#define POWER_DELAY_NS NSEC_PER_SEC

struct power_mode {
	const char *word; /* as callers say it */
	const char *mode; /* as the original said it */
	/* Of shutdown(8).  sysvinit's takes -H and -P beside -h only, systemd's and
	 * upstart's the last of them. */
	const char *options[2];
	const char *program; /* without shutdown(8); NULL: suspend */
};

/* NULL: there is no such word. */
const struct power_mode *power_find(const char *word);

/* Begins what is possible here, after POWER_DELAY_NS, or later = when it is due.  0
 * or a negative errno, then with the program that could not be started. */
int power_start(struct guest_context *ctx, struct power_plan *p, bool later,
		int cancel_fd, const char **ret_program);

/* Takes back what waits for its time; *ret tells what that was.  -ENOENT: nothing
 * waits; -EALREADY: nothing does, it has begun. */
int power_cancel(struct guest_context *ctx, struct power_plan *ret);

/* An event's data: who asked, with or without the mode. */
struct va_value *power_about(const struct power_plan *p, bool with_mode, int *r);

#endif
