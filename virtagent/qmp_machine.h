/*
 * qmp_machine.h - which machine a monitor is, and where the agent's channel is
 *
 * All questions are sent at once and the answers taken as they come, so the caller
 * polls qmp_fd() and needs no state of its own.  Used by va-hostd to find guests and
 * by va-client before it attaches or detaches a port.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_QMP_MACHINE_H
#define VA_QMP_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "virtagent/qmp.h"

#define VA_PORT_NAME "org.virtagent.0"
#define QMP_PORTS_MAX 64u /* virtserialports of one machine that are looked at */
#define QMP_SLOTS_MAX 64u /* buses behind PCI ports */

struct qmp_port {
	char *path; /* in QEMU's object tree */
	char *name;
	char *chardev;
};

struct qmp_machine {
	char *name;    /* "" when QEMU was given none */
	char *uuid;    /* "" likewise */
	char *port;    /* path of the port of that name, or NULL */
	char *chardev; /* of the port, else of the serial line; NULL = neither */
	char *channel; /* where a host connects: METHOD:ADDR:PORT, or NULL ... */
	char why[256]; /* ... and why there is none */
	bool bus;      /* it has a virtio-serial controller */
	char *slots[QMP_SLOTS_MAX]; /* ids of PCI ports and bridges */
	size_t nslots;
	/* While it is asked: */
	const char *serial; /* the caller's */
	struct va_value *chardevs;
	struct qmp_port ports[QMP_PORTS_MAX];
	size_t nports;
	unsigned asked, answered;
	bool greeted;
};

/*
 * Begins.  serial (may be NULL, must live on) is a pattern (* and ?) of the name of a
 * character device that carries the agent where no port does: an isa-serial's.
 */
void qmp_machine_begin(struct qmp_machine *m, const char *serial);
/*
 * Takes what came.  0: all is known; -EAGAIN: more is to come; else the negative
 * errno of what went wrong, with m->why.  -EPROTO: the monitor refused a question.
 */
int qmp_machine_take(struct qmp_machine *m, struct qmp *q);
void qmp_machine_done(struct qmp_machine *m);

/* Where a host connects for a character device that QEMU describes as FILENAME:
 * METHOD:ADDR:PORT, or NULL where QEMU does not listen on a socket or pty (or on
 * ENOMEM). */
char *qmp_channel_of(const char *filename);

#endif
