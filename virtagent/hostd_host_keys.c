/*
 * hostd_host_keys.c - host.*: what the host that runs the guest says of itself
 *
 *	host.name	the host's name, or what hostd.conf says
 *	host.uuid	its /etc/machine-id
 *	host.version	of virtagent
 *	host.attached	when the guest's agent was first heard here (UTC)
 *	host.NAME	of each file CONFDIR/keys.d/NAME: its bytes; of an
 *			executable what it prints (VA_GUEST names the guest)
 *
 * They are computed when a guest's agent begins to answer, and when the
 * configuration is read again.  A file that cannot be read, a program that fails
 * or takes longer than RUN_NS, or what is larger than a key may be, is logged and
 * leaves the key as it was; a file that is not there any more takes its key away.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/hostd_guest.h"
#include "virtagent/hostd_host_keys.h"

#define RUN_NS (10 * NSEC_PER_SEC)
#define FILES_MAX 256u /* looked at in keys.d */
#define RUNS_MAX 4u    /* of one guest at once */

/* One program of keys.d that runs for one guest. */
struct run {
	struct run *next;
	struct host_keys *hk;
	pid_t pid;
	char *name; /* the key's */
	int fd;
	struct loop_fd *src;
	struct loop_timer *timer;
	struct buf out;
	bool eof, over, bad;
	int status;
};

struct host_keys {
	struct hostd *h;
	struct guest *g;
	struct run *runs;
	char **waiting; /* programs still to be run, malloc'ed names */
	size_t nwaiting;
};

static const char *const built_in_names[] = {
	"host.name", "host.uuid", "host.version", "host.attached",
};
#define BUILT_IN_COUNT (sizeof(built_in_names) / sizeof(built_in_names[0]))

static void set_key(struct host_keys *hk, const char *name, const void *value,
		    size_t size)
{
	const struct key_change c = { .name = name, .value = value,
				      .size = size, .owner = KEY_OF_HOST };
	int err = keys_post(hk->h->keys, hk->g->spec.name, &c, 1);

	if (err < 0)
		log_warning("guest %s: key %s: %s", hk->g->spec.name, name,
			    strerror(-err));
}

static void set_text(struct key_change *c, const char *name, const char *value)
{
	*c = (struct key_change){ .name = name, .value = value,
				  .size = strlen(value), .owner = KEY_OF_HOST };
}

static void built_in(struct host_keys *hk, bool fresh)
{
	CLEANUP_FCLOSE FILE *f = fopen("/etc/machine-id", "re");
	char name[256] = "", uuid[64] = "", when[32];
	struct key_change c[BUILT_IN_COUNT];
	time_t now = time(NULL);
	struct tm tm;
	int err;

	hostd_conf_hostname(&hk->h->conf, name, sizeof(name));
	if (f && !fgets(uuid, sizeof(uuid), f))
		uuid[0] = '\0';
	uuid[strcspn(uuid, "\n")] = '\0';
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	set_text(&c[0], built_in_names[0], name);
	set_text(&c[1], built_in_names[1], uuid);
	set_text(&c[2], built_in_names[2], PACKAGE_VERSION);
	/* The last one: only when the guest is new here. */
	set_text(&c[3], built_in_names[3], when);
	err = keys_post(hk->h->keys, hk->g->spec.name, c,
			fresh ? BUILT_IN_COUNT : BUILT_IN_COUNT - 1);
	if (err < 0)
		log_warning("guest %s: host.* keys: %s", hk->g->spec.name,
			    strerror(-err));
}

/* --- programs --------------------------------------------------------------- */

static void start_waiting(struct host_keys *hk);

static void run_free(struct run *r)
{
	loop_fd_free(r->src);
	loop_timer_free(r->timer);
	if (r->fd >= 0)
		close(r->fd);
	buf_done(&r->out);
	free(r->name);
	free(r);
}
DEFINE_CLEANUP(struct run, run_free);

/* Ended, and its output read: the key is what it printed. */
static void finish(struct run *r)
{
	struct host_keys *hk = r->hk;
	char text[64];

	if (!r->over || !r->eof)
		return;
	for (struct run **p = &hk->runs; *p; p = &(*p)->next) {
		if (*p == r) {
			*p = r->next;
			break;
		}
	}
	if (r->bad || r->status)
		log_warning("guest %s: keys.d/%s: %s; the key stays as it was",
			    hk->g->spec.name, r->name + strlen("host."),
			    r->bad ? "prints more than a key may have" :
				     child_status_text(r->status, text,
						       sizeof(text)));
	else
		set_key(hk, r->name, buf_data(&r->out), buf_len(&r->out));
	run_free(r);
	start_waiting(hk);
}

