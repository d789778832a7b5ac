/*
 * hostd_discover.c - guests that are found by their sockets
 *
 * [discover] names patterns of paths (hostd_pattern.h), of channels and of QMP
 * monitors, whose machines are asked (hostd_monitor.c); and there are guests that
 * a port was plugged into (hostd_attached.h).  {id} is a number of libvirt's: of two
 * sockets of one name the one with the higher number is the running machine's.
 *
 * On each change below the directories that matter (inotify) everything is
 * looked at anew, a moment later: directories are watched first and listed then,
 * so that nothing that happens meanwhile is missed.  Of a directory that is not
 * there yet its nearest ancestor is watched.  Where the kernel gives no more
 * watches, and in any case now and then, one looks without being told.
 *
 * A guest that the configuration names wins over a found one of that name; of found
 * ones first come those that were attached, then channels, then monitors.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/hostd_discover.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/hostd_attached.h"
#include "virtagent/hostd_finds.h"
#include "virtagent/hostd_monitor.h"
#include "virtagent/hostd_pattern.h"
#include "virtproxy/virtproxy.h"

#define SETTLE_NS (100 * NSEC_PER_MSEC) /* after a change, before looking */
#define LOOK_NS (60 * NSEC_PER_SEC)	/* without one */
#define LOOK_BLIND_NS (5 * NSEC_PER_SEC) /* without watches */
#define WATCH_FOR (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |            \
		   IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct discover {
	struct hostd *h;
	struct loop_timer *timer;
	struct loop_fd *src;
	struct monitors *monitors;
	char *attached; /* that directory */
	char *serial;	/* where sockets of libvirt's serial lines are made */
	int fd;
	bool blind; /* a watch could not be had */
};

/* --- watching --------------------------------------------------------------- */

static void watch_one(struct discover *d, const char *dir)
{
	if (inotify_add_watch(d->fd, dir, WATCH_FOR) < 0 && errno != ENOENT &&
	    errno != ENOTDIR && errno != EACCES)
		d->blind = true;
}

/* The nearest ancestor of dir that is there. */
static void watch_ancestor(struct discover *d, const char *dir)
{
	CLEANUP_FREE char *copy = strdup(dir);
	struct stat st;
	char *slash;

	while (copy && (slash = strrchr(copy, '/')) && slash != copy) {
		*slash = '\0';
		if (stat(copy, &st) == 0) {
			watch_one(d, copy);
			return;
		}
	}
}

/* Every directory that a component of the pattern is looked for in. */
static void watch_pattern(struct discover *d, const char *pattern)
{
	bool wild = false;

	for (size_t i = 1; pattern[i]; i++) {
		CLEANUP_FREE char *dirs = NULL;
		glob_t g = { .gl_pathc = 0 };

		wild |= pattern[i] == '{' || pattern[i] == '*';
		/* The last directory before the first mark, and each behind it. */
		if (pattern[i] != '/')
			continue;
		if (!wild && strcspn(pattern + i + 1, "{*") >
				     strcspn(pattern + i + 1, "/"))
			continue;
		dirs = pattern_glob(pattern, i);
		if (dirs && glob(dirs, GLOB_NOSORT, NULL, &g) == 0)
			for (size_t k = 0; k < g.gl_pathc; k++)
				watch_one(d, g.gl_pathv[k]);
		else if (dirs && !wild)
			watch_ancestor(d, dirs);
		globfree(&g);
	}
}

static void on_change(int fd, unsigned events, void *arg)
{
	struct discover *d = arg;
	char drop[4096];

	while (read(fd, drop, sizeof(drop)) > 0)
		;
	loop_timer_in(d->timer, SETTLE_NS);
}

