/*
 * va-agent.c - the guest's agent: command line and start
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/options.h"
#include "common/str.h"
#include "virtagent/agent_conf.h"
#include "virtagent/agent_endpoint.h"
#include "virtagent/agent_server.h"
#include "virtagent/agent_spawner.h"
#include "virtagent/policy.h"

#define EXIT_USAGE 2

/* --- options -------------------------------------------------------------- */

static int set_text(char **field, const char *value, char *err, size_t err_size)
{
	free(*field);
	*field = strdup(value);
	if (*field)
		return 0;
	snprintf(err, err_size, "out of memory");
	return -ENOMEM;
}

/* A path that stays right after chdir("/"). */
static int set_path(char **field, const char *value, char *err, size_t err_size)
{
	char cwd[PATH_MAX];

	if (value[0] == '/' || !getcwd(cwd, sizeof(cwd)))
		return set_text(field, value, err, err_size);
	free(*field);
	*field = str_printf("%s/%s", cwd, value);
	return *field ? 0 : -ENOMEM;
}

static int opt_channel(void *ctx, const char *v, char *err, size_t n)
{
	struct agent_options *o = ctx;

	return set_text(&o->channel, v, err, n);
}

static int opt_config(void *ctx, const char *v, char *err, size_t n)
{
	struct agent_options *o = ctx;

	o->config_given = true;
	return set_path(&o->config, v, err, n);
}

static int opt_log(void *ctx, const char *v, char *err, size_t n)
{
	struct agent_options *o = ctx;

	if (strcmp(v, "stderr") == 0 || strcmp(v, "syslog") == 0)
		return set_text(&o->log, v, err, n);
	return set_path(&o->log, v, err, n);
}

static int opt_pid_file(void *ctx, const char *v, char *err, size_t n)
{
	struct agent_options *o = ctx;

	return set_path(&o->pid_file, v, err, n);
}

static int opt_daemon(void *ctx, const char *v, char *err, size_t n)
{
	struct agent_options *o = ctx;

	o->daemon = true;
	return 0;
}

static int opt_verbose(void *ctx, const char *v, char *err, size_t n)
{
	struct agent_options *o = ctx;

	o->verbose = 1;
	return 0;
}

static int set_fd(int *field, const char *v, char *err, size_t n)
{
	uint64_t fd;

	if (str_to_u64(v, INT_MAX, &fd) < 0) {
		snprintf(err, n, "\"%s\" is not a descriptor's number", v);
		return -EINVAL;
	}
	*field = (int)fd;
	return 0;
}

static int opt_server_fd(void *ctx, const char *v, char *err, size_t n)
{
	struct agent_options *o = ctx;

	return set_fd(&o->server_fd, v, err, n);
}

static int opt_role(void *ctx, const char *v, char *err, size_t n)
{
	struct agent_options *o = ctx;

	return set_text(&o->role, v, err, n);
}

static int opt_fd(void *ctx, const char *v, char *err, size_t n)
{
	struct agent_options *o = ctx;

	return set_fd(&o->fd, v, err, n);
}

static const struct option_row option_rows[] = {
	{ 'c', "channel", "METHOD:ADDR:PORT",
	  "the channel to the host, as in virtproxy(8); default: the port "
	  "org.virtagent.0", opt_channel },
	{ 'd', "daemon", NULL, "go to the background", opt_daemon },
	{ 'f', "config", "FILE", "default: agent.conf in the configuration "
	  "directory", opt_config },
	{ 'l', "log", "TARGET", "stderr, syslog or a file", opt_log },
	{ 'p', "pid-file", "FILE", "write and lock a pid file", opt_pid_file },
	{ 'v', "verbose", NULL, "log more", opt_verbose },
	{ 0, "server-fd", "N", "only serve, on the listening unix socket that is "
	  "descriptor N (virtproxy -g)", opt_server_fd },
	{ 0, "role", "ROLE", NULL, opt_role },
	{ 0, "fd", "N", NULL, opt_fd },
};

static const struct options options = {
	.program = "va-agent",
	.usage = "[OPTION...]",
	.about = "The guest's agent: answers the host's calls that come over a "
		 "serial channel.",
	.rows = option_rows,
	.nrows = sizeof(option_rows) / sizeof(option_rows[0]),
};

static void options_free(struct agent_options *o)
{
	char *texts[] = { o->program, o->channel, o->config, o->log, o->pid_file,
			  o->agent_socket, o->host_socket, o->ctl_socket, o->role,
			  o->commands };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		free(texts[i]);
}

/* --- start ---------------------------------------------------------------- */

static int run_role(const struct agent_options *o)
{
	if (strcmp(o->role, "spawner") == 0)
		return agent_spawner_main(o->fd, -1);
	if (strcmp(o->role, "server") == 0)
		return agent_server_main(o, o->fd);
	log_error("there is no role \"%s\"", o->role);
	return EXIT_USAGE;
}

static int run_daemon(const struct agent_options *o)
{
	int pid_fd = -1, r;
	pid_t holder;

	if (o->daemon) {
		r = daemon_detach();
		if (r < 0) {
			log_error("cannot go to the background: %s", strerror(-r));
			return 1;
		}
	}
	if (o->pid_file) {
		r = daemon_pidfile(o->pid_file, &pid_fd, &holder);
		if (r == -EBUSY)
			log_error("%s: process %d runs already", o->pid_file,
				  (int)holder);
		else if (r < 0)
			log_error("%s: %s", o->pid_file, strerror(-r));
		if (r < 0)
			return 1;
	}
	r = agent_endpoint_main(o);
	if (o->pid_file)
		daemon_pidfile_remove(o->pid_file, pid_fd);
	return r;
}

static int run(struct agent_options *o)
{
	CLEANUP(policy_free_p) struct policy *policy = NULL;
	char err[512];
	struct conf conf;
	int r;

	if (o->role && strcmp(o->role, "spawner") == 0)
		return run_role(o);
	r = agent_conf_read(o, &conf, err, sizeof(err));
	if (r == 0) {
		r = agent_conf_apply(&conf, o, err, sizeof(err));
		/* The server will read it again: a mistake is told here. */
		if (r == 0)
			r = policy_new(&conf, "guest", NULL, &policy, err,
				       sizeof(err));
		conf_done(&conf);
	}
	if (r < 0) {
		log_error("%s", err);
		return EXIT_USAGE;
	}
	if (o->verbose > 0)
		log_set_level(LOG_LVL_DEBUG);
	if (!o->role && o->server_fd < 0)
		return agent_server_program(&o->server_program) < 0 ? 1 : run_daemon(o);
	return o->role ? run_role(o) : agent_server_main(o, -1);
}

int main(int argc, char **argv)
{
	struct agent_options o = { .gid = (gid_t)-1, .verbose = -1,
				   .server_fd = -1, .fd = -1,
				   .server_program = -1 };
	int first, r;

	daemon_early_init();
	log_init("va-agent");
	o.program = realpath(argv[0], NULL);
	o.argv = argv;
	o.config = str_printf("%s/agent.conf", dir_conf());
	if (!o.config)
		return 1;
	r = options_parse(&options, &o, argc, argv, 0, &first);
	if (r == 0 && first < argc) {
		log_error("\"%s\": va-agent takes no operands", argv[first]);
		r = -EINVAL;
	}
	r = r == 1 ? 0 : r < 0 ? EXIT_USAGE : run(&o);
	options_free(&o);
	return r;
}
