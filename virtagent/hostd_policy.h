/*
 * hostd_policy.h - what each guest may call on this host
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_POLICY_H
#define VA_HOSTD_POLICY_H

#include <stddef.h>

#include "common/conf.h"
#include "virtagent/policy.h"

struct policy_set;

/* Of [policy] and every [policy NAME] of the configuration.  0, or a negative
 * errno with "FILE:LINE: reason" in err. */
int policy_set_new(const struct conf *c, struct policy_set **ret, char *err,
		   size_t err_size);
/* Accepts NULL. */
void policy_set_free(struct policy_set *s);
/* The one that is for this guest. */
const struct policy *policy_set_for(const struct policy_set *s,
				    const char *guest);

#endif
