/*
 * keys_common.h - what both sides hold true of keys
 *
 * A key's name is "host.", "user." or "guest." and 1 or more of A-Z a-z 0-9 and
 * "._-:@+", KEY_NAME_MAX bytes in all, so that each is a file's name.  Its first
 * part says who writes it: the daemon of the host the guest runs on, the host's
 * admin, the guest.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_KEYS_COMMON_H
#define VA_KEYS_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtagent/method.h"
#include "virtagent/value.h"

#define KEY_NAME_MAX 255u	   /* bytes: NAME_MAX of the guest's file */
#define KEY_VALUE_MAX (1u << 20)   /* bytes of one value */
#define KEYS_SET_MAX (2u << 20)	   /* values of one call: as base64 in 4 MiB */
#define KEYS_GUEST_MAX (16u << 20) /* names and values of one guest */
#define KEYS_LIST_MAX 1000u	   /* keys of one answer */
#define KEY_COST 64u		   /* counted for each key beside its bytes */

/* What a key may be. */
#define KEY_READ 1u	/* the guest gets it */
#define KEY_WRITE 2u	/* the guest may change it */
#define KEY_SECRET 4u	/* root's alone, and in no list */
#define KEY_POWEROFF 8u /* lives until the guest is off */
#define KEY_RESET 16u	/* lives until the guest boots anew */

enum key_owner { KEY_OF_HOST, KEY_OF_USER, KEY_OF_GUEST };

/* One change; memory is the parameters'. */
struct key_change {
	const char *name;
	const void *value; /* NULL = remove it */
	size_t size;
	enum key_owner owner;
	/* An import's: */
	unsigned flags;
	uint64_t revision; /* to be kept, if the guest's is not there yet */
	bool given;	   /* a group gave it there */
};

/* 0, or -EINVAL with the reason (name, size, limit) in why. */
int key_name_check(const char *name, enum key_owner *owner, char *why,
		   size_t size);
/*
 * Parameter i of a call as changes: a struct of names and values, or an array of
 * names to be removed.  0 with *ret malloc'ed, or a negative errno with the
 * call's fault set.
 */
int key_changes_get(struct va_call *call, size_t i, struct key_change **ret,
		    size_t *n);
/* {read, write, secret, lifetime} of s, where given, into *flags; *given: one
 * was.  0 or -EINVAL with the call's fault. */
int key_flags_get(struct va_call *call, const struct va_value *s,
		  unsigned *flags, bool *given);
/* Adds read, write, secret and lifetime to s. */
int key_flags_put(struct va_value *s, unsigned flags);
/* A member of s: an integer of at least min; dflt when it is absent. */
int key_option_int(struct va_call *call, const struct va_value *s,
		   const char *name, int64_t dflt, int64_t min, int64_t *ret);
/* A time in seconds, as a deadline (clock_now() scale). */
int key_option_deadline(struct va_call *call, const struct va_value *v,
			double dflt_s, uint64_t *ret);

#endif
