/*
 * keys_priv.h - what keys.c (changing), keys_read.c (reading) and keys_wait.c
 * share; nobody else's business
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_KEYS_PRIV_H
#define VA_HOST_KEYS_PRIV_H

#include <pthread.h>

#include "common/notify.h"
#include "virtagent/host/keys.h"

/* What is known of a guest without asking the disk. */
struct keys_guest {
	struct keys_guest *next;
	int64_t revision, acked;
	char name[];
};

struct keys {
	struct loop *loop;
	struct store *store;
	void (*fn)(void *arg, const char *guest); /* loop's thread */
	void *arg;
	/* everything below: */
	pthread_mutex_t lock;
	struct keys_guest *guests;
	struct notify changed;
};

/* Store's thread: that is the guest's revision now; wakes who waits. */
void keys_note_revision(struct keys *k, const char *guest, uint64_t revision);

#endif
