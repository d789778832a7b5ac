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
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/commands.h"
#include "common/conf.h"
#include "common/daemon.h"
#include "common/log.h"
#include "virtagent/host/keys.h"
#include "virtagent/hostd_conf.h"
#include "virtagent/hostd_pattern.h"
#include "virtagent/limits.h"
#include "virtproxy/virtproxy.h"

#define PORT_NAME "org.virtagent.0"
#define EVENT_AGE_DEFAULT (30 * 24 * 3600 * NSEC_PER_SEC)
#define EVENT_AGE_MAX (3650 * UINT64_C(24) * 3600 * NSEC_PER_SEC)
#define EVENT_COUNT_DEFAULT 100000u
#define EVENT_COUNT_MAX 10000000u
#define HOOK_TIMEOUT_DEFAULT (30 * NSEC_PER_SEC)
#define HOOK_TIMEOUT_MAX (3600 * NSEC_PER_SEC)
/* Well above what a process that is stopped for a while (a debugger, a frozen
 * control group) or starved takes: its streams would survive that. */
#define HANG_DEFAULT (60 * NSEC_PER_SEC)
#define SPIN_DEFAULT (60 * NSEC_PER_SEC)
#define WATCH_MAX (24 * 3600 * NSEC_PER_SEC)

struct message {
	char *text;
	size_t size;
};

/* Where a value stands, for its setter. */
struct place {
	struct hostd_conf *conf;
	struct guest_spec *guest; /* of [guest NAME] */
	const struct conf_entry *entry;
	struct message *msg;
};

struct conf_key {
	const char *section;
	const char *key;
	int (*set)(const struct place *at, const char *value);
};

__attribute__((format(printf, 4, 5))) static int
complain(const struct message *m, const char *file, unsigned line,
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

#define COMPLAIN(at, ...)                                                      \
	complain((at)->msg, (at)->entry->file, (at)->entry->line, __VA_ARGS__)

static int set_copy(char **member, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*member);
	*member = copy;
	return 0;
}

static int set_path(const struct place *at, char **member, const char *value)
{
	if (value[0] != '/')
		return COMPLAIN(at, "%s = %s: not an absolute path",
				at->entry->key, value);
	return set_copy(member, value);
}

static int set_group(const struct place *at, const char *value)
{
	const struct group *gr = getgrnam(value);
	uint64_t gid;

	if (gr)
		gid = gr->gr_gid;
	else if (str_to_u64(value, UINT32_MAX - 1, &gid) < 0)
		return COMPLAIN(at, "group = %s: no such group", value);
	at->conf->gid = (gid_t)gid;
	return 0;
}

static int set_name(const struct place *at, const char *value)
{
	if (!*value || strlen(value) > HOSTD_NAME_MAX ||
	    !str_is_clean_text(value, strlen(value), ""))
		return COMPLAIN(at, "name = %s: 1 to %u bytes of text", value,
				HOSTD_NAME_MAX);
	return set_copy(&at->conf->name, value);
}

static int set_virtproxy(const struct place *at, const char *value)
{
	return set_path(at, &at->conf->virtproxy, value);
}

static int set_sandbox(const struct place *at, const char *value)
{
	bool yes = strcmp(value, "yes") == 0;

	if (!yes && strcmp(value, "no") != 0)
		return COMPLAIN(at, "sandbox = %s: neither yes nor no", value);
	at->conf->no_sandbox = !yes;
	return 0;
}

static int set_hooks(const struct place *at, const char *value)
{
	return set_path(at, &at->conf->hooks, value);
}

static int set_commands(const struct place *at, const char *value)
{
	if (!command_dirs_valid(value))
		return COMPLAIN(at, "commands = %s: needs absolute paths", value);
	return set_copy(&at->conf->commands, value);
}

static int set_duration(const struct place *at, const char *value, uint64_t max,
			uint64_t *ret)
{
	int err = str_to_duration(value, max, ret);

	if (err == -ERANGE)
		return COMPLAIN(at, "%s = %s: more than %llu seconds",
				at->entry->key, value,
				(unsigned long long)(max / NSEC_PER_SEC));
	if (err < 0)
		return COMPLAIN(at, "%s = %s: not a time such as 90s or 720h",
				at->entry->key, value);
	return 0;
}

static int set_max_age(const struct place *at, const char *value)
{
	return set_duration(at, value, EVENT_AGE_MAX, &at->conf->event_age_ns);
}

static int set_hook_timeout(const struct place *at, const char *value)
{
	return set_duration(at, value, HOOK_TIMEOUT_MAX,
			    &at->conf->hook_timeout_ns);
}

