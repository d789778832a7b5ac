/*
 * hostd_discover.c - guests that are found by their channels' sockets
 *
 * [discover] names patterns of paths (hostd_pattern.h).  {id} is a number of
 * libvirt's: of two sockets of one name the one with the higher number is the
 * running machine's.
 *
 * On each change below the directories that matter (inotify) everything is
 * looked at anew, a moment later: directories are watched first and listed then,
 * so that nothing that happens meanwhile is missed.  Of a directory that is not
 * there yet its nearest ancestor is watched.  Where the kernel gives no more
 * watches, and in any case now and then, one looks without being told.
 *
 * A guest that the configuration names wins over a found one of that name.
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
#include "common/log.h"
#include "common/str.h"
#include "virtagent/hostd_pattern.h"

#define SETTLE_NS (100 * NSEC_PER_MSEC) /* after a change, before looking */
#define LOOK_NS (60 * NSEC_PER_SEC)	/* without one */
#define LOOK_BLIND_NS (5 * NSEC_PER_SEC) /* without watches */
#define WATCH_FOR (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |            \
		   IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct discover {
	struct hostd *h;
	struct loop_timer *timer;
	struct loop_fd *src;
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
	for (size_t i = 0; i < c->npatterns; i++)
		watch_pattern(d, c->patterns[i]);
}

/* --- looking ----------------------------------------------------------------- */

struct finds {
	struct guest_spec *list;
	uint64_t *ids;
	size_t n;
};

static void finds_done(struct finds *f)
{
	for (size_t i = 0; i < f->n; i++)
		guest_spec_done(&f->list[i]);
	free(f->list);
	free(f->ids);
}

static bool usable_name(const char *name, const char *path)
{
	static struct log_limit limit = LOG_LIMIT_INIT;
	size_t n = strlen(name);
	char shown[512];

	if (n && n <= HOSTD_NAME_MAX && str_is_clean_text(name, n, ""))
		return true;
	log_ratelimited(&limit, LOG_LVL_WARNING, "%s: no guest: its name is not UTF-8 "
			"without control characters, or too long",
			log_escape(shown, sizeof(shown), path, strlen(path)));
	return false;
}

static bool is_configured(const struct hostd_conf *c, const char *id)
{
	for (size_t i = 0; i < c->nguests; i++)
		if (strcmp(c->guests[i].id, id) == 0)
			return true;
	return false;
}

static int make_spec(struct guest_spec *s, const char *name, const char *path)
{
	*s = (struct guest_spec){ .line = 0 };
	s->name = strdup(name);
	s->channel = str_printf("unix-connect:%s:-", path);
	s->file = strdup(path);
	str_path_id(name, s->id);
	if (s->name && s->channel && s->file)
		return 0;
	guest_spec_done(s);
	return -ENOMEM;
}

static int add_find(struct discover *d, struct finds *f, const char *name,
		    const char *path, uint64_t id)
{
	struct guest_spec spec, *list;
	uint64_t *ids;

	if (f->n >= HOSTD_GUESTS_MAX || !usable_name(name, path))
		return 0;
	if (make_spec(&spec, name, path) < 0)
		return -ENOMEM;
	if (is_configured(&d->h->conf, spec.id)) {
		guest_spec_done(&spec);
		return 0;
	}
	for (size_t i = 0; i < f->n; i++) {
		if (strcmp(f->list[i].id, spec.id) != 0)
			continue;
		if (id > f->ids[i]) {
			guest_spec_done(&f->list[i]);
			f->list[i] = spec;
			f->ids[i] = id;
		} else {
			guest_spec_done(&spec);
		}
		return 0;
	}
	list = realloc(f->list, (f->n + 1) * sizeof(*list));
	if (list)
		f->list = list;
	ids = list ? realloc(f->ids, (f->n + 1) * sizeof(*ids)) : NULL;
	if (!ids) {
		guest_spec_done(&spec);
		return -ENOMEM;
	}
	f->ids = ids;
	f->list[f->n] = spec;
	f->ids[f->n++] = id;
	return 0;
}

static void find_by(struct discover *d, const char *pattern, struct finds *f)
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
				add_find(d, f, name, g.gl_pathv[i], id);
	globfree(&g);
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
	const struct hostd_conf *c = &d->h->conf;
	struct hostd *h = d->h;
	struct finds now = { .n = 0 }, old = { h->found, NULL, h->nfound };
	bool changed = false;

	watch_all(d);
	for (size_t i = 0; i < c->npatterns; i++)
		find_by(d, c->patterns[i], &now);
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

void discover_reload(struct discover *d)
{
	look(d);
}

struct discover *discover_new(struct hostd *h)
{
	struct discover *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->h = h;
	d->fd = -1;
	d->timer = loop_timer_new(h->loop, on_timer, d);
	if (!d->timer) {
		free(d);
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
	all = (struct finds){ d->h->found, NULL, d->h->nfound };
	finds_done(&all);
	d->h->found = NULL;
	d->h->nfound = 0;
	loop_fd_free(d->src);
	if (d->fd >= 0)
		close(d->fd);
	loop_timer_free(d->timer);
	free(d);
}
