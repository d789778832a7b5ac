/*
 * store.h - what va-hostd keeps on disk; only store*.c know SQLite
 *
 * A store has a thread of its own, so that a slow disk delays neither the event
 * loop nor a guest.  The calls below that are marked "store's thread" run there,
 * by way of loop_post() or loop_call() on store_loop().
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_STORE_H
#define VA_HOST_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/loop.h"

struct store;

/* Strings are the caller's when given, and the store's when read: valid within
 * the callback. */
struct store_event {
	uint64_t seq;
	int64_t time_ms; /* wall clock */
	const char *guest;
	const char *name;
	const char *data; /* JSON */
	const char *agent; /* who numbered it, or NULL */
	int64_t agent_seq;
};

/*
 * Opens (or makes) the database and starts the thread.  A damaged or unwritable
 * one is served read-only, and without any the store works in memory:
 * store_trouble() then says why.  NULL with errno only for want of memory or
 * threads.
 */
struct store *store_open(const char *path);
/* Finishes what was posted, then closes. */
void store_close(struct store *s);
struct loop *store_loop(struct store *s);

/* Store's thread.  Why nothing can be written now, or NULL. */
const char *store_trouble(const struct store *s);

/*
 * Store's thread.  Keeps an event and numbers it.  What cannot be written to
 * disk is kept in memory until it can (at most STORE_MISSED_MAX) unless must_last,
 * which gives a negative errno then.  -EEXIST: (guest, agent, agent_seq) is kept
 * already, ev->seq says where.
 */
#define STORE_MISSED_MAX 4096u
int store_event_add(struct store *s, struct store_event *ev, bool must_last);
/* Store's thread.  Numbers never repeat; the last one given. */
uint64_t store_event_last(const struct store *s);
/*
 * Store's thread.  Calls fn for events after since, of one guest or all (NULL),
 * in order, at most limit, until fn returns non-zero.  0 or a negative errno.
 */
int store_event_read(struct store *s, uint64_t since, const char *guest,
		     unsigned limit,
		     int (*fn)(void *arg, const struct store_event *ev),
		     void *arg);
/* Store's thread.  Drops events older than before_ms and all but the last count
 * ones. */
int store_event_trim(struct store *s, int64_t before_ms, uint64_t count);

/* --- keys (store_keys.c); all on the store's thread ----------------------- */

/*
 * Where a guest's name stands below, this and a pattern stand for a group of
 * guests: those whose name matches.  No guest's name begins with a control
 * character.
 */
#define STORE_GROUP '\001'

struct store_key {
	const char *name;
	uint64_t revision;
	unsigned flags;
	const void *value; /* NULL = it was removed at that revision */
	size_t size;
	/* The pattern of the group that gives the guest this key (the value is
	 * the group's then); NULL = it is the guest's own. */
	const char *group;
};

struct store_keys_state {
	uint64_t revision; /* of the last change; 0 = never had a key */
	uint64_t floor;	   /* removals up to here are forgotten */
	char boot[64];	   /* the guest's boot these keys were last seen by */
	char vm[40];	   /* uuid of the virtual machine they belong to, or "" */
};

typedef int (*store_key_fn)(void *arg, const struct store_key *key);

/* Of the file; "" without one. */
const char *store_id(const struct store *s);
/* All zero for a guest without keys. */
int store_keys_state(struct store *s, const char *guest,
		     struct store_keys_state *ret);
/* Calls fn with the key, also a removed one; -ENOENT when it never was. */
int store_key_get(struct store *s, const char *guest, const char *name,
		  store_key_fn fn, void *arg);
/* Keys changed after since, removed ones included, in the order of revisions,
 * until fn returns non-zero. */
int store_keys_since(struct store *s, const char *guest, uint64_t since,
		     store_key_fn fn, void *arg);
/* Keys that are there, behind the name after, in the order of names; value is
 * not NULL, but points to nothing: only its size is known. */
int store_keys_list(struct store *s, const char *guest, const char *after,
		    store_key_fn fn, void *arg);
/* Bytes of the names and values of a guest's own keys, or of the keys of all
 * groups when guest names one; cost being added for each key. */
int store_keys_usage(struct store *s, const char *guest, unsigned cost,
		     uint64_t *ret);
/* The groups that have a key, the longest pattern first (and of equal ones the
 * last in byte order), until fn returns non-zero. */
int store_groups_with(struct store *s, const char *name, store_key_fn fn,
		      void *arg);
/* All keys of all groups, without values. */
int store_group_keys(struct store *s, store_key_fn fn, void *arg);
/* The keys that groups give this guest now, without values. */
int store_given_keys(struct store *s, const char *guest, store_key_fn fn,
		     void *arg);
/* All guests that have or had keys, as the names of keys. */
int store_keys_guests(struct store *s, store_key_fn fn, void *arg);
/*
 * A transaction: begin, puts, set_state, then commit or rollback.  Unlike events,
 * keys are never kept in memory only: begin fails while the disk takes no
 * writes.
 */
int store_keys_begin(struct store *s);
/* With a group the value is not looked at. */
int store_key_put(struct store *s, const char *guest,
		  const struct store_key *key);
int store_keys_set_state(struct store *s, const char *guest,
			 const struct store_keys_state *state);
/* Forgets the removals up to a revision. */
int store_keys_forget(struct store *s, const char *guest, uint64_t upto);
int store_keys_commit(struct store *s);
void store_keys_rollback(struct store *s);

#endif