/* Watches anew: what was watched may be another directory by now. */
static void watch_all(struct discover *d)
{
	const struct hostd_conf *c = &d->h->conf;

	loop_fd_free(d->src);
	d->src = NULL;
	if (d->fd >= 0)
		close(d->fd);
	d->blind = false;
	d->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (d->fd >= 0)
		d->src = loop_fd_new(d->h->loop, d->fd, LOOP_READ, on_change, d);
	if (!d->src) {
		d->blind = true;
		return;
	}
	for (size_t i = 0; i < c->channels.n; i++)
		watch_pattern(d, c->channels.list[i]);
	for (size_t i = 0; i < c->monitors.n; i++)
		watch_pattern(d, c->monitors.list[i]);
	watch_one(d, d->attached);
}

/* --- looking ----------------------------------------------------------------- */

/* Said once in a while: it is looked at again and again. */
static void complain(const struct find *x, const char *why)
{
	static struct log_limit limit = LOG_LIMIT_INIT;
	char shown[512];

	log_ratelimited(&limit, LOG_LVL_WARNING, "%s: no guest: %s",
			log_escape(shown, sizeof(shown), x->file, strlen(x->file)), why);
}

/* A socket that matches a pattern. */
typedef void (*socket_fn)(struct discover *d, struct finds *f, const char *path,
			  const char *name, uint64_t id, const struct stat *st);

static void find_by(struct discover *d, const char *pattern, struct finds *f, socket_fn fn)
{
	CLEANUP_FREE char *paths = pattern_glob(pattern, strlen(pattern));
	char name[HOSTD_NAME_MAX + 2];
	glob_t g = { .gl_pathc = 0 };
	struct stat st;
	uint64_t id;

	if (paths && glob(paths, 0, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++)
			if (stat(g.gl_pathv[i], &st) == 0 && S_ISSOCK(st.st_mode) &&
			    pattern_match(pattern, g.gl_pathv[i], name,
					   sizeof(name), &id) == 0)
				fn(d, f, g.gl_pathv[i], name, id, &st);
	globfree(&g);
}

static void on_channel(struct discover *d, struct finds *f, const char *path,
		       const char *name, uint64_t id, const struct stat *st)
{
	CLEANUP_FREE char *channel = str_printf("unix-connect:%s:-", path);
	const struct find x = { .name = name, .channel = channel, .file = path, .id = id };
	const char *why;

	if (channel && finds_add(f, &x, &why) == -EINVAL)
		complain(&x, why);
}

/* A guest that was configured or attached with its monitor: that one is virtproxy's. */
static bool is_taken(const struct hostd_conf *c, const struct finds *f, const char *path)
{
	for (size_t i = 0; i < c->nguests; i++)
		if (c->guests[i].qmp && strcmp(c->guests[i].qmp, path) == 0)
			return true;
	for (size_t i = 0; i < f->n; i++)
		if (f->list[i].qmp && strcmp(f->list[i].qmp, path) == 0)
			return true;
	return false;
}

static void on_monitor(struct discover *d, struct finds *f, const char *path,
		       const char *name, uint64_t id, const struct stat *st)
{
	if (!is_taken(&d->h->conf, f, path))
		monitors_saw(d->monitors, path, name, st);
}

/* The directory of a channel, which shows when a port is unplugged. */
static void watch_channel(struct discover *d, const char *channel)
{
	struct vp_spec spec;
	char why[128], *slash;

	if (vp_parse_channel(channel, &spec, why, sizeof(why)) < 0 ||
	    spec.method != VP_UNIX_CONNECT || !(slash = strrchr(spec.addr, '/')))
		return;
	*slash = '\0';
	watch_one(d, spec.addr);
}

struct machines {
	struct discover *d;
	struct finds *f;
};

static void on_machine(void *arg, const struct monitor_machine *m)
{
	const struct machines *ms = arg;
	const struct find x = {
		.name = m->name, .channel = m->channel, .file = m->path,
		.qmp = m->path, .uuid = m->uuid[0] ? m->uuid : NULL, .mark = m->mark,
	};
	const char *why;
	int r = finds_add(ms->f, &x, &why);

	if (r == 0)
		watch_channel(ms->d, m->channel);
	monitors_verdict(ms->d->monitors, m->path, r < 0 ? why : NULL);
}

static void find_all(struct discover *d, struct finds *f)
{
	const struct hostd_conf *c = &d->h->conf;
	struct machines ms = { d, f };

	attached_find(f);
	for (size_t i = 0; i < c->channels.n; i++)
		find_by(d, c->channels.list[i], f, on_channel);
	monitors_look(d->monitors);
	for (size_t i = 0; i < c->monitors.n; i++)
		find_by(d, c->monitors.list[i], f, on_monitor);
	monitors_looked(d->monitors);
	monitors_each(d->monitors, on_machine, &ms);
}

static bool has(const struct guest_spec *list, size_t n, const struct guest_spec *s)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].id, s->id) == 0 && guest_spec_same(&list[i], s))
			return true;
	return false;
}

