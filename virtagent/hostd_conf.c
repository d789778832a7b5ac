/*
 * hostd_conf.c - what va-hostd is told
 *
 * Each key is a row that says in which section it may stand and how its value
 * is taken.  What no row knows is an error with file and line: a misspelt key
 * that is silently ignored is worse than a daemon that does not start.  On a
 * reload the new configuration is built whole before anything acts on it, so an
 * error there changes nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/hostd_conf_priv.h"

#define EVENT_AGE_DEFAULT (30 * 24 * 3600 * NSEC_PER_SEC)
#define EVENT_COUNT_DEFAULT 100000u
#define HOOK_TIMEOUT_DEFAULT (30 * NSEC_PER_SEC)
/* Well above what a process that is stopped for a while (a debugger, a frozen
 * control group) or starved takes: its streams would survive that. */
#define HANG_DEFAULT (60 * NSEC_PER_SEC)
#define SPIN_DEFAULT (60 * NSEC_PER_SEC)

int hostd_conf_complain(const struct message *m, const char *file, unsigned line,
			const char *fmt, ...)
{
	char reason[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	snprintf(m->text, m->size, "%s:%u: %s", file, line, reason);
	return -EINVAL;
}

static int take_entry(struct hostd_conf *c, const struct conf_entry *e,
		      const struct conf_entry *prev, struct message *msg)
{
	struct place at = { .conf = c, .entry = e, .msg = msg };
	const struct conf_key *row = hostd_conf_key(e);

	/* policy.c knows these. */
	if (strcmp(e->section, "policy") == 0)
		return 0;
	if (!row)
		return COMPLAIN(&at, "unknown key \"%s\" in section [%s]",
				e->key, e->section);
	if (strcmp(e->section, "guest") == 0) {
		int err = hostd_conf_guest(&at, prev);

		if (err < 0)
			return err;
	}
	return row->set(&at, e->value);
}

static int read_files(struct conf *conf, const char *file, bool must_exist,
		      const char *dir, struct message *msg)
{
	int err;

	if (must_exist || access(file, F_OK) == 0) {
		err = conf_read_file(conf, file, msg->text, msg->size);
		if (err < 0)
			return err;
	}
	return conf_read_dir(conf, dir, msg->text, msg->size);
}

static int take_all(struct hostd_conf *c, const struct conf *conf,
		    const char *const *words, size_t nwords, struct message *m)
{
	for (size_t i = 0; i < conf->count; i++) {
		int err = take_entry(c, &conf->entries[i],
				     i ? &conf->entries[i - 1] : NULL, m);

		if (err < 0)
			return err;
	}
	for (size_t i = 0; i < nwords; i++) {
		int err = hostd_conf_word(c, words[i], (unsigned)i + 1, m);

		if (err < 0)
			return err;
	}
	return hostd_conf_check_guests(c, m);
}

static int take_policies(struct hostd_conf *c, const struct conf *conf,
			 struct message *m)
{
	return policy_set_new(conf, &c->policies, m->text, m->size);
}

int hostd_conf_load(struct hostd_conf *ret, const char *file, bool must_exist,
		    const char *dir, const char *const *words, size_t nwords,
		    char *err, size_t err_size)
{
	CLEANUP(conf_done) struct conf conf = { 0 };
	struct message msg = { err, err_size };
	int res;

	*ret = (struct hostd_conf){
		.gid = (gid_t)-1,
		.event_age_ns = EVENT_AGE_DEFAULT,
		.event_count = EVENT_COUNT_DEFAULT,
		.hook_timeout_ns = HOOK_TIMEOUT_DEFAULT,
		.watch = { HANG_DEFAULT, SPIN_DEFAULT },
	};
	err[0] = '\0';
	res = read_files(&conf, file, must_exist, dir, &msg);
	if (res == 0)
		res = take_all(ret, &conf, words, nwords, &msg);
	if (res == 0)
		res = take_policies(ret, &conf, &msg);
	if (res < 0) {
		if (!err[0])
			snprintf(err, err_size, "%s: %s", file,
				 strerror(-res));
		hostd_conf_done(ret);
	}
	return res;
}

static void patterns_done(struct patterns *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->list[i]);
	free(p->list);
}

void hostd_conf_done(struct hostd_conf *c)
{
	for (size_t i = 0; i < c->nguests; i++)
		guest_spec_done(&c->guests[i]);
	free(c->guests);
	patterns_done(&c->channels);
	patterns_done(&c->monitors);
	free(c->serial);
	free(c->virtproxy);
	free(c->name);
	free(c->hooks);
	free(c->commands);
	policy_set_free(c->policies);
	*c = (struct hostd_conf){ 0 };
}

void hostd_conf_hostname(const struct hostd_conf *c, char *ret, size_t size)
{
	ret[0] = '\0';
	if (c->name)
		snprintf(ret, size, "%s", c->name);
	else if (gethostname(ret, size) == 0)
		ret[size - 1] = '\0';
}