/* 0 = never. */
static int set_watch(const struct place *at, const char *value, uint64_t *ret)
{
	uint64_t ns;

	if (set_duration(at, value, WATCH_MAX, &ns) < 0)
		return -EINVAL;
	if (ns && ns < NSEC_PER_SEC)
		return COMPLAIN(at, "%s = %s: less than a second", at->entry->key, value);
	*ret = ns;
	return 0;
}

static int set_hang_limit(const struct place *at, const char *value)
{
	return set_watch(at, value, &at->conf->watch.hang_ns);
}

static int set_spin_limit(const struct place *at, const char *value)
{
	return set_watch(at, value, &at->conf->watch.spin_ns);
}

static int set_max_count(const struct place *at, const char *value)
{
	if (str_to_u64(value, EVENT_COUNT_MAX, &at->conf->event_count) < 0)
		return COMPLAIN(at, "max-count = %s: not a number up to %u",
				value, EVENT_COUNT_MAX);
	return 0;
}

static int set_limit(const struct place *at, const char *value, unsigned max,
		     unsigned *ret)
{
	uint64_t number;

	if (str_to_u64(value, max, &number) < 0 || number == 0)
		return COMPLAIN(at, "%s = %s: needs a number from 1 to %u", at->entry->key, value,
				max);
	*ret = (unsigned)number;
	return 0;
}

static int set_guest_calls(const struct place *at, const char *value)
{
	return set_limit(at, value, VA_CONF_CALLS_MAX, &at->conf->guest_calls);
}

static int set_guest_streams(const struct place *at, const char *value)
{
	return set_limit(at, value, VA_CONF_STREAMS_MAX, &at->conf->guest_streams);
}

static int set_stream_buffer(const struct place *at, const char *value)
{
	uint64_t bytes;

	if (str_to_size(value, VA_CONF_STREAM_BUFFER_MAX, &bytes) < 0 ||
	    bytes < VA_CONF_STREAM_BUFFER_MIN)
		return COMPLAIN(at, "%s = %s: needs a number of bytes from %u to %u",
				at->entry->key, value, VA_CONF_STREAM_BUFFER_MIN,
				VA_CONF_STREAM_BUFFER_MAX);
	at->conf->stream_buffer = (unsigned)bytes;
	return 0;
}

static int set_guest_events(const struct place *at, const char *value)
{
	return set_limit(at, value, VA_CONF_EVENTS_MAX, &at->conf->guest_events);
}

/* A key once more in one section: a second guest of that name, most likely. */
static int set_once(const struct place *at, char **member, const char *value)
{
	if (*member)
		return COMPLAIN(at, "guest \"%s\" stands in %s:%u already, "
				    "with a key \"%s\"",
				at->guest->name, at->guest->file,
				at->guest->line, at->entry->key);
	return set_copy(member, value);
}

static int set_channel(const struct place *at, const char *value)
{
	struct vp_spec spec;
	char why[256];

	if (vp_parse_channel(value, &spec, why, sizeof(why)) < 0)
		return COMPLAIN(at, "guest \"%s\": channel: %s",
				at->guest->name, why);
	return set_once(at, &at->guest->channel, value);
}

static int set_qmp(const struct place *at, const char *value)
{
	if (value[0] != '/')
		return COMPLAIN(at, "qmp = %s: not an absolute path", value);
	return set_once(at, &at->guest->qmp, value);
}

static int set_uuid(const struct place *at, const char *value)
{
	if (strlen(value) != 36 ||
	    strspn(value, "0123456789abcdefABCDEF-") != 36)
		return COMPLAIN(at, "guest \"%s\": uuid = %s: not a UUID",
				at->guest->name, value);
	return set_once(at, &at->guest->uuid, value);
}

static int add_pattern(struct patterns *p, char *pattern)
{
	char **grown = pattern ? realloc(p->list, (p->n + 1) * sizeof(*grown)) : NULL;

	if (!grown) {
		free(pattern);
		return -ENOMEM;
	}
	p->list = grown;
	p->list[p->n++] = pattern;
	return 0;
}

static void patterns_done(struct patterns *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->list[i]);
	free(p->list);
}

static int set_channels(const struct place *at, const char *value)
{
	const char *why;

	if (pattern_check(value, true, &why) < 0)
		return COMPLAIN(at, "channels = %s: %s", value, why);
	return add_pattern(&at->conf->channels, strdup(value));
}

