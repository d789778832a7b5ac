/*
 * hostd_dir.h - a guest's directory, RUNTIME/guests/ID
 *
 *	rpc.sock     virtproxy listens: calls into the guest
 *	host.sock    va-hostd listens: calls by the guest
 *	ctl.sock     virtproxy's control socket
 *	events.sock  va-hostd listens: the guest's events
 *	name         the guest's name and a newline
 *	guest.json   what va-hostd must know of it after a restart
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_DIR_H
#define VA_HOSTD_DIR_H

#include <stddef.h>
#include <sys/types.h>

#include "virtagent/hostd_conf.h"

/* RUNTIME/guests/ID; NULL on ENOMEM. */
char *guest_dir_path(const char *id);
/* Makes it (0700, or 0750 with a group) and its name file.  0 or a negative
 * errno with the reason in err. */
int guest_dir_make(const char *dir, const struct guest_spec *spec, gid_t gid,
		   char *err, size_t err_size);
/* Takes the files that va-hostd and virtproxy made away, and the directory when
 * nothing else is in it. */
void guest_dir_remove(const char *dir);

/* What guest.json holds. */
struct guest_record {
	char *name;
	char *channel, *qmp; /* that its virtproxy was started with */
	char *uuid, *mark;   /* as in struct guest_spec, or "" */
	char *agent;	     /* agent id that was announced as up, or "" */
};

int guest_record_read(const char *dir, struct guest_record *ret);
int guest_record_write(const char *dir, const struct guest_spec *spec,
		       const char *agent);
void guest_record_done(struct guest_record *r);

#endif
