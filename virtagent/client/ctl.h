/*
 * ctl.h - questions to the control socket of one guest's virtproxy
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_CTL_H
#define VA_CLIENT_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "virtagent/value.h"

/* Waits until fd is readable, or a signal came: 0; -ETIMEDOUT. */
int wait_readable(int fd, uint64_t deadline_ns);

/*
 * Sends one command line and collects the answer, up to the empty line that
 * ends it (not included).  0, or a negative errno: -ENOENT and -ECONNREFUSED
 * when no virtproxy is there, -ETIMEDOUT, -EBADMSG (no whole answer).
 */
int ctl_ask(const char *path, const char *command, uint64_t deadline_ns,
	    struct buf *answer);

struct ctl_session {
	bool up;
	char why[160]; /* what is missing when it is not up */
	uint64_t refused; /* streams refused so far, for whatever reason */
	struct va_value *status;
};

/* "status json", read.  The status is the caller's to free. */
int ctl_session(const char *path, uint64_t deadline_ns,
		struct ctl_session *ret);
/* The reason of the last refused stream of a service; -ENOENT when there is
 * none. */
int ctl_refused(const char *path, const char *service, uint64_t deadline_ns,
		char *reason, size_t size);

#endif
