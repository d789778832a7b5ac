/*
 * keys_priv.h - what keys.c (changing), keys_groups.c, keys_post.c (for the loop's
 * thread), keys_read.c (reading) and keys_wait.c share; nobody else's business
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_KEYS_PRIV_H
#define VA_HOST_KEYS_PRIV_H

#include <pthread.h>

#include "common/named.h"
#include "common/notify.h"
#include "virtagent/host/keys.h"

/* What is known of a guest without asking the disk. */
struct keys_guest {
	struct named named;
	int64_t revision, acked;
	bool here; /* it is configured */
	char vm[40]; /* uuid of the virtual machine, or "" */
};

struct keys {
	struct loop *loop;
	struct store *store;
	void (*fn)(void *arg, const char *guest); /* loop's thread */
	void *arg;
	/* everything below: */
	pthread_mutex_t lock;
	struct named *guests; /* struct keys_guest */
	struct notify changed;
};

/* One change under way; the store's thread's. */
struct keys_set_job {
	struct keys *k;
	const struct keys_set *set;
	struct keys_result *result;
	struct store_keys_state state;
	uint64_t usage;
	int error;
	/* guests whose keys a change of their group changed: */
	struct keys_given *given;
};

/* arg: a struct keys_set_job; the whole transaction. */
void keys_run_set(void *arg);
/* Keeps the rows of removed keys few: a guest that has an older revision gets
 * everything.  In a transaction; st is then to be written. */
int keys_trim_removed(struct keys *k, const char *guest,
		      struct store_keys_state *st);

#define KEYS_GROUP_SIZE (KEYS_PATTERN_MAX + 1)

static inline bool keys_is_group(const char *guest)
{
	return *guest == STORE_GROUP;
}

/* The name, or the pattern, for people. */
static inline const char *keys_shown(const char *guest)
{
	return keys_is_group(guest) ? guest + 1 : guest;
}

/* In a transaction: the row of a key that the guest does not have by itself
 * becomes what its groups say, under that revision; *changed grows if that is a
 * change.  changed_in: the group that was changed in this transaction, or NULL. */
int keys_give(struct keys *k, const char *guest, const char *name,
	      uint64_t revision, const struct keys_set_job *changed_in,
	      size_t *changed);
/* In a transaction: all keys of a guest that groups give. */
int keys_give_all(struct keys *k, const char *guest,
		  struct store_keys_state *st, bool *changed);
/* The same for the guests of a group that the job changed; then, once it is
 * committed, tells of them, or forgets them. */
int keys_give_group(struct keys_set_job *j);
void keys_note_given(struct keys_set_job *j);
void keys_forget_given(struct keys_set_job *j);

/* Store's thread: that is the guest's revision now; wakes who waits. */
void keys_note_revision(struct keys *k, const char *guest, uint64_t revision);
/* Any thread: the guest is configured, or not. */
void keys_set_here(struct keys *k, const char *guest, bool here);
/* Any thread: the virtual machine that the guest is. */
void keys_note_vm(struct keys *k, const char *guest, const char *uuid);

#endif
