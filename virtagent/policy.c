/*
 * policy.c - see policy.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/log.h"
#include "common/str.h"

#define RULES_MAX 256 /* of all kinds; more is a mistake in the file */

enum rule_kind { RULE_ALLOW, RULE_BLOCK, RULE_PATH, RULE_PATH_BLOCK, RULE_USER,
		 RULE_CONNECT };

struct rule {
	enum rule_kind kind;
	char *what;
	char *where; /* "FILE:LINE" */
};

#define FIRST_SIZE 300 /* where a line stands, as it is told */

struct profile {
	const char *name;
	unsigned classes; /* a bit per va_class */
	bool paths;	  /* methods that take a path are included */
};

#define CLASS_BIT(c) (1u << (c))

static const struct profile profiles[] = {
	{ "full", ~0u, true },
	{ "readonly", CLASS_BIT(VA_CLASS_INFO) | CLASS_BIT(VA_CLASS_READ), true },
	/* Facts and orderly power-off, but no file's content and no program. */
	{ "hardened",
	  CLASS_BIT(VA_CLASS_INFO) | CLASS_BIT(VA_CLASS_READ) |
		  CLASS_BIT(VA_CLASS_POWER),
	  false },
};

struct policy {
	char side[8];
	struct rule rules[RULES_MAX];
	size_t count;
	const struct profile *profile; /* NULL = none named */
	char profile_where[300];
	bool has_allow, has_path, has_path_rule, has_user, has_connect;
};

static const struct {
	const char *key;
	enum rule_kind kind;
} keys[] = {
	{ "allow", RULE_ALLOW },
	{ "block", RULE_BLOCK },
	{ "path", RULE_PATH },
	{ "path-block", RULE_PATH_BLOCK },
	{ "exec-user", RULE_USER },
	{ "connect", RULE_CONNECT },
};

void policy_free(struct policy *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->count; i++) {
		free(p->rules[i].what);
		free(p->rules[i].where);
	}
	free(p);
}

static bool class_known(const char *name)
{
	for (int c = VA_CLASS_INFO; c <= VA_CLASS_ADMIN; c++)
		if (!strcmp(name, va_class_name((enum va_class)c)))
			return true;
	return false;
}

static int add_rule(struct policy *p, const struct conf_entry *e,
		    enum rule_kind kind, const char *what, char *err,
		    size_t err_size)
{
	struct rule *rule = &p->rules[p->count];

	if (p->count == RULES_MAX) {
		snprintf(err, err_size, "%s:%u: more than %d rules", e->file,
			 e->line, RULES_MAX);
		return -EINVAL;
	}
	if (str_starts(what, "class:") && !class_known(what + 6)) {
		snprintf(err, err_size, "%s:%u: there is no class \"%s\"",
			 e->file, e->line, what + 6);
		return -EINVAL;
	}
	if ((kind == RULE_PATH || kind == RULE_PATH_BLOCK) && what[0] != '/') {
		snprintf(err, err_size, "%s:%u: the path \"%s\" is not absolute",
			 e->file, e->line, what);
		return -EINVAL;
	}
	rule->kind = kind;
	rule->what = strdup(what);
	rule->where = str_printf("%s:%u", e->file, e->line);
	p->count++;
	if (!rule->what || !rule->where) {
		snprintf(err, err_size, "out of memory");
		return -ENOMEM;
	}
	p->has_allow |= kind == RULE_ALLOW;
	p->has_path |= kind == RULE_PATH;
	p->has_path_rule |= kind == RULE_PATH || kind == RULE_PATH_BLOCK;
	p->has_user |= kind == RULE_USER;
	p->has_connect |= kind == RULE_CONNECT;
	return 0;
}

static int set_profile(struct policy *p, const struct conf_entry *e, char *err,
		       size_t err_size)
{
	for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
		if (strcmp(e->value, profiles[i].name) != 0)
			continue;
		/* The guest's own section is read first and wins. */
		if (!p->profile) {
			p->profile = &profiles[i];
			snprintf(p->profile_where, sizeof(p->profile_where),
				 "%s:%u", e->file, e->line);
		}
		return 0;
	}
	snprintf(err, err_size,
		 "%s:%u: there is no profile \"%s\" (full, readonly, hardened)",
		 e->file, e->line, e->value);
	return -EINVAL;
}

