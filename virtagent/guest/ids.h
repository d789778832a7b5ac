/*
 * ids.h - users and groups of the guest
 *
 * Read from /etc/passwd and /etc/group themselves: the static agent can load no
 * name-service module, and a directory service that hangs must not hang a call.
 * Users known only to such a service are named by number.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_IDS_H
#define VA_GUEST_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "virtagent/method.h"

#define GUEST_GROUPS_MAX 64 /* supplementary groups of one user */

struct guest_user {
	char name[64];
	uid_t uid;
	gid_t gid;
	char home[256];
	char shell[256];
	gid_t groups[GUEST_GROUPS_MAX];
	size_t ngroups;
};

/* A name's number: 0, or the failed call's -ENOENT, naming it. */
int guest_lookup_id(struct va_call *call, const char *name, bool group,
		    int64_t *ret);

/* name: a name or a decimal uid.  A uid without an entry gets its number as
 * name, gid equal to it, home "/" and no shell.  0, -ENOENT, -EINVAL. */
int guest_user_find(const char *name, struct guest_user *ret);
/* The name of a uid (or gid), or its number as text. */
void guest_id_name(uint32_t id, bool group, char *ret, size_t size);

#endif
