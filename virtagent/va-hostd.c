/*
 * va-hostd - the host's daemon: knows the guests, serves them, keeps their events
 *
 * One loop thread owns all state.  Each guest has a virtproxy process of its own,
 * which va-hostd starts and watches but does not own: it may be killed or
 * upgraded at any time, and the next va-hostd adopts the virtproxies with their
 * streams.  So SIGTERM ends this process only; `va-hostd --stop` ends them all.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/options.h"
#include "common/str.h"
#include "virtagent/codec.h"
#include "virtagent/host/hooks.h"
#include "virtagent/hostd.h"
#include "virtagent/hostd_discover.h"
#include "virtagent/hostd_guest.h"
#include "virtagent/hostd_keys.h"
#include "virtagent/hostd_server.h"
#include "virtagent/hostd_stop.h"
#include "virtagent/http_client.h"

#define PROGRAM "va-hostd"
#define EXIT_USAGE 2
#define TRIM_NS (20 * NSEC_PER_SEC) /* memory is given back; it takes a millisecond */
#define LOCK_NS (2 * NSEC_PER_SEC)

struct main_options {
	struct hostd_options opt;
	const char *pidfile;
	const char *virtproxy;
	char *config, *guests_dir; /* what opt's point to, when made here */
	bool daemon, stop;
};

struct daemon_state {
	struct hostd h;
	struct main_options *mo;
	struct server_port *port;
	struct hooks *hooks;
	struct loop_timer *trim;
	struct loop_signal *sigterm, *sigint, *sighup;
	int lock_fd, pid_fd;
};

/* --- options ------------------------------------------------------------ */

static int set_string(const char **member, const char *value)
{
	*member = value;
	return 0;
}

static int opt_config(void *ctx, const char *value, char *err, size_t size)
{
	struct main_options *mo = ctx;

	mo->opt.config_given = true;
	return set_string(&mo->opt.config, value);
}

