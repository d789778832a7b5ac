/*
 * settings.c - the command line of virtproxy(8)
 *
 * The short options are those of qemu-vp, the program's first life; -V was taken
 * and ignored there and is so here.  Options about one channel (--name, --ctl,
 * --qmp, --probe, --long-rest, --role) belong to the -c before them, or to the first.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/settings.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/options.h"
#include "common/str.h"

static struct channel_setting *latest(struct settings *s)
{
	return &s->channels[s->nchannels ? s->nchannels - 1 : 0];
}

static int set_channel(void *ctx, const char *value, char *err, size_t err_size)
{
	struct settings *s = ctx;
	struct vp_spec spec;
	int r = vp_parse_channel(value, &spec, err, err_size);

	if (r < 0)
		return r;
	if (s->nchannels == CHANNELS_MAX) {
		snprintf(err, err_size, "more than %u channels", CHANNELS_MAX);
		return -EINVAL;
	}
	if (settings_channel(s, spec.id)) {
		snprintf(err, err_size, "channel id %u is given twice; number them: "
			 "METHOD:ADDR:PORT:ID", spec.id);
		return -EINVAL;
	}
	s->channels[s->nchannels++].spec = spec;
	return 0;
}

static int add_forward(struct vp_spec *list, size_t *n, const char *value, char *err,
		       size_t err_size)
{
	if (*n == FORWARDS_MAX) {
		snprintf(err, err_size, "more than %u forwards", FORWARDS_MAX);
		return -EINVAL;
	}
	return vp_parse_forward(value, &list[(*n)++], err, err_size);
}

static int set_oforward(void *ctx, const char *value, char *err, size_t err_size)
{
	struct settings *s = ctx;

	return add_forward(s->oforwards, &s->noforwards, value, err, err_size);
}

static int set_iforward(void *ctx, const char *value, char *err, size_t err_size)
{
	struct settings *s = ctx;

	return add_forward(s->iforwards, &s->niforwards, value, err, err_size);
}

static int set_guest_agent(void *ctx, const char *value, char *err, size_t err_size)
{
	struct settings *s = ctx;
	uint64_t id = 0;

	if (value && str_to_u64(value, 9999, &id) < 0) {
		snprintf(err, err_size, "%s is not a channel id", value);
		return -EINVAL;
	}
	if (s->nagents == CHANNELS_MAX) {
		snprintf(err, err_size, "more than %u guest agents", CHANNELS_MAX);
		return -EINVAL;
	}
	s->agent_ids[s->nagents++] = (unsigned)id;
	return 0;
}

static int set_role(void *ctx, const char *value, char *err, size_t err_size)
{
	struct settings *s = ctx;

	if (strcmp(value, "host") == 0)
		latest(s)->role = ROLE_HOST;
	else if (strcmp(value, "guest") == 0)
		latest(s)->role = ROLE_GUEST;
	else {
		snprintf(err, err_size, "%s is neither host nor guest", value);
		return -EINVAL;
	}
	return 0;
}

static int set_group(void *ctx, const char *value, char *err, size_t err_size)
{
	struct settings *s = ctx;
	struct group *g = getgrnam(value);
	uint64_t gid;

	if (g)
		s->gid = g->gr_gid;
	else if (str_to_u64(value, UINT32_MAX - 1, &gid) == 0)
		s->gid = (gid_t)gid;
	else {
		snprintf(err, err_size, "there is no group %s", value);
		return -EINVAL;
	}
	return 0;
}

#define TEXT_SETTER(name, target)                                              \
	static int set_##name(void *ctx, const char *value, char *err,         \
			      size_t err_size)                                 \
	{                                                                      \
		struct settings *s = ctx;                                      \
                                                                               \
		(target) = value;                                              \
		return 0;                                                      \
	}
#define FLAG_SETTER(name, target)                                              \
	static int set_##name(void *ctx, const char *value, char *err,         \
			      size_t err_size)                                 \
	{                                                                      \
		struct settings *s = ctx;                                      \
                                                                               \
		(target) = true;                                               \
		return 0;                                                      \
	}

TEXT_SETTER(name, latest(s)->name)
TEXT_SETTER(ctl, latest(s)->ctl)
TEXT_SETTER(qmp, latest(s)->qmp)
FLAG_SETTER(probe, latest(s)->probe)
FLAG_SETTER(long_rest, latest(s)->long_rest)
TEXT_SETTER(log, s->log)
TEXT_SETTER(pidfile, s->pidfile)
TEXT_SETTER(status, s->status)
FLAG_SETTER(json, s->json)
FLAG_SETTER(daemon, s->daemon)
FLAG_SETTER(no_sandbox, s->no_sandbox)
FLAG_SETTER(verbose, s->verbose)

static int set_nothing(void *ctx, const char *value, char *err, size_t err_size)
{
	return 0;
}

static const struct option_row rows[] = {
	{ 'c', "channel", "METHOD:ADDR:PORT[:ID]", "a channel to the other side",
	  set_channel },
	{ 'o', "oforward", "SERVICE:ADDR:PORT[:ID]",
	  "listen there; connections go to the peer's SERVICE", set_oforward },
	{ 'i', "iforward", "SERVICE:ADDR:PORT[:ID]",
	  "the peer's connections to SERVICE go there", set_iforward },
	{ 'g', "guest-agent", "[ID]", "run va-agent as service virtagent", set_guest_agent },
	{ 0, "role", "host|guest", "which end of the channel this is", set_role },
	{ 0, "probe", NULL, "greet a serial line before the guest has spoken", set_probe },
	{ 0, "long-rest", NULL, "one of very many channels: fewer beacons", set_long_rest },
	{ 0, "qmp", "PATH", "QMP socket of the VM, for hints", set_qmp },
	{ 0, "name", "NAME", "the channel's name in the log", set_name },
	{ 0, "ctl", "PATH", "control socket of the channel", set_ctl },
	{ 0, "group", "GROUP", "let GROUP use the sockets made here", set_group },
	{ 0, "log", "TARGET", "stderr, syslog or a file", set_log },
	{ 0, "pidfile", "PATH", "write the process id there", set_pidfile },
	{ 0, "daemon", NULL, "run in the background", set_daemon },
	{ 0, "no-sandbox", NULL, "do without confinement", set_no_sandbox },
	{ 0, "status", "CTL", "ask a running virtproxy and exit", set_status },
	{ 0, "json", NULL, "with --status: as a JSON object", set_json },
	{ 'v', "verbose", NULL, "log more", set_verbose },
	{ 'V', NULL, NULL, NULL, set_nothing },
};

static const struct options virtproxy_options = {
	.program = "virtproxy",
	.about = "Carries the connections of named services over one serial channel\n"
		 "between a host and its guest.  See virtproxy(8).",
	.rows = rows,
	.nrows = sizeof(rows) / sizeof(rows[0]),
	.epilog = "METHOD is unix-connect, unix-listen, tcp-connect, tcp-listen,\n"
		  "virtserial-open, isaserial-open, pty-open or fd.  PORT \"-\" means that\n"
		  "ADDR is a path.  ID names the channel; it is 0 where left out.",
};

struct channel_setting *settings_channel(struct settings *s, unsigned id)
{
	for (size_t i = 0; i < s->nchannels; i++)
		if (s->channels[i].spec.id == id)
			return &s->channels[i];
	return NULL;
}

bool settings_is_guest(const struct channel_setting *c)
{
	if (c->role != ROLE_BY_METHOD)
		return c->role == ROLE_GUEST;
	return c->guest_agent || c->spec.method == VP_VIRTSERIAL_OPEN ||
	       c->spec.method == VP_ISASERIAL_OPEN;
}

__attribute__((format(printf, 1, 2)))
static int complain(const char *fmt, ...)
{
	va_list ap;

	fputs("virtproxy: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\nTry \"virtproxy --help\".\n", stderr);
	return -EINVAL;
}

static int check_forwards(struct settings *s, const struct vp_spec *list, size_t n,
			  char letter)
{
	for (size_t i = 0; i < n; i++)
		if (!settings_channel(s, list[i].id))
			return complain("-%c %s:%s:%s: there is no channel %u", letter,
					list[i].name, list[i].addr, list[i].port,
					list[i].id);
	return 0;
}

static int check(struct settings *s)
{
	struct channel_setting *c;
	int r;

	if (s->nchannels == 0)
		return complain("no channel is given (-c METHOD:ADDR:PORT)");
	r = check_forwards(s, s->oforwards, s->noforwards, 'o');
	if (r == 0)
		r = check_forwards(s, s->iforwards, s->niforwards, 'i');
	for (size_t i = 0; r == 0 && i < s->nagents; i++) {
		c = settings_channel(s, s->agent_ids[i]);
		if (!c)
			return complain("-g%u: there is no channel %u", s->agent_ids[i],
					s->agent_ids[i]);
		if (c->guest_agent)
			return complain("-g%u is given twice", s->agent_ids[i]);
		c->guest_agent = true;
	}
	return r;
}

/* A daemon works in "/": what was relative to the shell's directory no longer
 * is.  The strings live as long as the process. */
