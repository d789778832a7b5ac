/*
 * keys.h - the host's keys: kept, numbered, handed on to the guests
 *
 * Each guest has its own keys and its own count of revisions: every call that
 * changes something takes the next one, for all the keys it changes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_KEYS_H
#define VA_HOST_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/loop.h"
#include "virtagent/host/store.h"
#include "virtagent/keys_common.h"
#include "virtagent/value.h"

struct keys;

#define KEYS_GROUP_WORD "group:" /* and a pattern, where a guest's name stands */
#define KEYS_PATTERN_MAX 255u	 /* bytes: as long as a guest's name */

/* Who changes or asks. */
enum keys_who {
	KEYS_ADMIN,  /* a local client, root or the daemon's user: user.* */
	KEYS_MEMBER, /* another user of this host: the same, but for secrets */
	/* The guest: guest.*, with revisions as KEYS_IMPORT; user.* it may write. */
	KEYS_GUEST,
	KEYS_DAEMON, /* va-hostd: host.* */
	/* A move from another host: user.* and guest.*, each with its own flags
	 * and, where the guest's was lower, its own revision. */
	KEYS_IMPORT,
};

/* loop: where on_change runs.  The store outlives the keys.  NULL with errno. */
struct keys *keys_new(struct loop *loop, struct store *store);
/* The loop does not run any more: what was posted to it is not withdrawn. */
void keys_free(struct keys *k);
/* fn runs on the loop's thread after a guest's keys changed. */
void keys_on_change(struct keys *k, void (*fn)(void *arg, const char *guest),
		    void *arg);

struct keys_set {
	/* Its name; or STORE_GROUP and a pattern: then user.* keys of all guests
	 * that match and have none of their own. */
	const char *guest;
	enum keys_who who;
	const struct key_change *changes;
	size_t n;
	const char *vm;	     /* of the guest: the machine it says the keys are of; or NULL */
	int64_t if_revision; /* -1 = whatever it is; 0 = the key is not there */
	bool set_flags;	     /* give flags to the keys; else they keep theirs */
	unsigned flags;
};
/* What a call did, or why not. */
struct keys_result {
	uint64_t revision; /* of the guest now */
	size_t changed;
	size_t guests;	   /* whose keys a change of their group changed */
	int code;	   /* a fault's code when not 0 */
	char text[400];
};
/*
 * All of it or nothing, on disk when it returns.  Any thread that may wait.
 * 0, or a negative errno with result->text: -EACCES (not the caller's to
 * change), -EAGAIN (if_revision), -EDQUOT, -EROFS (the disk), -ETIMEDOUT.
 */
int keys_set(struct keys *k, const struct keys_set *set, uint64_t deadline_ns,
	     struct keys_result *result);
/* The same from the loop's thread, later, for the daemon's own; copies what it
 * needs.  Failures are logged. */
int keys_post(struct keys *k, const char *guest,
	      const struct key_change *changes, size_t n);
/* The loop's thread, too: host.* keys but those named are removed. */
int keys_keep_host(struct keys *k, const char *guest, const char *const *names,
		   size_t n);
/* The loop's thread: the guest is configured, and gets its groups' keys; or it is
 * not any more. */
int keys_add_guest(struct keys *k, const char *guest);
void keys_drop_guest(struct keys *k, const char *guest);
/* The loop's thread: it is the virtual machine of that uuid.  When its keys belong
 * to another one, its guest.* keys go. */
int keys_set_vm(struct keys *k, const char *guest, const char *uuid);
/* Any thread: that uuid, or "". */
void keys_vm(struct keys *k, const char *guest, char ret[40]);
/*
 * The loop's thread: the guest runs, as boot (the kernel's id).  When it is
 * another one than before, keys that live until a reset go; was_off: those that
 * live until power-off, too.
 */
int keys_booted(struct keys *k, const char *guest, const char *boot,
		bool was_off);

/* One key: a struct with value.  -ENOENT: absent, or not the caller's to see. */
int keys_get(struct keys *k, const char *guest, const char *name,
	     enum keys_who who, uint64_t deadline_ns, struct va_value **ret);
/* {revision, acked, store, keys: structs without values, next: cursor or ""} */
int keys_list(struct keys *k, const char *guest, const char *pattern,
	      const char *after, enum keys_who who, uint64_t deadline_ns,
	      struct va_value **ret);
/* The groups that have keys: structs {group, keys: how many}. */
int keys_groups(struct keys *k, uint64_t deadline_ns, struct va_value **ret);
/*
 * What changed since a revision, removals included, as {store, revision, since,
 * full, more, keys: structs with value or removed}.  full: since was too old (or
 * 0), the keys are all that there are.  more: ask again from revision.  who
 * KEYS_GUEST: what a guest may read.
 */
int keys_changes(struct keys *k, const char *guest, uint64_t since,
		 const char *pattern, enum keys_who who, uint64_t deadline_ns,
		 struct va_value **ret);
/* The same for the loop's thread, as KEYS_GUEST: fn runs there later and takes v
 * over (NULL on an error). */
int keys_fetch(struct keys *k, const char *guest, uint64_t since,
	       void (*fn)(void *arg, struct va_value *v), void *arg);

/* A guest's newest revision, and the one it has; any thread.  -1 = not known. */
int64_t keys_revision(struct keys *k, const char *guest);
int64_t keys_acked(struct keys *k, const char *guest);
/* The guest has it (-1: it is not there any more). */
void keys_set_acked(struct keys *k, const char *guest, int64_t revision);
/* Until the guest's revision is above since (acked: until the guest has since).
 * -ETIMEDOUT, -ECANCELED (cancel_fd became readable). */
int keys_wait(struct keys *k, const char *guest, uint64_t since, bool acked,
	      int cancel_fd, uint64_t deadline_ns);
/* Until each configured guest that matches has what it has to have now.
 * -ETIMEDOUT with the number of those that have not and the name of one. */
int keys_wait_group(struct keys *k, const char *pattern, int cancel_fd,
		    uint64_t deadline_ns, size_t *missing, char *name,
		    size_t size);

#endif
