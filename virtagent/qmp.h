/*
 * qmp.h - one connection to a QEMU's monitor (QMP)
 *
 * Nothing here waits: who uses it polls qmp_fd() for reading, on an event loop or
 * with poll(2), and takes messages until there are no more.  QEMU answers commands
 * in their order.
 *
 * What comes from QEMU is hostile, since a guest may have taken it over: a message
 * has at most QMP_LINE_MAX bytes, and JSON is read with value.h's limits.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_QMP_H
#define VA_QMP_H

#include <stdbool.h>
#include <stddef.h>

#include "common/cleanup.h"
#include "virtagent/value.h"

#define QMP_LINE_MAX (256u << 10)

struct qmp;

/* Connects.  NULL with errno; EAGAIN: too many wait for this monitor already. */
struct qmp *qmp_open(const char *path);
/* Takes fd over; NULL on ENOMEM (fd is then closed). */
struct qmp *qmp_on_fd(int fd);
void qmp_close(struct qmp *q);
DEFINE_CLEANUP(struct qmp, qmp_close);
#define CLEANUP_QMP CLEANUP(qmp_close_p)

int qmp_fd(const struct qmp *q);

/*
 * Sends a command; arguments (taken over) may be NULL, fd (or -1) goes with it and
 * stays the caller's.  0 or a negative errno: a monitor that does not take a
 * command's few bytes is of no use.
 */
int qmp_send(struct qmp *q, const char *command, struct va_value *arguments, int fd);

/*
 * The next message, a struct that is the caller's.  0; -EAGAIN: none is there yet;
 * -ECONNRESET: the monitor closed; -EMSGSIZE, -EBADMSG: it is no QMP monitor.
 */
int qmp_next(struct qmp *q, struct va_value **ret);

enum qmp_kind { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT, QMP_OTHER };

enum qmp_kind qmp_kind(const struct va_value *message);
/* The text of an error, "" for any other message. */
const char *qmp_error(const struct va_value *message);

/* A struct of strings: NAME, VALUE, ..., NULL.  NULL on ENOMEM. */
struct va_value *qmp_arguments(const char *name, ...) __attribute__((sentinel));

#endif
