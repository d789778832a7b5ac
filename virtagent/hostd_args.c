/*
 * hostd_args.c - va-hostd's command line, and the configuration that it names
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/daemon.h"
#include "common/options.h"
#include "common/str.h"
#include "virtagent/hostd_args.h"

#define PROGRAM "va-hostd"

static int set_string(const char **member, const char *value)
{
	*member = value;
	return 0;
}

static int opt_config(void *ctx, const char *value, char *err, size_t size)
{
	struct hostd_args *a = ctx;

	a->opt.config_given = true;
	return set_string(&a->opt.config, value);
}

static int opt_guest(void *ctx, const char *value, char *err, size_t size)
{
	struct hostd_args *a = ctx;
	const char **grown = realloc(a->opt.words, (a->opt.nwords + 1) *
							    sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	grown[a->opt.nwords++] = value;
	a->opt.words = grown;
	return 0;
}

/* The directories are common to all programs and read from the environment. */
static int set_dir(const char *variable, const char *value, char *err,
		   size_t size)
{
	if (value[0] != '/') {
		snprintf(err, size, "%s: not an absolute path", value);
		return -EINVAL;
	}
	return setenv(variable, value, 1) < 0 ? -errno : 0;
}

static int opt_runtime(void *ctx, const char *value, char *err, size_t size)
{
	return set_dir("VA_RUNTIME_DIR", value, err, size);
}

static int opt_state(void *ctx, const char *value, char *err, size_t size)
{
	return set_dir("VA_STATE_DIR", value, err, size);
}

static int opt_virtproxy(void *ctx, const char *value, char *err, size_t size)
{
	return set_string(&((struct hostd_args *)ctx)->virtproxy, value);
}

static int opt_pidfile(void *ctx, const char *value, char *err, size_t size)
{
	return set_string(&((struct hostd_args *)ctx)->pidfile, value);
}

static int opt_log(void *ctx, const char *value, char *err, size_t size)
{
	return set_string(&((struct hostd_args *)ctx)->opt.log, value);
}

static int opt_daemon(void *ctx, const char *value, char *err, size_t size)
{
	((struct hostd_args *)ctx)->daemon = true;
	return 0;
}

static int opt_verbose(void *ctx, const char *value, char *err, size_t size)
{
	((struct hostd_args *)ctx)->opt.verbose = true;
	return 0;
}

static int opt_stop(void *ctx, const char *value, char *err, size_t size)
{
	((struct hostd_args *)ctx)->stop = true;
	return 0;
}

static const struct option_row rows[] = {
	{ 'c', "config", "FILE", "read FILE instead of hostd.conf; guests.d "
	  "stands beside it", opt_config },
	{ 'g', "guest", "NAME=METHOD:ADDR:PORT", "a guest and its channel; may "
	  "be repeated", opt_guest },
	{ 'd', "daemon", NULL, "go to the background", opt_daemon },
	{ 0, "runtime-dir", "DIR", "where sockets are made", opt_runtime },
	{ 0, "state-dir", "DIR", "where events are kept", opt_state },
	{ 0, "virtproxy", "PATH", "the virtproxy program", opt_virtproxy },
	{ 'l', "log", "TARGET", "stderr, syslog or a file", opt_log },
	{ 'p', "pid-file", "FILE", "write the process id to FILE", opt_pidfile },
	{ 0, "stop", NULL, "end a running va-hostd and all its virtproxies",
	  opt_stop },
	{ 'v', "verbose", NULL, "log more", opt_verbose },
};

static const struct options options = {
	.program = PROGRAM,
	.usage = "[OPTION...]",
	.about = "Serves the guests of this host: starts a virtproxy for each, "
		 "answers their calls,\nkeeps their events.  SIGHUP reads the "
		 "configuration again; SIGTERM ends va-hostd\nand leaves the "
		 "virtproxies running for the next one.",
	.rows = rows,
	.nrows = sizeof(rows) / sizeof(rows[0]),
	.epilog = "Example:\n  va-hostd --guest "
		  "web=unix-connect:/run/vm/web.sock:-",
};

int hostd_args_parse(struct hostd_args *a, int argc, char **argv)
{
	int operand, res = options_parse(&options, a, argc, argv, 0, &operand);

	if (res != 0)
		return res;
	if (operand < argc) {
		fprintf(stderr, PROGRAM ": %s: not an option\n", argv[operand]);
		return -EINVAL;
	}
	return 0;
}

void hostd_args_done(struct hostd_args *a)
{
	free(a->opt.words);
	free(a->config);
	free(a->guests_dir);
}

int hostd_args_find_config(struct hostd_args *a)
{
	struct hostd_options *opt = &a->opt;
	CLEANUP_FREE char *dir = NULL;
	const char *slash;

	if (!opt->config) {
		a->config = str_printf("%s/hostd.conf", dir_conf());
		opt->config = a->config;
	}
	if (!opt->config)
		return -ENOMEM;
	slash = strrchr(opt->config, '/');
	dir = slash ? strndup(opt->config, (size_t)(slash - opt->config)) :
		      strdup(".");
	if (!dir)
		return -ENOMEM;
	a->guests_dir = str_printf("%s/guests.d", dir);
	opt->guests_dir = a->guests_dir;
	return opt->guests_dir ? 0 : -ENOMEM;
}

int hostd_options_load(const struct hostd_options *opt, struct hostd_conf *ret,
		       char *err, size_t size)
{
	return hostd_conf_load(ret, opt->config, opt->config_given,
			       opt->guests_dir, opt->words, opt->nwords, err,
			       size);
}
