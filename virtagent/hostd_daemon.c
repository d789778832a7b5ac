/*
 * hostd_daemon.c - see hostd_daemon.h
 *
 * One loop thread owns all state.  Each guest has a virtproxy process of its own,
 * which va-hostd starts and watches but does not own: it may be killed or
 * upgraded at any time, and the next va-hostd adopts the virtproxies with their
 * streams.  So SIGTERM ends this process only; `va-hostd --stop` ends them all.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/hostd_daemon.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/host/hooks.h"
#include "virtagent/hostd_discover.h"
#include "virtagent/hostd_guest.h"
#include "virtagent/hostd_keys.h"
#include "virtagent/hostd_runtime.h"
#include "virtagent/hostd_server.h"
#include "virtagent/http_client.h"

#define TRIM_NS (20 * NSEC_PER_SEC) /* memory is given back; it takes a millisecond */

struct hostd_daemon {
	struct hostd h;
	const struct hostd_args *args;
	struct server_port *port;
	struct hooks *hooks;
	struct loop_timer *trim;
	struct loop_signal *sigterm, *sigint, *sighup;
	int lock_fd;
};

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

static char *find_program(const struct hostd_daemon *d)
{
	char *path;

	if (d->args->virtproxy)
		return strdup(d->args->virtproxy);
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

/* --- signals ------------------------------------------------------------ */

static void on_hup(int signo, void *arg)
{
	struct hostd_daemon *d = arg;
	CLEANUP_FREE char *dir = NULL;
	struct hostd_conf fresh;
	char err[768];

	log_reopen();
	if (hostd_options_load(&d->h.opt, &fresh, err, sizeof(err)) < 0) {
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
	struct hostd_daemon *d = arg;

	log_info("signal %d: ending; virtproxies run on", signo);
	loop_stop(d->h.loop);
}

/* Calls to a thousand guests at once leave megabytes of holes. */
static void on_trim(void *arg)
{
	struct hostd_daemon *d = arg;

	malloc_trim(0);
	loop_timer_in(d->trim, TRIM_NS);
}

/* --- making ------------------------------------------------------------- */

static int fail(const char *what, int err)
{
	log_error("%s: %s", what, strerror(-err));
	return err;
}

static void on_keys(void *arg, const char *guest)
{
	struct guest *g = guest_find(arg, guest);

	if (g)
		guest_keys_changed(g->keys);
}

static int make_events(struct hostd_daemon *d)
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

static int make_server(struct hostd_daemon *d)
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

static int make_signals(struct hostd_daemon *d)
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

static int set_up(struct hostd_daemon *d)
{
	int err = runtime_take(&d->lock_fd);

	if (err < 0)
		return err;
	d->h.loop = loop_new();
	d->h.children = d->h.loop ? children_new(d->h.loop) : NULL;
	if (!d->h.children)
		return fail("the event loop", -errno);
	d->h.program = find_program(d);
	if (!d->h.program)
		return -ENOMEM;
	err = runtime_open_to(d->h.conf.gid);
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

struct hostd_daemon *hostd_daemon_new(const struct hostd_args *args,
				      struct hostd_conf *conf)
{
	struct hostd_daemon *d = calloc(1, sizeof(*d));
	int err;

	if (!d) {
		hostd_conf_done(conf);
		fail("the daemon", -ENOMEM);
		errno = ENOMEM;
		return NULL;
	}
	d->args = args;
	d->lock_fd = -1;
	d->h.opt = args->opt;
	d->h.conf = *conf;
	*conf = (struct hostd_conf){ 0 };
	err = set_up(d);
	if (err == 0)
		return d;
	hostd_daemon_free(d);
	errno = -err;
	return NULL;
}

/* --- running, ending ---------------------------------------------------- */

int hostd_daemon_run(struct hostd_daemon *d)
{
	int err;

	hostd_stop_strays(&d->h);
	hostd_sync_guests(&d->h);
	log_info("serving %zu guests in %s", d->h.conf.nguests + d->h.nfound,
		 dir_runtime());
	daemon_ready();
	err = loop_run(d->h.loop);
	daemon_notify("STOPPING=1");
	return err;
}

void hostd_daemon_free(struct hostd_daemon *d)
{
	struct hostd *h;

	if (!d)
		return;
	h = &d->h;
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
	free(d);
}
