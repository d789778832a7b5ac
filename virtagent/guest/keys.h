/*
 * keys.h - the keys as the guest has them
 *
 * In memory and as files, DIR/KEY each.  What the host pushes is taken as it is;
 * guest.* is written here first and sent to the host when it can be.  Watches
 * count in numbers of this process ("seq"), which are never below those of an
 * earlier one.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_KEYS_H
#define VA_GUEST_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtagent/keys_common.h"
#include "virtagent/value.h"

struct keyring;

/* Takes over the files that are in dir, which is made.  NULL with errno. */
struct keyring *keyring_open(const char *dir);
/* Nobody waits in it any more; the files stay. */
void keyring_free(struct keyring *k);

/* Which store's keys, up to which revision, in which virtual machine. */
void keyring_state(struct keyring *k, char store[64], char vm[40],
		   int64_t *revision);
/*
 * A batch of the host's, as host.kv.watch describes it.  0 with *revision, or
 * -EINVAL with why: it is no such batch, or a key in it is not allowed; -EAGAIN:
 * it does not follow on what is here.
 */
int keyring_push(struct keyring *k, const struct va_value *batch,
		 int64_t *revision, char *why, size_t size);

/* A local program sets or removes guest.* keys: all or none.  *seq for
 * keyring_wait_sent().  -EACCES, -EAGAIN, -EDQUOT with why. */
int keyring_set(struct keyring *k, const struct key_change *changes, size_t n,
		int64_t if_revision, uint64_t *seq, char *why, size_t size);

/* As host.kv.get, host.kv.list, host.kv.watch; root: secret ones, too. */
int keyring_get(struct keyring *k, const char *name, bool root,
		struct va_value **ret);
int keyring_list(struct keyring *k, const char *pattern, const char *after,
		 struct va_value **ret);
int keyring_watch(struct keyring *k, const char *pattern, int64_t since,
		  bool root, int cancel_fd, uint64_t deadline_ns,
		  struct va_value **ret);

/* --- for who sends to the host ---------------------------------------------- */

/* Until there is something to send. */
void keyring_wait_dirty(struct keyring *k);
/* Until the host asks, or the deadline. */
void keyring_wait_host(struct keyring *k, uint64_t deadline_ns);
/* The host asked: it is there. */
void keyring_host_there(struct keyring *k);
/* What is to be sent: set is a struct of names and values, unset an array of
 * names, options those of host.kv.set, all the caller's; all of it up to *seq. */
struct keyring_dirty {
	struct va_value *set, *unset, *options;
	uint64_t seq;
};
int keyring_dirty(struct keyring *k, struct keyring_dirty *ret);
/* It was sent, or (error) the host refused it. */
void keyring_sent(struct keyring *k, uint64_t seq, const char *error);
/* 0, -ETIMEDOUT, -ECANCELED, or -EREMOTEIO with what the host said. */
int keyring_wait_sent(struct keyring *k, uint64_t seq, int cancel_fd,
		      uint64_t deadline_ns, char *why, size_t size);

/* --- for who runs hooks ------------------------------------------------------ */

struct keyring_change {
	char name[KEY_NAME_MAX + 1];
	int64_t revision;
	bool removed;
};
/* Waits for the next change that no hook was run for yet. */
void keyring_next_change(struct keyring *k, struct keyring_change *ret);
const char *keyring_dir(const struct keyring *k);

struct spawn_client;
/* Starts the thread that runs CONFDIR/hooks/keys.d on each change. */
int key_hooks_start(struct keyring *k, struct spawn_client *spawn);

#endif