static int absolute(const char **path, const char *cwd)
{
	if (!*path || **path == '/')
		return 0;
	*path = str_printf("%s/%s", cwd, *path);
	return *path ? 0 : -ENOMEM;
}

static int absolute_spec(struct vp_spec *spec, const char *cwd)
{
	char old[sizeof(spec->addr)];

	if (strcmp(spec->port, "-") != 0 || spec->addr[0] == '/')
		return 0;
	memcpy(old, spec->addr, sizeof(old));
	if ((size_t)snprintf(spec->addr, sizeof(spec->addr), "%s/%s", cwd, old) >=
	    sizeof(spec->addr))
		return -ENAMETOOLONG;
	return 0;
}

int settings_make_absolute(struct settings *s)
{
	char cwd[512];
	int r = getcwd(cwd, sizeof(cwd)) ? 0 : -errno;

	for (size_t i = 0; r == 0 && i < s->nchannels; i++) {
		enum vp_method method = s->channels[i].spec.method;

		/* A port may go by its name alone, a descriptor is a number. */
		if (method != VP_VIRTSERIAL_OPEN && method != VP_FD)
			r = absolute_spec(&s->channels[i].spec, cwd);
		if (r == 0)
			r = absolute(&s->channels[i].ctl, cwd);
		if (r == 0)
			r = absolute(&s->channels[i].qmp, cwd);
	}
	for (size_t i = 0; r == 0 && i < s->noforwards; i++)
		r = absolute_spec(&s->oforwards[i], cwd);
	for (size_t i = 0; r == 0 && i < s->niforwards; i++)
		r = absolute_spec(&s->iforwards[i], cwd);
	if (r == 0)
		r = absolute(&s->pidfile, cwd);
	if (r == 0 && s->log && strcmp(s->log, "stderr") != 0 &&
	    strcmp(s->log, "syslog") != 0)
		r = absolute(&s->log, cwd);
	return r;
}

int settings_parse(struct settings *s, int argc, char **argv)
{
	int operand, r;

	s->gid = (gid_t)-1;
	r = options_parse(&virtproxy_options, s, argc, argv, 0, &operand);
	if (r != 0)
		return r;
	if (operand < argc)
		return complain("unexpected argument \"%s\"", argv[operand]);
	return s->status ? 0 : check(s);
}
