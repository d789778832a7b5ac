/*
 * keys_priv.h - what keys.c (changing), keys_files.c (the files) and keys_read.c
 * (reading, waiting) share; nobody else's business
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
	bool shown;  /* dirty, but unchanged: another host knew it, by revision */
	bool removing; /* a removal by us that the host was not told of */
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
	uint64_t seq_saved; /* seq is not above this in a server to come */
	uint64_t floor;	  /* removals up to here are forgotten */
	unsigned removed; /* about how many keys without value there are */
	char store[64];
	char vm[40]; /* uuid of the virtual machine, as a host said, or "" */
	int64_t revision;
	bool sweeping, other_store; /* a full batch is coming in */
	uint64_t asked;		    /* counts keyring_host_there() */
	uint64_t sent, refused;	    /* dirty_seq up to here */
	char refusal[256];
};

/* All of these under the lock. */

/* NULL when there is none. */
struct key *keyring_find(const struct keyring *k, const char *name);
/* The one there is, also without a value, or a new one; NULL on ENOMEM. */
struct key *keyring_add(struct keyring *k, const char *name);
/* Counts its bytes, or does not any more. */
void keyring_account(struct keyring *k, const struct key *e, bool add_it);

/* The key's file as the key is; failures are logged. */
void keyring_write(const struct keyring *k, const struct key *e);
/* What is no key's value; failures are logged. */
void keyring_save(struct keyring *k);
/* A number for a change, above all earlier ones. */
uint64_t keyring_next_seq(struct keyring *k);

#endif
