/*
 * hotplug.h - the agent's port, plugged into and taken out of a running machine
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_HOTPLUG_H
#define VA_CLIENT_HOTPLUG_H

#include <stddef.h>
#include <stdint.h>

struct hotplug {
	const char *monitor;  /* path of the QMP socket */
	uint64_t deadline_ns; /* of everything */
	char name[256];	      /* the machine's, as QEMU says; "" = it has none */
	char uuid[40];
	char err[640];	      /* of what went wrong */
};

/*
 * Plugs a port in.  path(arg, name) is asked for the path of its host's socket, once
 * the machine is known; 0 or a negative errno with h->err set by it.  Undone when it
 * fails: -EEXIST: the machine has such a port; -ETIMEDOUT; -ENOTCONN: no QEMU there.
 */
typedef int (*hotplug_path_fn)(void *arg, struct hotplug *h, char *path, size_t size);
int hotplug_add(struct hotplug *h, hotplug_path_fn path, void *arg);
/* -ENOENT: there is no such port. */
int hotplug_remove(struct hotplug *h);

#endif
