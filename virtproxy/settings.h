/*
 * settings.h - what the command line of virtproxy(8) said
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_SETTINGS_H
#define VP_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "virtproxy/virtproxy.h"

#define CHANNELS_MAX 16u
#define FORWARDS_MAX 64u

enum role_choice { ROLE_BY_METHOD, ROLE_HOST, ROLE_GUEST };

struct channel_setting {
	struct vp_spec spec;
	const char *name;
	const char *ctl;
	const char *qmp;
	bool probe, long_rest;
	bool guest_agent; /* -g */
	enum role_choice role;
};

struct settings {
	struct channel_setting channels[CHANNELS_MAX];
	size_t nchannels;
	struct vp_spec oforwards[FORWARDS_MAX], iforwards[FORWARDS_MAX];
	size_t noforwards, niforwards;
	unsigned agent_ids[CHANNELS_MAX];
	size_t nagents;
	const char *log;
	const char *pidfile;
	const char *status; /* --status: the control socket to ask */
	bool json;
	bool daemon;
	bool no_sandbox;
	bool verbose;
	gid_t gid; /* (gid_t)-1 = sockets are the user's alone */
};

/* s comes zeroed: it is large, and most of it is never touched.  0: go on; 1: help was shown; -EINVAL after a message on stderr. */
int settings_parse(struct settings *s, int argc, char **argv);
/* The channel of that id, or NULL. */
struct channel_setting *settings_channel(struct settings *s, unsigned id);
/* Relative paths become absolute, for a process that changes its directory. */
int settings_make_absolute(struct settings *s);
bool settings_is_guest(const struct channel_setting *c);

#endif