static void tell(struct hostd *h, const struct guest_spec *s, const char *event)
{
	struct va_value *data = va_struct();

	if (va_set(data, "socket", va_string(s->file)) < 0)
		return;
	log_info("guest %s: %s: %s", s->name, event, s->file);
	events_post(h->events, s->name, event, data);
}

/* True when h->found is not what it was. */
static bool look(struct discover *d)
{
	struct hostd *h = d->h;
	struct finds now = { .conf = &h->conf };
	struct finds old = { .list = h->found, .n = h->nfound };
	bool changed = false;

	watch_all(d);
	find_all(d, &now);
	for (size_t i = 0; i < old.n; i++)
		if (!has(now.list, now.n, &old.list[i])) {
			tell(h, &old.list[i], "guest-vanished");
			changed = true;
		}
	for (size_t i = 0; i < now.n; i++)
		if (!has(old.list, old.n, &now.list[i])) {
			tell(h, &now.list[i], "guest-appeared");
			changed = true;
		}
	h->found = take_ptr(now.list);
	h->nfound = now.n;
	now.n = 0;
	finds_done(&now);
	finds_done(&old);
	loop_timer_in(d->timer, d->blind ? LOOK_BLIND_NS : LOOK_NS);
	return changed;
}

static void on_timer(void *arg)
{
	struct discover *d = arg;

	if (look(d))
		hostd_sync_guests(d->h);
}

/* A machine was asked, or another one answers: what that comes to. */
static void on_known(void *arg)
{
	struct discover *d = arg;

	loop_timer_in(d->timer, 0);
}

void discover_reload(struct discover *d)
{
	if (monitors_set_serial(d->monitors, d->h->conf.serial) < 0)
		log_warning("[discover] serial: %s", strerror(ENOMEM));
	look(d);
}

struct va_value *discover_monitors(const struct discover *d)
{
	return monitors_facts(d->monitors);
}

struct discover *discover_new(struct hostd *h)
{
	struct discover *d = calloc(1, sizeof(*d));
	int r = -ENOMEM;

	if (!d)
		return NULL;
	d->h = h;
	d->fd = -1;
	d->timer = loop_timer_new(h->loop, on_timer, d);
	d->monitors = monitors_new(h->loop, on_known, d);
	d->attached = attached_dir();
	d->serial = str_printf("%s/serial", dir_runtime());
	if (d->timer && d->monitors && d->attached && d->serial)
		r = dir_make_private(d->attached);
	if (r == 0)
		r = dir_make_private(d->serial);
	if (r == 0)
		r = monitors_set_serial(d->monitors, h->conf.serial);
	if (r < 0) {
		discover_free(d);
		errno = -r;
		return NULL;
	}
	look(d);
	return d;
}

void discover_free(struct discover *d)
{
	struct finds all;

	if (!d)
		return;
	all = (struct finds){ .list = d->h->found, .n = d->h->nfound };
	finds_done(&all);
	d->h->found = NULL;
	d->h->nfound = 0;
	monitors_free(d->monitors);
	free(d->attached);
	free(d->serial);
	loop_fd_free(d->src);
	if (d->fd >= 0)
		close(d->fd);
	loop_timer_free(d->timer);
	free(d);
}