static int opt_guest(void *ctx, const char *value, char *err, size_t size)
{
	struct main_options *mo = ctx;
	const char **grown = realloc(mo->opt.words, (mo->opt.nwords + 1) *
							    sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	grown[mo->opt.nwords++] = value;
	mo->opt.words = grown;
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
	return set_string(&((struct main_options *)ctx)->virtproxy, value);
}

static int opt_pidfile(void *ctx, const char *value, char *err, size_t size)
{
	return set_string(&((struct main_options *)ctx)->pidfile, value);
}

static int opt_log(void *ctx, const char *value, char *err, size_t size)
{
	return set_string(&((struct main_options *)ctx)->opt.log, value);
}

static int opt_daemon(void *ctx, const char *value, char *err, size_t size)
{
	((struct main_options *)ctx)->daemon = true;
	return 0;
}

static int opt_verbose(void *ctx, const char *value, char *err, size_t size)
{
	((struct main_options *)ctx)->opt.verbose = true;
	return 0;
}

static int opt_stop(void *ctx, const char *value, char *err, size_t size)
{
	((struct main_options *)ctx)->stop = true;
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

/* --- configuration ------------------------------------------------------ */

/* CONFDIR/hostd.conf, or the file given; guests.d beside it. */
static int find_config(struct main_options *mo)
{
	struct hostd_options *opt = &mo->opt;
	CLEANUP_FREE char *dir = NULL;
	const char *slash;

	if (!opt->config) {
		mo->config = str_printf("%s/hostd.conf", dir_conf());
		opt->config = mo->config;
	}
	if (!opt->config)
		return -ENOMEM;
	slash = strrchr(opt->config, '/');
	dir = slash ? strndup(opt->config, (size_t)(slash - opt->config)) :
		      strdup(".");
	if (!dir)
		return -ENOMEM;
	mo->guests_dir = str_printf("%s/guests.d", dir);
	opt->guests_dir = mo->guests_dir;
	return opt->guests_dir ? 0 : -ENOMEM;
}

static int load(const struct hostd_options *opt, struct hostd_conf *ret,
		char *err, size_t size)
{
	return hostd_conf_load(ret, opt->config, opt->config_given,
			       opt->guests_dir, opt->words, opt->nwords, err,
			       size);
}

/* Beside this program: installed, or in the build tree. */
static char *find_beside(void)
{
	static const char *const places[] = {
		"virtproxy", "virtproxy/virtproxy",
	};
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n <= 0)
		return NULL;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return NULL;
	*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char *path = str_printf("%s/%s", self, places[i]);
		struct stat st;

		if (path && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		    access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

static char *find_program(const struct daemon_state *d)
{
	char *path;

	if (d->mo->virtproxy)
		return strdup(d->mo->virtproxy);
	if (d->h.conf.virtproxy)
		return strdup(d->h.conf.virtproxy);
	path = find_beside();
	return path ? path : strdup(SBINDIR "/virtproxy");
}

static char *hooks_dir(const struct hostd_conf *c)
{
	return c->hooks ? strdup(c->hooks) :
			  str_printf("%s/hooks/events.d", dir_conf());
}

static void on_hup(int signo, void *arg)
{
	struct daemon_state *d = arg;
	CLEANUP_FREE char *dir = NULL;
	struct hostd_conf fresh;
	char err[768];

	log_reopen();
	if (load(&d->h.opt, &fresh, err, sizeof(err)) < 0) {
		log_error("%s; the configuration stays as it was", err);
		return;
	}
	hostd_conf_done(&d->h.conf);
	d->h.conf = fresh;
	dir = hooks_dir(&d->h.conf);
	if (dir)
		hooks_set(d->hooks, dir, d->h.conf.hook_timeout_ns);
	hostd_server_set_limits(d->h.server);
	hostd_server_set_commands(d->h.server);
	hostd_server_set_policies(d->h.server, take_ptr(d->h.conf.policies));
	events_set_limits(d->h.events, d->h.conf.event_age_ns,
			  d->h.conf.event_count, d->h.conf.guest_events);
	discover_reload(d->h.discover);
	hostd_sync_guests(&d->h);
	for (struct guest *g = d->h.guests; g; g = g->next)
		guest_keys_recompute(g->keys);
	log_info("configuration read again: %zu guests", d->h.conf.nguests);
}

static void on_term(int signo, void *arg)
{
	struct daemon_state *d = arg;

	log_info("signal %d: ending; virtproxies run on", signo);
	loop_stop(d->h.loop);
}

/* Calls to a thousand guests at once leave megabytes of holes. */
static void on_trim(void *arg)
{
	struct daemon_state *d = arg;

	malloc_trim(0);
	loop_timer_in(d->trim, TRIM_NS);
}

/* --- start and end ------------------------------------------------------ */

/* Each guest costs some descriptors here. */
static void raise_limits(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static int fail(const char *what, int err)
{
	log_error("%s: %s", what, strerror(-err));
	return err;
}

/* A program that a va-hostd just started has its lock until it is executed, also
 * when that va-hostd is killed at that moment: such a lock is waited for. */
static int lock_when_free(const char *path, int *fd, pid_t *holder)
{
	uint64_t until = clock_now() + (uint64_t)(clock_scale() * LOCK_NS);
	int err;

	while ((err = lock_file(path, fd, holder)) == -EBUSY &&
	       (*holder <= 0 || (kill(*holder, 0) < 0 && errno == ESRCH)) &&
	       clock_now() < until)
		usleep(10000);
	return err;
}

/* One va-hostd per runtime directory. */
static int take_lock(struct daemon_state *d)
{
	CLEANUP_FREE char *path = str_printf("%s/hostd.lock", dir_runtime());
	CLEANUP_FREE char *guests = str_printf("%s/guests", dir_runtime());
	pid_t holder = 0;
	int err;

	if (!path || !guests)
		return fail(dir_runtime(), -ENOMEM);
	err = dir_make_private(dir_runtime());
	if (err < 0)
		return fail(dir_runtime(), err);
	err = dir_make_private(guests);
	if (err < 0)
		return fail(guests, err);
	err = lock_when_free(path, &d->lock_fd, &holder);
	if (err == -EBUSY)
		log_error("another va-hostd runs already: process %d holds %s",
			  (int)holder, path);
	else if (err < 0)
		fail(path, err);
	return err;
}

static int open_group(const char *path, gid_t gid)
{
	if (gid == (gid_t)-1)
		return 0;
	return chown(path, (uid_t)-1, gid) < 0 || chmod(path, 0750) < 0 ?
		       -errno : 0;
}

static int open_directories(const struct daemon_state *d)
{
	CLEANUP_FREE char *guests = str_printf("%s/guests", dir_runtime());
	int err = guests ? open_group(dir_runtime(), d->h.conf.gid) : -ENOMEM;

	if (err == 0)
		err = open_group(guests, d->h.conf.gid);
	return err < 0 ? fail(dir_runtime(), err) : 0;
}

static void on_keys(void *arg, const char *guest)
{
	struct guest *g = guest_find(arg, guest);

	if (g)
		guest_keys_changed(g->keys);
}

static int make_events(struct daemon_state *d)
{
	struct hostd *h = &d->h;
	CLEANUP_FREE char *path = str_printf("%s/hostd.sqlite", dir_state());
	CLEANUP_FREE char *dir = hooks_dir(&h->conf);
	struct events_config cfg = {
		.loop = h->loop,
		.path = path,
		.max_age_ns = h->conf.event_age_ns,
		.max_count = h->conf.event_count,
		.per_sec = h->conf.guest_events,
	};
	int err = path && dir ? dir_make_private(dir_state()) : -ENOMEM;

	if (err < 0)
		return fail(dir_state(), err);
	h->events = events_new(&cfg);
	if (!h->events)
		return fail(path, -errno);
	h->keys = keys_new(h->loop, events_store(h->events));
	if (!h->keys)
		return fail("the keys", -ENOMEM);
	keys_on_change(h->keys, on_keys, h);
	d->hooks = hooks_new(h->loop, h->children, h->events, dir,
			     h->conf.hook_timeout_ns);
	return d->hooks ? 0 : fail(dir, -errno);
}

static int make_server(struct daemon_state *d)
{
	CLEANUP_FREE char *path = str_printf("%s/hostd.sock", dir_runtime());
	struct hostd *h = &d->h;

	h->multi = http_multi_new(h->loop);
	h->server = h->multi ? hostd_server_new(h) : NULL;
	if (!path || !h->server)
		return fail("the HTTP server", -errno);
	d->port = server_port_new(h->server, path, NULL, h->conf.gid);
	return d->port ? 0 : fail(path, -errno);
}

static int make_signals(struct daemon_state *d)
{
	struct loop *loop = d->h.loop;

	d->sigterm = loop_signal_new(loop, SIGTERM, on_term, d);
	d->sigint = loop_signal_new(loop, SIGINT, on_term, d);
	d->sighup = loop_signal_new(loop, SIGHUP, on_hup, d);
	d->trim = loop_timer_new(loop, on_trim, d);
	if (d->trim)
		loop_timer_in(d->trim, TRIM_NS);
	return d->trim && d->sigterm && d->sigint && d->sighup ? 0 : fail("signals", -errno);
}

static int set_up(struct daemon_state *d)
{
	int err = take_lock(d);

	if (err < 0)
		return err;
	d->h.loop = loop_new();
	d->h.children = d->h.loop ? children_new(d->h.loop) : NULL;
	if (!d->h.children)
		return fail("the event loop", -errno);
	d->h.program = find_program(d);
	if (!d->h.program)
		return -ENOMEM;
	err = open_directories(d);
	if (err == 0)
		err = make_signals(d);
	if (err == 0)
		err = make_events(d);
	if (err == 0)
		err = make_server(d);
	if (err == 0) {
		d->h.discover = discover_new(&d->h);
		err = d->h.discover ? 0 : fail("discovery", -errno);
	}
	return err;
}

static void tear_down(struct daemon_state *d)
{
	struct hostd *h = &d->h;

	while (h->guests) {
		struct guest *g = h->guests;

		h->guests = g->next;
		guest_free(g);
	}
	discover_free(h->discover);
	server_port_free(d->port);
	hostd_server_free(h->server);
	if (h->multi)
		http_multi_free(h->multi);
	hooks_free(d->hooks);
	keys_free(h->keys);
	events_free(h->events);
	loop_timer_free(d->trim);
	loop_signal_free(d->sigterm);
	loop_signal_free(d->sigint);
	loop_signal_free(d->sighup);
	children_free(h->children);
	if (h->loop)
		loop_free(h->loop);
	free(h->program);
	hostd_conf_done(&h->conf);
	if (d->lock_fd >= 0)
		close(d->lock_fd);
}

static int write_pidfile(struct daemon_state *d)
{
	pid_t holder = 0;
	int err;

	if (!d->mo->pidfile)
		return 0;
	err = daemon_pidfile(d->mo->pidfile, &d->pid_fd, &holder);
	if (err == -EBUSY)
		log_error("%s: held by process %d", d->mo->pidfile,
			  (int)holder);
	else if (err < 0)
		fail(d->mo->pidfile, err);
	return err;
}

static int serve(struct daemon_state *d)
{
	int err = set_up(d);

	if (err == 0)
		err = write_pidfile(d);
	if (err == 0) {
		hostd_stop_strays(&d->h);
		hostd_sync_guests(&d->h);
		log_info("serving %zu guests in %s",
			 d->h.conf.nguests + d->h.nfound,
			 dir_runtime());
		daemon_ready();
		err = loop_run(d->h.loop);
		daemon_notify("STOPPING=1");
	}
	tear_down(d);
	if (d->pid_fd >= 0)
		daemon_pidfile_remove(d->mo->pidfile, d->pid_fd);
	return err;
}

static int start_log(const struct main_options *mo)
{
	const char *target = mo->opt.log ? mo->opt.log :
			     mo->daemon	 ? "syslog" :
					   "stderr";
	int err;

	if (mo->opt.verbose)
		log_set_level(LOG_LVL_DEBUG);
	err = log_set_target(target);
	if (err < 0)
		log_error("log %s: %s", target, strerror(-err));
	return err;
}

static int run(struct main_options *mo)
{
	struct daemon_state d = { .mo = mo, .lock_fd = -1, .pid_fd = -1 };
	char err[768];

	if (find_config(mo) < 0)
		return EXIT_FAILURE;
	d.h.opt = mo->opt;
	if (load(&mo->opt, &d.h.conf, err, sizeof(err)) < 0) {
		log_error("%s", err);
		return EXIT_USAGE;
	}
	if (mo->daemon && daemon_detach() < 0)
		return EXIT_FAILURE;
	if (start_log(mo) < 0)
		return EXIT_FAILURE;
	return serve(&d) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void main_options_done(struct main_options *mo)
{
	free(mo->opt.words);
	free(mo->config);
	free(mo->guests_dir);
}

int main(int argc, char **argv)
{
	CLEANUP(main_options_done) struct main_options mo = { .daemon = false };
	int operand, res;

	daemon_early_init();
	log_init(PROGRAM);
	res = options_parse(&options, &mo, argc, argv, 0, &operand);
	if (res != 0)
		return res > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	if (operand < argc) {
		fprintf(stderr, PROGRAM ": %s: not an option\n", argv[operand]);
		return EXIT_USAGE;
	}
	if (mo.stop)
		return hostd_stop_all() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	raise_limits();
	if (http_global_init() < 0 || codec_global_init() < 0) {
		log_error("the HTTP and XML-RPC libraries do not start");
		return EXIT_FAILURE;
	}
	return run(&mo);
}