static int add_entry(struct policy *p, const struct conf_entry *e, char *err,
		     size_t err_size)
{
	CLEANUP_FREE char *words = NULL;
	char *word, *save = NULL;
	int r = 0;

	if (!strcmp(e->key, "profile"))
		return set_profile(p, e, err, err_size);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(e->key, keys[i].key) != 0)
			continue;
		/* A path may hold blanks; the others are lists of words. */
		if (keys[i].kind == RULE_PATH || keys[i].kind == RULE_PATH_BLOCK)
			return add_rule(p, e, keys[i].kind, e->value, err, err_size);
		words = strdup(e->value);
		if (!words) {
			snprintf(err, err_size, "out of memory");
			return -ENOMEM;
		}
		for (word = strtok_r(words, " \t,", &save); word && r == 0;
		     word = strtok_r(NULL, " \t,", &save))
			r = add_rule(p, e, keys[i].kind, word, err, err_size);
		return r;
	}
	snprintf(err, err_size, "%s:%u: [policy] knows no key \"%s\"", e->file,
		 e->line, e->key);
	return -EINVAL;
}

int policy_new(const struct conf *c, const char *side, const char *name,
	       struct policy **ret, char *err, size_t err_size)
{
	CLEANUP(policy_free_p) struct policy *p = calloc(1, sizeof(*p));

	if (!p) {
		snprintf(err, err_size, "out of memory");
		return -ENOMEM;
	}
	snprintf(p->side, sizeof(p->side), "%s", side);
	for (int pass = name ? 0 : 1; pass < 2; pass++) {
		const char *wanted = pass == 0 ? name : "";

		for (size_t i = 0; c && i < c->count; i++) {
			const struct conf_entry *e = &c->entries[i];
			int r;

			if (strcmp(e->section, "policy") != 0 ||
			    strcmp(e->name, wanted) != 0)
				continue;
			r = add_entry(p, e, err, err_size);
			if (r < 0)
				return r;
		}
	}
	*ret = take_ptr(p);
	return 0;
}

/* "va.getfile", "va_ping", "getfile" -> "guest.getfile". */
static void canonical_name(const struct policy *p, const struct va_method *m,
			   char *ret, size_t size)
{
	const char *bare = m->name;

	if (!(m->flags & VA_M_ORIGINAL)) {
		snprintf(ret, size, "%s", bare);
		return;
	}
	if (str_starts(bare, "va.") || str_starts(bare, "va_"))
		bare += 3;
	snprintf(ret, size, "%s.%s", p->side, bare);
}

static bool rule_matches(const struct rule *rule, const char *name,
			 const struct va_method *m)
{
	if (str_starts(rule->what, "class:"))
		return !strcmp(rule->what + 6, va_class_name(m->cls));
	return str_glob(rule->what, name) || str_glob(rule->what, m->name);
}

static const struct rule *find_rule(const struct policy *p, enum rule_kind kind,
				    const char *name, const struct va_method *m)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->rules[i].kind == kind &&
		    rule_matches(&p->rules[i], name, m))
			return &p->rules[i];
	return NULL;
}

/* " (FILE:LINE)" of the first line of a kind, for what none of them names; "" when
 * there is none. */
static const char *first_of(const struct policy *p, enum rule_kind kind, char *ret,
			    size_t size)
{
	ret[0] = '\0';
	for (size_t i = 0; i < p->count && !ret[0]; i++)
		if (p->rules[i].kind == kind)
			snprintf(ret, size, " (the first is in %s)", p->rules[i].where);
	return ret;
}

static bool profile_allows(const struct policy *p, const struct va_method *m)
{
	const struct profile *f = p->profile;

	if (!f)
		return true;
	return (f->classes & CLASS_BIT(m->cls)) &&
	       (f->paths || !(m->flags & VA_M_PATH));
}