static void end_output(struct run *r)
{
	loop_fd_free(take_ptr(r->src));
	r->eof = true;
	finish(r);
}

static void on_output(int fd, unsigned events, void *arg)
{
	struct run *r = arg;
	ssize_t n = buf_read_fd(&r->out, fd, 64u << 10);

	if (n > 0 || n == -EAGAIN || n == -EINTR)
		return;
	if (n == -EMSGSIZE) {
		r->bad = true;
		if (!r->over)
			kill(-r->pid, SIGKILL);
	}
	end_output(r);
}

/* What it started may hold its output open: not waited for. */
static void on_timeout(void *arg)
{
	struct run *r = arg;

	if (!r->over) {
		log_warning("guest %s: keys.d/%s: still running after %llu s; "
			    "killed", r->hk->g->spec.name,
			    r->name + strlen("host."),
			    (unsigned long long)(RUN_NS / NSEC_PER_SEC));
		kill(-r->pid, SIGKILL);
	}
	if (!r->eof)
		end_output(r);
}

static void on_exit_(void *arg, pid_t pid, int status)
{
	struct run *r = arg;

	r->over = true;
	r->status = status;
	finish(r);
}

static int start_child(struct run *r, const char *path, int fd_out)
{
	CLEANUP_FREE char *guest = str_printf("VA_GUEST=%s",
					      r->hk->g->spec.name);
	const char *const argv[] = { path, NULL };
	const char *const envp[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
		"/bin", "VA_SIDE=host", guest, NULL,
	};
	const struct child_spec spec = { .path = path, .argv = argv,
					 .envp = envp, .fd_in = -1,
					 .fd_out = fd_out, .fd_err = -1 };

	if (!guest)
		return -ENOMEM;
	r->pid = child_start(r->hk->h->children, &spec, on_exit_, r);
	return r->pid < 0 ? (int)r->pid : 0;
}

static int start_run(struct host_keys *hk, const char *file)
{
	CLEANUP_FREE char *path = str_printf("%s/keys.d/%s", dir_conf(), file);
	CLEANUP(run_free_p) struct run *r = calloc(1, sizeof(*r));
	int p[2], err;

	if (!r || !path)
		return -ENOMEM;
	r->fd = -1;
	r->hk = hk;
	r->name = str_printf("host.%s", file);
	buf_init(&r->out, KEY_VALUE_MAX);
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	r->fd = p[0];
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	r->src = loop_fd_new(hk->h->loop, r->fd, LOOP_READ, on_output, r);
	r->timer = loop_timer_new(hk->h->loop, on_timeout, r);
	err = r->name && r->src && r->timer ? start_child(r, path, p[1]) :
					      -ENOMEM;
	close(p[1]);
	if (err < 0)
		return err;
	loop_timer_in(r->timer, (uint64_t)(clock_scale() * RUN_NS));
	r->next = hk->runs;
	hk->runs = take_ptr(r);
	return 0;
}

static void start_waiting(struct host_keys *hk)
{
	size_t running = 0;

	for (const struct run *r = hk->runs; r; r = r->next)
		running++;
	while (hk->nwaiting && running < RUNS_MAX) {
		CLEANUP_FREE char *file = hk->waiting[--hk->nwaiting];
		int err = start_run(hk, file);

		if (err < 0)
			log_warning("guest %s: keys.d/%s: %s",
				    hk->g->spec.name, file, strerror(-err));
		else
			running++;
	}
}

static void add_waiting(struct host_keys *hk, const char *file)
{
	char **more = realloc(hk->waiting,
			      (hk->nwaiting + 1) * sizeof(*more));

	if (!more)
		return;
	hk->waiting = more;
	more[hk->nwaiting] = strdup(file);
	if (more[hk->nwaiting])
		hk->nwaiting++;
}

