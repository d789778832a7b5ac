/*
 * init.h - what the guest's init system says of a shutdown under way
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_INIT_H
#define VA_GUEST_INIT_H

#include <stdbool.h>
#include <sys/types.h>

#include "virtagent/agent_spawn.h"

struct init_shutdown {
	const char *init; /* "systemd", "sysvinit", "init" (any other) */
	char mode[16];	  /* halt, powerdown, reboot, or "unknown" */
	const char *or_mode; /* what it may be as well (runlevel 0), or NULL */
	char target[64];  /* systemd's, or "runlevel N"; "" = not known */
	char message[256]; /* what users were told; "" = none or not known */
	long uid;	  /* who asked, where init tells; -1 = it does not */
};

/* Is systemd the init? */
bool init_is_systemd(void);

/*
 * Is the system going down?  from: the process whose signal ends the agent; 0 = not
 * known.  May wait for systemctl(1), up to INIT_ASK_NS.
 */
#define INIT_ASK_NS UINT64_C(2000000000)
bool init_going_down(struct spawn_client *spawn, pid_t from,
		     struct init_shutdown *ret);

#endif
