/*
 * va-hostd - the host's daemon: knows the guests, serves them, keeps their events
 *
 * Here is how it starts; its parts are hostd_daemon.c's.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/cleanup.h"
#include "common/daemon.h"
#include "common/log.h"
#include "virtagent/codec.h"
#include "virtagent/hostd_daemon.h"
#include "virtagent/hostd_stop.h"
#include "virtagent/http_client.h"

#define PROGRAM "va-hostd"
#define EXIT_USAGE 2

/* Each guest costs some descriptors here. */
static void raise_limits(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static int write_pidfile(const char *path, int *ret_fd)
{
	pid_t holder = 0;
	int err = daemon_pidfile(path, ret_fd, &holder);

	if (err == -EBUSY)
		log_error("%s: held by process %d", path, (int)holder);
	else if (err < 0)
		log_error("%s: %s", path, strerror(-err));
	return err;
}

/* conf is taken over. */
static int serve(const struct hostd_args *a, struct hostd_conf *conf)
{
	struct hostd_daemon *d = hostd_daemon_new(a, conf);
	int pid_fd = -1, err = d ? 0 : -errno;

	if (err == 0 && a->pidfile)
		err = write_pidfile(a->pidfile, &pid_fd);
	if (err == 0)
		err = hostd_daemon_run(d);
	hostd_daemon_free(d);
	if (pid_fd >= 0)
		daemon_pidfile_remove(a->pidfile, pid_fd);
	return err;
}

static int start_log(const struct hostd_args *a)
{
	const char *target = a->opt.log ? a->opt.log :
			     a->daemon	 ? "syslog" :
					   "stderr";
	int err;

	if (a->opt.verbose)
		log_set_level(LOG_LVL_DEBUG);
	err = log_set_target(target);
	if (err < 0)
		log_error("log %s: %s", target, strerror(-err));
	return err;
}

static int run(struct hostd_args *a)
{
	struct hostd_conf conf;
	char err[768];

	if (hostd_args_find_config(a) < 0)
		return EXIT_FAILURE;
	if (hostd_options_load(&a->opt, &conf, err, sizeof(err)) < 0) {
		log_error("%s", err);
		return EXIT_USAGE;
	}
	if ((a->daemon && daemon_detach() < 0) || start_log(a) < 0) {
		hostd_conf_done(&conf);
		return EXIT_FAILURE;
	}
	return serve(a, &conf) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	CLEANUP(hostd_args_done) struct hostd_args a = { .daemon = false };
	int res;

	daemon_early_init();
	log_init(PROGRAM);
	res = hostd_args_parse(&a, argc, argv);
	if (res != 0)
		return res > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	if (a.stop)
		return hostd_stop_all() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	raise_limits();
	if (http_global_init() < 0 || codec_global_init() < 0) {
		log_error("the HTTP and XML-RPC libraries do not start");
		return EXIT_FAILURE;
	}
	return run(&a);
}