static void stop_runs(struct host_keys *hk)
{
	while (hk->runs) {
		struct run *r = hk->runs;

		hk->runs = r->next;
		if (!r->over) {
			child_forget(hk->h->children, r->pid);
			kill(-r->pid, SIGKILL);
		}
		run_free(r);
	}
	while (hk->nwaiting)
		free(hk->waiting[--hk->nwaiting]);
}

/* --- the directory ----------------------------------------------------------- */

static int read_file(struct host_keys *hk, const char *file, int fd)
{
	CLEANUP_FREE char *name = str_printf("host.%s", file);
	CLEANUP_BUF struct buf b = BUF_INIT(KEY_VALUE_MAX + 1);
	ssize_t n;

	if (!name)
		return -ENOMEM;
	while ((n = buf_read_fd(&b, fd, KEY_VALUE_MAX + 1)) > 0)
		;
	if (n < 0 && n != -EMSGSIZE)
		return (int)n;
	if (buf_len(&b) > KEY_VALUE_MAX)
		return -EFBIG;
	set_key(hk, name, buf_data(&b), buf_len(&b));
	return 0;
}

/* A plain file, root's or this user's, that nobody else may write. */
static int take_file(struct host_keys *hk, int dir, const char *file)
{
	CLEANUP_CLOSE int fd = openat(dir, file, O_RDONLY | O_CLOEXEC |
					      O_NONBLOCK | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & 022))
		return -EPERM;
	if (!(st.st_mode & 0111))
		return read_file(hk, file, fd);
	add_waiting(hk, file);
	return 0;
}

/* The names of the keys that there are. */
struct seen {
	const char *names[BUILT_IN_COUNT + FILES_MAX];
	char *made[FILES_MAX];
	size_t n, nmade;
};

static void seen_done(struct seen *s)
{
	for (size_t i = 0; i < s->nmade; i++)
		free(s->made[i]);
}

static void look_at(struct host_keys *hk, DIR *d, const char *file,
		    struct seen *seen)
{
	char *name = str_printf("host.%s", file);
	enum key_owner owner;
	char why[256];
	int err;

	if (!name)
		return;
	seen->made[seen->nmade++] = name;
	seen->names[seen->n++] = name;
	err = key_name_check(name, &owner, why, sizeof(why));
	if (err == 0) {
		err = take_file(hk, dirfd(d), file);
		snprintf(why, sizeof(why), "%s", strerror(-err));
	}
	if (err < 0)
		log_warning("guest %s: a file of %s/keys.d is passed over: %s: "
			    "%s", hk->g->spec.name, dir_conf(), name, why);
}

/* Keys of files that went go; not while it is unknown what there is. */
static void drop_others(struct host_keys *hk, const struct seen *seen)
{
	int err = keys_keep_host(hk->h->keys, hk->g->spec.name, seen->names,
				 seen->n);

	if (err < 0)
		log_warning("guest %s: host.* keys: %s", hk->g->spec.name,
			    strerror(-err));
}

static void read_directory(struct host_keys *hk)
{
	CLEANUP_FREE char *path = str_printf("%s/keys.d", dir_conf());
	CLEANUP_CLOSEDIR DIR *d = path ? opendir(path) : NULL;
	CLEANUP(seen_done) struct seen seen = { .n = BUILT_IN_COUNT };
	const struct dirent *e = NULL;
	bool whole = d || (path && errno == ENOENT);

	memcpy(seen.names, built_in_names, sizeof(built_in_names));
	while (d && (errno = 0, e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (seen.nmade == FILES_MAX) {
			log_warning("%s: more than %u files; the others are "
				    "passed over", path, FILES_MAX);
			break;
		}
		look_at(hk, d, e->d_name, &seen);
	}
	if (whole && !e && (!d || errno == 0))
		drop_others(hk, &seen);
}

void host_keys_compute(struct host_keys *hk, bool fresh)
{
	stop_runs(hk);
	built_in(hk, fresh);
	read_directory(hk);
	start_waiting(hk);
}

struct host_keys *host_keys_new(struct hostd *h, struct guest *g)
{
	struct host_keys *hk = calloc(1, sizeof(*hk));

	if (!hk)
		return NULL;
	hk->h = h;
	hk->g = g;
	return hk;
}

void host_keys_free(struct host_keys *hk)
{
	if (!hk)
		return;
	stop_runs(hk);
	free(hk->waiting);
	free(hk);
}
