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

#include "virtagent/hostd_policy.h"

struct named_policy {
	struct named_policy *next;
	struct policy *policy;
	char name[];
};

struct policy_set {
	struct policy *common;
	struct named_policy *named;
};

static const struct named_policy *find_named(const struct policy_set *s,
					     const char *name)
{
	const struct named_policy *n = s->named;

	while (n && strcmp(n->name, name) != 0)
		n = n->next;
	return n;
}

static int add_named(struct policy_set *s, const struct conf *c,
		     const char *name, char *err, size_t err_size)
{
	struct named_policy *n = calloc(1, sizeof(*n) + strlen(name) + 1);
	int res;

	if (!n)
		return -ENOMEM;
	strcpy(n->name, name);
	res = policy_new(c, "host", name, &n->policy, err, err_size);
	if (res < 0) {
		free(n);
		return res;
	}
	n->next = s->named;
	s->named = n;
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
		    !find_named(s, e->name))
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
	while (s->named) {
		struct named_policy *n = s->named;

		s->named = n->next;
		policy_free(n->policy);
		free(n);
	}
	if (s->common)
		policy_free(s->common);
	free(s);
}

const struct policy *policy_set_for(const struct policy_set *s,
				    const char *guest)
{
	const struct named_policy *n = find_named(s, guest);

	return n ? n->policy : s->common;
}
