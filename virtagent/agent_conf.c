/*
 * agent_conf.c - see agent_conf.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_conf.h"

#include <errno.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/commands.h"
#include "common/daemon.h"
#include "common/str.h"
#include "virtagent/agent_limits.h"

#define DEFAULT_CHANNEL "virtserial-open:/dev/virtio-ports/org.virtagent.0:-"

/* Keys of [agent]; those with a field are texts that an option may set too. */
static const struct key {
	const char *name;
	size_t field;
	const char *dflt; /* below dir_runtime() when it has no slash */
} keys[] = {
	{ "channel", offsetof(struct agent_options, channel), DEFAULT_CHANNEL },
	{ "log", offsetof(struct agent_options, log), NULL },
	{ "pid-file", offsetof(struct agent_options, pid_file), NULL },
	{ "socket", offsetof(struct agent_options, agent_socket), "agent.sock" },
	{ "host-socket", offsetof(struct agent_options, host_socket), "host.sock" },
	{ "ctl-socket", offsetof(struct agent_options, ctl_socket), "ctl.sock" },
	{ "commands", offsetof(struct agent_options, commands), LIBDIR_VA "/commands" },
	{ "group", 0, NULL },
	{ "verbose", 0, NULL },
};

static int check_keys(const struct conf *c, char *err, size_t err_size)
{
	for (size_t i = 0; i < c->count; i++) {
		const struct conf_entry *e = &c->entries[i];
		bool known = strcmp(e->section, "policy") == 0 ||
			     (strcmp(e->section, "agent") == 0 &&
			      agent_limits_key(e->key));

		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			known |= strcmp(e->section, "agent") == 0 &&
				 strcmp(e->key, keys[k].name) == 0;
		if (known)
			continue;
		snprintf(err, err_size, "%s:%u: there is no key \"%s\" in [%s]",
			 e->file, e->line, e->key, e->section);
		return -EINVAL;
	}
	return 0;
}

int agent_conf_read(const struct agent_options *o, struct conf *c, char *err,
		    size_t err_size)
{
	struct guest_limits limits;
	int r;

	*c = (struct conf){ 0 };
	if (!o->config_given && access(o->config, F_OK) < 0 && errno == ENOENT)
		return 0;
	r = conf_read_file(c, o->config, err, err_size);
	if (r == 0)
		r = check_keys(c, err, err_size);
	if (r == 0)
		r = agent_limits_read(c, &limits, err, err_size);
	if (r < 0)
		conf_done(c);
	return r;
}

static int apply_text(const struct conf *c, const struct key *k,
		      struct agent_options *o)
{
	char **field = (char **)(void *)((char *)o + k->field);
	const char *value = conf_get(c, "agent", "", k->name);

	if (*field)
		return 0;
	if (value)
		*field = strdup(value);
	else if (k->dflt && strchr(k->dflt, '/'))
		*field = strdup(k->dflt);
	else if (k->dflt)
		*field = str_printf("%s/%s", dir_runtime(), k->dflt);
	else
		return 0;
	return *field ? 0 : -ENOMEM;
}

/* Not by getgrnam(), which a static binary must not use. */
static int find_group(const char *name, gid_t *ret)
{
	CLEANUP_FCLOSE FILE *f = fopen("/etc/group", "re");
	struct group *g;

	while (f && (g = fgetgrent(f)))
		if (strcmp(g->gr_name, name) == 0) {
			*ret = g->gr_gid;
			return 0;
		}
	return -ENOENT;
}

static int apply_group(const struct conf *c, struct agent_options *o, char *err,
		       size_t err_size)
{
	const char *name = conf_get(c, "agent", "", "group");
	uint64_t number;

	o->gid = (gid_t)-1;
	if (!name)
		return 0;
	if (str_to_u64(name, UINT32_MAX - 1, &number) == 0) {
		o->gid = (gid_t)number;
		return 0;
	}
	if (find_group(name, &o->gid) == 0)
		return 0;
	snprintf(err, err_size, "%s: there is no group \"%s\"", o->config, name);
	return -EINVAL;
}

int agent_conf_apply(const struct conf *c, struct agent_options *o, char *err,
		     size_t err_size)
{
	const char *verbose = conf_get(c, "agent", "", "verbose");
	bool on = false;
	int r = 0;

	for (size_t k = 0; r == 0 && k < sizeof(keys) / sizeof(keys[0]); k++)
		if (keys[k].field)
			r = apply_text(c, &keys[k], o);
	if (r == 0 && !command_dirs_valid(o->commands)) {
		snprintf(err, err_size, "%s: commands = %s: needs absolute paths",
			 o->config, o->commands);
		return -EINVAL;
	}
	if (r == 0 && !o->log)
		r = (o->log = strdup(o->daemon ? "syslog" : "stderr")) ? 0 : -ENOMEM;
	if (r < 0) {
		snprintf(err, err_size, "out of memory");
		return r;
	}
	if (verbose && str_to_bool(verbose, &on) < 0) {
		snprintf(err, err_size, "%s: verbose = \"%s\" is neither yes nor no",
			 o->config, verbose);
		return -EINVAL;
	}
	if (o->verbose < 0)
		o->verbose = on;
	return apply_group(c, o, err, err_size);
}
