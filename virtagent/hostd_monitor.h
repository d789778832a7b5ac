/*
 * hostd_monitor.h - guests that are found by their QMP sockets
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_MONITOR_H
#define VA_HOSTD_MONITOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/loop.h"
#include "virtagent/value.h"

struct monitors;

/* What is known of a machine.  All text is the monitor's, and "" when unknown. */
struct monitor_machine {
	const char *path;    /* of the QMP socket */
	const char *mark;    /* which socket at that path it is */
	const char *name, *uuid;
	const char *channel; /* METHOD:ADDR:PORT */
};

/* NULL on ENOMEM.  changed is called when something else is known of a machine. */
struct monitors *monitors_new(struct loop *loop, loop_fn changed, void *arg);
void monitors_free(struct monitors *ms);
/* For what is asked from now on: see qmp_machine_begin(). */
int monitors_set_serial(struct monitors *ms, const char *pattern);

/*
 * One look at the directories: begin, each socket that is there (name: what its path
 * says, or ""), end.  A socket that is new, or another one than before, is asked;
 * one that is there no more is forgotten.
 */
void monitors_look(struct monitors *ms);
int monitors_saw(struct monitors *ms, const char *path, const char *name,
		 const struct stat *st);
void monitors_looked(struct monitors *ms);

/* Machines whose channel is known, those that are served first. */
typedef void (*monitor_fn)(void *arg, const struct monitor_machine *m);
void monitors_each(struct monitors *ms, monitor_fn fn, void *arg);
/* The machine of that path is a guest now, or is none because of why. */
void monitors_verdict(struct monitors *ms, const char *path, const char *why);
/* Everything, for host.monitors: an array of structs.  NULL on ENOMEM. */
struct va_value *monitors_facts(const struct monitors *ms);

#endif
