/*
 * hostd_conf_keys.c - the keys of hostd.conf: which there are, what each takes
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/commands.h"
#include "common/daemon.h"
#include "common/str.h"
#include "virtagent/hostd_conf_priv.h"
#include "virtagent/hostd_pattern.h"
#include "virtagent/limits.h"
#include "virtproxy/virtproxy.h"

#define PORT_NAME "org.virtagent.0"
#define EVENT_AGE_MAX (3650 * UINT64_C(24) * 3600 * NSEC_PER_SEC)
#define EVENT_COUNT_MAX 10000000u
#define HOOK_TIMEOUT_MAX (3600 * NSEC_PER_SEC)
#define WATCH_MAX (24 * 3600 * NSEC_PER_SEC)

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

const struct conf_key *hostd_conf_key(const struct conf_entry *e)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(keys[i].section, e->section) == 0 &&
		    strcmp(keys[i].key, e->key) == 0)
			return &keys[i];
	}
	return NULL;
}
