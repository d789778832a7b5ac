/*
 * hostd_attached.h - guests whose port was plugged in while they ran
 *
 * va-client attach leaves RUNTIME/attached/ID.conf, the form of a configuration file:
 *
 *	[guest NAME]
 *	channel = unix-connect:RUNTIME/attached/ID.sock:-
 *	uuid = ...		where QEMU said it
 *	qmp = ...		a monitor that virtproxy may keep
 *	[attached]
 *	monitor = ...		that detach takes the port out by
 *
 * Like the port it lasts as long as the machine, and like the machine it does not
 * outlive the host: a va-hostd that starts finds it again.  It is gone when the
 * channel's socket is.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_ATTACHED_H
#define VA_HOSTD_ATTACHED_H

#include "virtagent/hostd_finds.h"

/* RUNTIME/attached; NULL on ENOMEM. */
char *attached_dir(void);
/* Adds those that are there; takes the files of those away that are not. */
void attached_find(struct finds *f);

#endif