/* Of these QEMU itself says which machine it is. */
static int set_monitors(const struct place *at, const char *value)
{
	const char *why;

	if (pattern_check(value, false, &why) < 0)
		return COMPLAIN(at, "qmp = %s: %s", value, why);
	return add_pattern(&at->conf->monitors, strdup(value));
}

static int set_serial(const struct place *at, const char *value)
{
	if (!*value)
		return COMPLAIN(at, "serial: needs the name of a character device");
	return set_copy(&at->conf->serial, value);
}

/* Where libvirt puts the sockets of channels that name no path: of old, and since
 * its version 9.7; for root and for a user's own machines.  Serial lines must name one:
 * "va-client libvirt-xml --isa-serial" chooses that. */
static int set_libvirt(const struct place *at, const char *value)
{
	const char *conf = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	const char *run = getenv("XDG_RUNTIME_DIR");
	bool root = geteuid() == 0;
	int r;

	if (strcmp(value, "no") == 0)
		return 0;
	if (strcmp(value, "yes") != 0)
		return COMPLAIN(at, "libvirt = %s: neither yes nor no", value);
	r = add_pattern(&at->conf->channels,
			str_printf("%s%s/libvirt/qemu/channel/target/"
				   "domain-{id}-{name}/" PORT_NAME,
				   root ? "/var/lib" : conf ? conf : home ? home : "",
				   root || conf ? "" : "/.config"));
	if (r < 0)
		return r;
	r = add_pattern(&at->conf->channels,
			str_printf("%s/serial/{name}.sock", dir_runtime()));
	if (r < 0)
		return r;
	return add_pattern(&at->conf->channels,
			   str_printf("%s/libvirt/qemu/%schannel/{id}-{name}/" PORT_NAME,
				      root || !run ? "/run" : run,
				      root ? "" : "run/"));
}

static const struct conf_key keys[] = {
	{ "hostd", "group", set_group },
	{ "hostd", "virtproxy", set_virtproxy },
	{ "hostd", "name", set_name },
	{ "hostd", "commands", set_commands },
	{ "hostd", "sandbox", set_sandbox },
	{ "hostd", "hang-limit", set_hang_limit },
	{ "hostd", "spin-limit", set_spin_limit },
	{ "hostd", "guest-calls", set_guest_calls },
	{ "hostd", "guest-streams", set_guest_streams },
	{ "hostd", "guest-stream-buffer", set_stream_buffer },
	{ "hostd", "guest-events", set_guest_events },
	{ "events", "max-age", set_max_age },
	{ "events", "max-count", set_max_count },
	{ "events", "hooks", set_hooks },
	{ "events", "hook-timeout", set_hook_timeout },
	{ "discover", "channels", set_channels },
	{ "discover", "libvirt", set_libvirt },
	{ "discover", "qmp", set_monitors },
	{ "discover", "serial", set_serial },
	{ "guest", "channel", set_channel },
	{ "guest", "qmp", set_qmp },
	{ "guest", "uuid", set_uuid },
};

static const struct conf_key *find_key(const struct place *at)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(keys[i].section, at->entry->section) == 0 &&
		    strcmp(keys[i].key, at->entry->key) == 0)
			return &keys[i];
	}
	return NULL;
}

/* A guest's name is text for people, and unique with its path id. */
static int check_name(const struct place *at, const char *name)
{
	size_t n = strlen(name);

	if (!n)
		return COMPLAIN(at, "a [guest NAME] section needs a name");
	if (n > HOSTD_NAME_MAX)
		return COMPLAIN(at, "a guest's name of %zu bytes: at most %u",
				n, HOSTD_NAME_MAX);
	if (!str_is_clean_text(name, n, ""))
		return COMPLAIN(at, "a guest's name is UTF-8 without control "
				    "characters");
	if (str_starts(name, KEYS_GROUP_WORD))
		return COMPLAIN(at, "guest \"%s\": " KEYS_GROUP_WORD
				    " stands for a group of guests", name);
	return 0;
}

static int add_guest(const struct place *at, const char *name,
		     struct guest_spec **ret)
{
	struct hostd_conf *c = at->conf;
	struct guest_spec *grown;

