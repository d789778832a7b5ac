/*
 * hostd_conf_priv.h - what the parts of va-hostd's configuration share: hostd_conf.c
 * (files, all of it), hostd_conf_keys.c (each key) and hostd_conf_guests.c (guests)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_CONF_PRIV_H
#define VA_HOSTD_CONF_PRIV_H

#include "common/conf.h"
#include "virtagent/hostd_conf.h"

/* Where the first complaint goes. */
struct message {
	char *text;
	size_t size;
};

/* Where a value stands, for its setter. */
struct place {
	struct hostd_conf *conf;
	struct guest_spec *guest; /* of [guest NAME] */
	const struct conf_entry *entry;
	struct message *msg;
};

/* A key, the section it may stand in, and what takes its value: 0 or a negative errno,
 * with a complaint unless it is -ENOMEM. */
struct conf_key {
	const char *section;
	const char *key;
	int (*set)(const struct place *at, const char *value);
};

/* Writes "FILE:LINE: TEXT" and returns -EINVAL. */
int hostd_conf_complain(const struct message *m, const char *file, unsigned line,
			const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#define COMPLAIN(at, ...)                                                      \
	hostd_conf_complain((at)->msg, (at)->entry->file, (at)->entry->line, __VA_ARGS__)

/* The row of the entry's key in its section, or NULL. */
const struct conf_key *hostd_conf_key(const struct conf_entry *e);

/* Sets at->guest to the guest whose section the entry stands in, which a first entry
 * makes; prev is the entry before, or NULL. */
int hostd_conf_guest(struct place *at, const struct conf_entry *prev);
/* The guest of the number-th --guest, NAME=CHANNEL. */
int hostd_conf_word(struct hostd_conf *c, const char *word, unsigned number,
		    struct message *msg);
/* Each guest has a channel, and a name and path id of its own. */
int hostd_conf_check_guests(const struct hostd_conf *c, struct message *msg);

#endif
