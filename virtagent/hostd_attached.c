/*
 * hostd_attached.c - see hostd_attached.h
 *
 * The directory is private to the daemon's user, who alone can attach ports, and
 * conf.c reads no file that others may write.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/hostd_attached.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/conf.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/str.h"
#include "virtproxy/virtproxy.h"

#define LISTENING 0x10000u /* __SO_ACCEPTCON in /proc/net/unix */
#define PATHS_MAX (8u << 20) /* bytes of all that listen: 70000 paths of full length */

char *attached_dir(void)
{
	return str_printf("%s/attached", dir_runtime());
}

static const char *guest_key(const struct conf *c, const char *name, const char *key)
{
	return conf_get(c, "guest", name, key);
}

/* The paths that somebody listens at, read when first asked for. */
struct listeners {
	bool asked, known;
	struct buf paths; /* each with its NUL */
};

static void listeners_done(struct listeners *l)
{
	buf_done(&l->paths);
}

static void listeners_read(struct listeners *l)
{
	CLEANUP_FCLOSE FILE *f = fopen("/proc/net/unix", "re");
	CLEANUP_FREE char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int err = 0;

	l->asked = true;
	buf_init(&l->paths, PATHS_MAX);
	while (f && err == 0 && (len = getline(&line, &size, f)) > 0) {
		unsigned flags;
		int at = 0;

		if (line[len - 1] == '\n')
			line[--len] = '\0';
		/* Num: RefCount Protocol Flags Type St Inode Path */
		if (sscanf(line, "%*s %*s %*s %x %*s %*s %*s %n", &flags, &at) == 1 &&
		    at && (flags & LISTENING))
			err = buf_put(&l->paths, line + at, (size_t)(len - at) + 1);
	}
	l->known = f && err == 0 && feof(f);
}

/*
 * Does nobody listen at the path?  To connect would show it too, but a QEMU that
 * listens would take that for its client.  In doubt, somebody does.
 */
static bool is_deserted(struct listeners *l, const char *path)
{
	const char *p, *end;

	if (!l->asked)
		listeners_read(l);
	p = (const char *)buf_data(&l->paths);
	end = p + buf_len(&l->paths);
	for (; l->known && p < end; p += strlen(p) + 1)
		if (strcmp(p, path) == 0)
			return false;
	return l->known;
}

/* The port is gone, and with it the socket; or QEMU was killed and left it. */
static bool is_over(struct listeners *l, const char *channel)
{
	struct vp_spec spec;
	struct stat st;
	char why[128];

	if (vp_parse_channel(channel, &spec, why, sizeof(why)) < 0 ||
	    spec.method != VP_UNIX_CONNECT)
		return false;
	if (lstat(spec.addr, &st) < 0)
		return errno == ENOENT;
	if (!is_deserted(l, spec.addr))
		return false;
	unlink(spec.addr);
	return true;
}

static void take_file(struct finds *f, struct listeners *l, const char *path)
{
	static struct log_limit limit = LOG_LIMIT_INIT;
	CLEANUP(conf_done) struct conf c = { 0 };
	struct find x = { .file = path };
	char err[512] = "it names no guest and channel";
	const char *why = err;

	if (conf_read_file(&c, path, err, sizeof(err)) == 0)
		for (size_t i = 0; i < c.count && !x.name; i++)
			if (strcmp(c.entries[i].section, "guest") == 0)
				x.name = c.entries[i].name;
	if (x.name) {
		x.channel = guest_key(&c, x.name, "channel");
		x.qmp = guest_key(&c, x.name, "qmp");
		x.uuid = guest_key(&c, x.name, "uuid");
	}
	if (x.channel && is_over(l, x.channel)) {
		log_info("guest %s: its port is gone: removing %s", x.name, path);
		unlink(path);
		return;
	}
	if (!x.channel || finds_add(f, &x, &why) < 0)
		log_ratelimited(&limit, LOG_LVL_WARNING, "%s: no guest: %s", path, why);
}

void attached_find(struct finds *f)
{
	CLEANUP_FREE char *dir = attached_dir();
	CLEANUP_CLOSEDIR DIR *d = dir ? opendir(dir) : NULL;
	CLEANUP(listeners_done) struct listeners l = { .asked = false };
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		CLEANUP_FREE char *path = str_printf("%s/%s", dir, e->d_name);
		const char *dot = strrchr(e->d_name, '.');

		if (path && e->d_name[0] != '.' && dot && strcmp(dot, ".conf") == 0)
			take_file(f, &l, path);
	}
}