bool policy_allows(const struct policy *p, const struct va_method *m, char *why,
		   size_t why_size)
{
	char name[128], first[FIRST_SIZE];
	const struct rule *rule;

	if (str_starts(m->name, "system."))
		return true;
	canonical_name(p, m, name, sizeof(name));
	rule = find_rule(p, RULE_BLOCK, name, m);
	if (rule) {
		if (why)
			snprintf(why, why_size,
				 "%s is refused by the %s's policy: block = %s (%s)",
				 m->name, p->side, rule->what, rule->where);
		return false;
	}
	if (find_rule(p, RULE_ALLOW, name, m))
		return true;
	if (p->has_allow && !p->profile) {
		if (why)
			snprintf(why, why_size,
				 "%s is refused by the %s's policy: no allow line names "
				 "it%s", m->name, p->side,
				 first_of(p, RULE_ALLOW, first, sizeof(first)));
		return false;
	}
	if (profile_allows(p, m))
		return true;
	if (why)
		snprintf(why, why_size,
			 "%s is refused by the %s's policy: profile = %s (%s)",
			 m->name, p->side, p->profile->name, p->profile_where);
	return false;
}

/* Is path at or below prefix, by whole components? */
static bool path_below(const char *prefix, const char *path)
{
	size_t n = strlen(prefix);

	while (n > 1 && prefix[n - 1] == '/')
		n--;
	if (n == 1)
		return true;
	return !strncmp(path, prefix, n) && (path[n] == 0 || path[n] == '/');
}

bool policy_allows_path(const struct policy *p, const struct va_method *m,
			const char *real_path, char *why, size_t why_size)
{
	const struct rule *inside = NULL;
	char shown[300], first[FIRST_SIZE];

	log_escape(shown, sizeof(shown), real_path, strlen(real_path));
	for (size_t i = 0; i < p->count; i++) {
		const struct rule *rule = &p->rules[i];

		if (rule->kind == RULE_PATH && path_below(rule->what, real_path))
			inside = rule;
		if (rule->kind != RULE_PATH_BLOCK ||
		    !path_below(rule->what, real_path))
			continue;
		if (why)
			snprintf(why, why_size,
				 "%s: %s is refused by the %s's policy: "
				 "path-block = %s (%s)",
				 shown, m->name, p->side, rule->what, rule->where);
		return false;
	}
	if (inside || !p->has_path)
		return true;
	if (why)
		snprintf(why, why_size,
			 "%s: %s is refused by the %s's policy: below no path line%s",
			 shown, m->name, p->side,
			 first_of(p, RULE_PATH, first, sizeof(first)));
	return false;
}

bool policy_allows_user(const struct policy *p, const char *user, char *why,
			size_t why_size)
{
	char first[FIRST_SIZE];

	if (!p->has_user)
		return true;
	for (size_t i = 0; i < p->count; i++)
		if (p->rules[i].kind == RULE_USER && !strcmp(p->rules[i].what, user))
			return true;
	if (why)
		snprintf(why, why_size,
			 "running as %s is refused by the %s's policy: no exec-user "
			 "line names that user%s", user, p->side,
			 first_of(p, RULE_USER, first, sizeof(first)));
	return false;
}

/* A pattern is not held against a name: "10.*" is about addresses.  Brackets are
 * those of IPv6, no range of characters. */
static bool connect_matches(const char *what, const char *asked, const char *real)
{
	char pattern[512];
	size_t n = 0;

	if (!strpbrk(what, "*?"))
		return !strcasecmp(what, asked) || !strcasecmp(what, real);
	for (; *what && n < sizeof(pattern) - 4; what++)
		n += (size_t)snprintf(pattern + n, 4, *what == '[' ? "[[]" : "%c", *what);
	pattern[n] = 0;
	return !*what && str_glob(pattern, real);
}

bool policy_allows_connect(const struct policy *p, const char *asked,
			   const char *real, char *why, size_t why_size)
{
	char shown[300], first[FIRST_SIZE];

	if (!p->has_connect && !strcmp(p->side, "guest"))
		return true;
	for (size_t i = 0; i < p->count; i++)
		if (p->rules[i].kind == RULE_CONNECT &&
		    connect_matches(p->rules[i].what, asked, real))
			return true;
	if (why)
		snprintf(why, why_size,
			 "connecting to %s is refused by the %s's policy: no connect line "
			 "names it%s", log_escape(shown, sizeof(shown), asked, strlen(asked)),
			 p->side, first_of(p, RULE_CONNECT, first, sizeof(first)));
	return false;
}

bool policy_has_paths(const struct policy *p)
{
	return p->has_path_rule;
}
