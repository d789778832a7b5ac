/*
 * policy.h - who may call what, on either side
 *
 * Read from [policy] of agent.conf (what the host may do in this guest), or
 * [policy] and [policy NAME] of hostd.conf (what guests, or the guest NAME, may
 * call on this host; virtagent.conf(5)).  Keys:
 *
 *	profile = full | readonly | hardened
 *	allow = WHAT ...        block = WHAT ...
 *	path = PREFIX           path-block = PREFIX
 *	exec-user = NAME ...
 *	connect = TARGET ...
 *
 * WHAT is a method's name, a glob pattern of names, or class:NAME.  A block
 * that matches refuses; else an allow that matches permits; else, when there
 * are allow lines and no profile, nothing more is permitted; else the profile
 * decides (default full).  Introspection (system.*) is always permitted, since
 * it shows what is allowed.  A name of the original (getfile, va.getfile) is
 * judged as the method it stands for.
 *
 * With path lines, file methods reach only what lies at or below one of them;
 * path-block takes out again.  Prefixes match whole components of the real
 * path.  With exec-user lines, programs run only as one of those users.
 *
 * TARGET is ADDRESS:PORT or unix:PATH, where * and ? match as in file names and are
 * held against the numeric address or the real path; without them it may also be
 * NAME:PORT, just as the caller says it.  With connect lines, connections are made
 * to those targets only.  Without any, the host's side connects guests to nothing
 * and the guest's side connects the host to everything.
 *
 * A policy is constant once loaded, so threads may share it; reload makes a new
 * one.  A refusal names the side, the rule and where it stands.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_POLICY_H
#define VA_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/cleanup.h"
#include "common/conf.h"
#include "virtagent/method.h"

struct policy;

/*
 * side: "guest" or "host", for messages and for names of the original.  name:
 * also read [policy NAME], whose lines come before those of [policy]; NULL for
 * none.  A conf without such sections gives the default, full.  0, or -EINVAL
 * with "FILE:LINE: reason" in err.
 */
int policy_new(const struct conf *c, const char *side, const char *name,
	       struct policy **ret, char *err, size_t err_size);
void policy_free(struct policy *p);
DEFINE_CLEANUP(struct policy, policy_free);

/* why (may be NULL) gets the reason of a refusal. */
bool policy_allows(const struct policy *p, const struct va_method *m, char *why,
		   size_t why_size);
bool policy_allows_path(const struct policy *p, const struct va_method *m,
			const char *real_path, char *why, size_t why_size);
bool policy_allows_user(const struct policy *p, const char *user, char *why,
			size_t why_size);
/* asked: the target as the caller said it; real: with the numeric address or the
 * real path. */
bool policy_allows_connect(const struct policy *p, const char *asked,
			   const char *real, char *why, size_t why_size);
/* Is there any path rule, so that paths must be resolved? */
bool policy_has_paths(const struct policy *p);

#endif
