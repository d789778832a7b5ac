/*
 * hostd_policy.c - what each guest may call on this host
 *
 * Most guests share the policy of [policy]; a guest with a section [policy NAME]
 * has its own.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/named.h"
#include "virtagent/hostd_policy.h"

struct named_policy {
	struct named named;
	struct policy *policy;
};

struct policy_set {
	struct policy *common;
	struct named *named;
};

static int add_named(struct policy_set *s, const struct conf *c,
		     const char *name, char *err, size_t err_size)
{
	struct policy *policy;
	struct named_policy *n;
	int res = policy_new(c, "host", name, &policy, err, err_size);

	if (res < 0)
		return res;
	n = named_add(&s->named, sizeof(*n), name);
	if (!n) {
		policy_free(policy);
		return -ENOMEM;
	}
	n->policy = policy;
	return 0;
}

int policy_set_new(const struct conf *c, struct policy_set **ret, char *err,
		   size_t err_size)
{
	struct policy_set *s = calloc(1, sizeof(*s));
	int res;

	if (!s)
		return -ENOMEM;
	res = policy_new(c, "host", NULL, &s->common, err, err_size);
	for (size_t i = 0; i < c->count && res == 0; i++) {
		const struct conf_entry *e = &c->entries[i];

		if (strcmp(e->section, "policy") == 0 && e->name[0] &&
		    !named_find(s->named, e->name))
			res = add_named(s, c, e->name, err, err_size);
	}
	if (res < 0) {
		policy_set_free(s);
		return res;
	}
	*ret = s;
	return 0;
}

void policy_set_free(struct policy_set *s)
{
	if (!s)
		return;
	for (struct named *one = s->named; one; one = one->next)
		policy_free(((struct named_policy *)one)->policy);
	named_free(&s->named);
	if (s->common)
		policy_free(s->common);
	free(s);
}

const struct policy *policy_set_for(const struct policy_set *s,
				    const char *guest)
{
	const struct named_policy *n = named_find(s->named, guest);

	return n ? n->policy : s->common;
}
