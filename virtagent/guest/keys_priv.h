/*
 * keys_priv.h - what keys.c (changing) and keys_read.c (reading, waiting) share;
 * nobody else's business
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_KEYS_PRIV_H
#define VA_GUEST_KEYS_PRIV_H

#include <pthread.h>

#include "common/notify.h"
#include "virtagent/guest/keys.h"

struct key {
	struct key *next; /* in the order of names */
	char name[KEY_NAME_MAX + 1];
	void *value; /* NULL = removed */
	size_t size;
	unsigned flags;
	int64_t revision; /* the host's; 0 = not known */
	uint64_t seq;	  /* of its last change here */
	uint64_t dirty_seq;
	bool dirty;  /* the host was not told yet */
	bool unseen; /* not in the full batch that is coming in */
	bool hook;   /* changed, and no hook was run for that yet */
};

struct keyring {
	char *dir;
	int dir_fd;
	pthread_mutex_t lock;
	struct notify changed;
	struct key *keys;
	size_t usage;
	uint64_t seq, dirty_seq;
	uint64_t floor;	  /* removals up to here are forgotten */
	unsigned removed; /* about how many keys without value there are */
	char store[64];
	int64_t revision;
	bool sweeping, other_store; /* a full batch is coming in */
	uint64_t asked;		    /* counts keyring_host_there() */
	uint64_t sent, refused;	    /* dirty_seq up to here */
	char refusal[256];
};

/* Under the lock; NULL when there is none. */
struct key *keyring_find(const struct keyring *k, const char *name);

#endif