	if (check_name(at, name) < 0)
		return -EINVAL;
	if (c->nguests >= HOSTD_GUESTS_MAX)
		return COMPLAIN(at, "guest \"%s\": more than %u guests", name,
				HOSTD_GUESTS_MAX);
	grown = realloc(c->guests, (c->nguests + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	c->guests = grown;
	*ret = &grown[c->nguests];
	**ret = (struct guest_spec){ .line = at->entry->line };
	c->nguests++;
	(*ret)->name = strdup(name);
	(*ret)->file = strdup(at->entry->file);
	str_path_id(name, (*ret)->id);
	return (*ret)->name && (*ret)->file ? 0 : -ENOMEM;
}

/*
 * The guest of an entry's section: the last one, while file and name stay the
 * same; else a new one.  (A second [guest NAME] of the same name is therefore a
 * second guest, and check_unique() refuses it.)
 */
static int guest_of_entry(struct place *at, const struct conf_entry *prev)
{
	const struct conf_entry *e = at->entry;
	struct hostd_conf *c = at->conf;

	if (prev && strcmp(prev->section, "guest") == 0 &&
	    strcmp(prev->name, e->name) == 0 &&
	    strcmp(prev->file, e->file) == 0 && c->nguests) {
		at->guest = &c->guests[c->nguests - 1];
		return 0;
	}
	return add_guest(at, e->name, &at->guest);
}

static int take_entry(struct hostd_conf *c, const struct conf_entry *e,
		      const struct conf_entry *prev, struct message *msg)
{
	struct place at = { .conf = c, .entry = e, .msg = msg };
	const struct conf_key *row = find_key(&at);

	/* policy.c knows these. */
	if (strcmp(e->section, "policy") == 0)
		return 0;
	if (!row)
		return COMPLAIN(&at, "unknown key \"%s\" in section [%s]",
				e->key, e->section);
	if (strcmp(e->section, "guest") == 0) {
		int err = guest_of_entry(&at, prev);

		if (err < 0)
			return err;
	}
	return row->set(&at, e->value);
}

/* --guest NAME=CHANNEL */
static int take_word(struct hostd_conf *c, const char *word, unsigned number,
		     struct message *msg)
{
	struct conf_entry e = { .section = "guest", .key = "channel",
				.file = "--guest", .line = number };
	struct place at = { .conf = c, .entry = &e, .msg = msg };
	const char *eq = strchr(word, '=');
	CLEANUP_FREE char *name = NULL;
	int err;

	if (!eq)
		return COMPLAIN(&at, "\"%s\" is not NAME=METHOD:ADDR:PORT",
				word);
	name = strndup(word, (size_t)(eq - word));
	if (!name)
		return -ENOMEM;
	err = add_guest(&at, name, &at.guest);
	return err < 0 ? err : set_channel(&at, eq + 1);
}

static int by_id(const void *a, const void *b)
{
	const struct guest_spec *const *x = a, *const *y = b;

	return strcmp((*x)->id, (*y)->id);
}

/* Two guests of one name, or of two names with one path id. */
static int check_unique(const struct hostd_conf *c, struct message *msg)
{
	CLEANUP_FREE const struct guest_spec **sorted = NULL;

	sorted = calloc(c->nguests + 1, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < c->nguests; i++)
		sorted[i] = &c->guests[i];
	qsort(sorted, c->nguests, sizeof(*sorted), by_id);
	for (size_t i = 1; i < c->nguests; i++) {
		const struct guest_spec *a = sorted[i - 1], *b = sorted[i];

		if (strcmp(a->id, b->id) != 0)
			continue;
		if (strcmp(a->name, b->name) == 0)
			return complain(msg, b->file, b->line,
					"guest \"%s\" stands in %s:%u already",
					b->name, a->file, a->line);
		return complain(msg, b->file, b->line,
				"guest \"%s\" has the same directory name %s as "
				"guest \"%s\" in %s:%u",
				b->name, b->id, a->name, a->file, a->line);
	}
	return 0;
}

static int check_complete(const struct hostd_conf *c, struct message *msg)
{
	for (size_t i = 0; i < c->nguests; i++) {
		const struct guest_spec *g = &c->guests[i];

		if (!g->channel)
			return complain(msg, g->file, g->line,
					"guest \"%s\" has no channel", g->name);
	}
	return check_unique(c, msg);
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
		int err = take_word(c, words[i], (unsigned)i + 1, m);

		if (err < 0)
			return err;
	}
	return check_complete(c, m);
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

void guest_spec_done(struct guest_spec *s)
{
	free(s->name);
	free(s->channel);
	free(s->qmp);
	free(s->uuid);
	free(s->file);
	free(s->mark);
	*s = (struct guest_spec){ 0 };
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

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool guest_spec_same(const struct guest_spec *a, const struct guest_spec *b)
{
	return same_text(a->channel, b->channel) && same_text(a->qmp, b->qmp);
}
