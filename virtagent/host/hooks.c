/*
 * hooks.c - programs that are run for each event
 *
 * Hooks are one more consumer of the events: they hold the number of the last
 * event they were run for and read on from the store.  Events are taken one at a
 * time and in order, for each the executables of the directory in name order.  So
 * a hook sees a guest's events in the order they happened, and one that hangs is
 * killed with its process group at the deadline and delays, but loses, nothing.
 *
 * Never a shell: the file itself is executed, with the event's name as its only
 * argument, the data (JSON) on stdin and VA_SIDE, VA_GUEST, VA_EVENT, VA_SEQ,
 * VA_TIME in a clean environment.
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
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/sock.h"
#include "common/str.h"
#include "virtagent/host/hooks.h"

#define HOOKS_MAX 64
#define HOOK_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct hooks {
	struct loop *loop;
	struct children *children;
	struct events *events;
	struct events_watch *watch;
	struct loop_timer *deadline;
	char *dir;
	uint64_t timeout_ns;
	uint64_t since;
	struct fetch *fetch; /* under way, or NULL */
	struct va_value *event; /* being handled, or NULL */
	struct dirent **names;	/* hooks for it that are still to run */
	int nnames, next;
	pid_t pid; /* runs now, or -1 */
	struct log_limit limit;
};

/* Outlives the hooks when they are freed before the answer. */
struct fetch {
	struct hooks *k;
};

int hook_check(const char *dir, const char *name, char *why, size_t size)
{
	CLEANUP_FREE char *path = str_printf("%s/%s", dir, name);
	struct stat st, parent;

	if (!path)
		return -ENOMEM;
	if (lstat(path, &st) < 0 || stat(dir, &parent) < 0) {
		snprintf(why, size, "%s: %s", path, strerror(errno));
		return -errno;
	}
	if (!S_ISREG(st.st_mode))
		snprintf(why, size, "%s: not a regular file", path);
	else if ((st.st_uid != 0 && st.st_uid != geteuid()) ||
		 (parent.st_uid != 0 && parent.st_uid != geteuid()))
		snprintf(why, size, "%s: it or its directory belongs to "
			 "another user", path);
	else if ((st.st_mode & 022) || (parent.st_mode & 022))
		snprintf(why, size, "%s: it or its directory is writable by "
			 "group or others", path);
	else if (!(st.st_mode & 0111))
		snprintf(why, size, "%s: not executable", path);
	else
		return 0;
	return -EPERM;
}

static int wanted(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	/* Hidden files and editors' leftovers are not meant. */
	return e->d_name[0] != '.' && e->d_name[n - 1] != '~';
}

static void drop_names(struct hooks *k)
{
	for (int i = 0; i < k->nnames; i++)
		free(k->names[i]);
	free(k->names);
	k->names = NULL;
	k->nnames = k->next = 0;
}

static const char *member(const struct va_value *event, const char *name)
{
	const char *text = "";

	va_get_string(va_member(event, name), &text);
	return text;
}

/* --- running one -------------------------------------------------------- */

#define ENV_MAX 8

struct environment {
	char *vars[ENV_MAX];
};

static void environment_done(struct environment *e)
{
	for (size_t i = 0; i < ENV_MAX; i++)
		free(e->vars[i]);
}

static int make_environment(const struct va_value *event, struct environment *e)
{
	int64_t seq = 0;
	size_t n = 0;

	va_get_int(va_member(event, "seq"), &seq);
	e->vars[n++] = strdup(HOOK_PATH);
	e->vars[n++] = strdup("VA_SIDE=host");
	e->vars[n++] = str_printf("VA_GUEST=%s", member(event, "guest"));
	e->vars[n++] = str_printf("VA_EVENT=%s", member(event, "event"));
	e->vars[n++] = str_printf("VA_TIME=%s", member(event, "time"));
	e->vars[n++] = str_printf("VA_SEQ=%lld", (long long)seq);
	for (size_t i = 0; i < n; i++) {
		if (!e->vars[i])
			return -ENOMEM;
	}
	return 0;
}

/* A pipe that holds the event's data and its end: that is less than any pipe
 * takes, so nobody waits for a hook that does not read. */
static int data_fd(const struct va_value *event)
{
	CLEANUP_BUF struct buf json = BUF_INIT(2 * EVENT_DATA_MAX);
	CLEANUP_CLOSE int to = -1;
	CLEANUP_CLOSE int from = -1;
	int fds[2];
	ssize_t n;
	int err;

	err = va_to_json(va_member(event, "data"), false, &json);
	if (err == 0)
		err = buf_puts(&json, "\n");
	if (err < 0)
		return err;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	from = fds[0];
	to = fds[1];
	err = fd_set_nonblock(to, true);
	if (err < 0)
		return err;
	n = buf_write_fd(&json, to);
	if (n < 0)
		return (int)n;
	return buf_len(&json) ? -EIO : take_fd(from);
}

static void run_next(struct hooks *k);

static void on_end(void *arg, pid_t pid, int status)
{
	struct hooks *k = arg;
	char text[64];

	k->pid = -1;
	loop_timer_stop(k->deadline);
	if (status)
		log_ratelimited(&k->limit, LOG_LVL_WARNING,
				"hook %s/%s for event %s: %s", k->dir,
				k->names[k->next - 1]->d_name,
				member(k->event, "event"),
				child_status_text(status, text, sizeof(text)));
	run_next(k);
}

static void on_deadline(void *arg)
{
	struct hooks *k = arg;

	if (k->pid <= 1)
		return;
	log_warning("hook %s/%s for event %s: killed after %llu seconds", k->dir,
		    k->names[k->next - 1]->d_name, member(k->event, "event"),
		    (unsigned long long)(k->timeout_ns / NSEC_PER_SEC));
	kill(-k->pid, SIGKILL);
}

static int run_one(struct hooks *k, const char *name)
{
	CLEANUP(environment_done) struct environment env = { 0 };
	CLEANUP_FREE char *path = str_printf("%s/%s", k->dir, name);
	CLEANUP_CLOSE int fd = -1;
	const char *argv[] = { path, member(k->event, "event"), NULL };
	struct child_spec spec = { .path = path, .argv = argv, .fd_out = -1,
				   .fd_err = -1 };
	int err = make_environment(k->event, &env);

	if (!path || err < 0)
		return -ENOMEM;
	fd = data_fd(k->event);
	if (fd < 0)
		return fd;
	spec.fd_in = fd;
	spec.envp = (const char *const *)env.vars;
	k->pid = child_start(k->children, &spec, on_end, k);
	if (k->pid < 0) {
		err = (int)k->pid;
		k->pid = -1;
		return err;
	}
	loop_timer_in(k->deadline, k->timeout_ns);
	return 0;
}

/* --- events ------------------------------------------------------------- */

static void fetch_next(struct hooks *k);

/* The next hook of the event; behind the last one the next event. */
static void run_next(struct hooks *k)
{
	char why[512];

	while (k->next < k->nnames) {
		const char *name = k->names[k->next++]->d_name;
		int err = hook_check(k->dir, name, why, sizeof(why));

		if (err == 0) {
			err = run_one(k, name);
			if (err == 0)
				return;
			snprintf(why, sizeof(why), "%s/%s: %s", k->dir, name,
				 strerror(-err));
		}
		log_ratelimited(&k->limit, LOG_LVL_WARNING,
				"a hook is refused: %s", why);
	}
	drop_names(k);
	va_value_free(k->event);
	k->event = NULL;
	fetch_next(k);
}

static void begin_event(struct hooks *k, struct va_value *event)
{
	k->event = event;
	k->nnames = scandir(k->dir, &k->names, wanted, alphasort);
	if (k->nnames < 0) {
		k->names = NULL;
		k->nnames = 0;
	}
	for (int i = HOOKS_MAX; i < k->nnames; i++)
		free(k->names[i]);
	if (k->nnames > HOOKS_MAX)
		k->nnames = HOOKS_MAX;
	k->next = 0;
	run_next(k);
}

static void on_batch(void *arg, const struct event_batch *batch)
{
	CLEANUP_FREE struct fetch *fetch = arg;
	struct hooks *k = fetch->k;
	struct va_value *event = NULL;
	char why[128];
	size_t n = buf_len(&batch->lines);

	if (!k)
		return;
	k->fetch = NULL;
	if (!batch->count)
		return;
	k->since = batch->last;
	if (va_from_json((const char *)buf_data(&batch->lines), n, &event, why,
			 sizeof(why)) < 0) {
		log_warning("event %llu: %s", (unsigned long long)batch->last,
			    why);
		fetch_next(k);
		return;
	}
	begin_event(k, event);
}

static void fetch_next(struct hooks *k)
{
	if (k->fetch || k->event || events_last(k->events) <= k->since)
		return;
	/* Nobody is there to be told. */
	if (access(k->dir, F_OK) < 0) {
		k->since = events_last(k->events);
		return;
	}
	k->fetch = malloc(sizeof(*k->fetch));
	if (!k->fetch)
		return;
	k->fetch->k = k;
	if (events_fetch(k->events, k->since, NULL, 1, on_batch, k->fetch) < 0) {
		free(k->fetch);
		k->fetch = NULL;
	}
}

static void on_events(void *arg)
{
	fetch_next(arg);
}

/* --- the whole ---------------------------------------------------------- */

void hooks_set(struct hooks *k, const char *dir, uint64_t timeout_ns)
{
	char *copy = strdup(dir);

	if (!copy)
		return;
	free(k->dir);
	k->dir = copy;
	k->timeout_ns = timeout_ns;
}

struct hooks *hooks_new(struct loop *loop, struct children *children,
			struct events *events, const char *dir,
			uint64_t timeout_ns)
{
	struct hooks *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->loop = loop;
	k->children = children;
	k->events = events;
	k->pid = -1;
	k->limit = (struct log_limit)LOG_LIMIT_INIT;
	k->since = events_last(events);
	hooks_set(k, dir, timeout_ns);
	k->deadline = loop_timer_new(loop, on_deadline, k);
	k->watch = events_watch_new(events, on_events, k);
	if (k->dir && k->deadline && k->watch)
		return k;
	hooks_free(k);
	errno = ENOMEM;
	return NULL;
}

void hooks_free(struct hooks *k)
{
	if (!k)
		return;
	if (k->pid > 1) {
		child_forget(k->children, k->pid);
		kill(-k->pid, SIGKILL);
	}
	if (k->fetch)
		k->fetch->k = NULL;
	drop_names(k);
	va_value_free(k->event);
	events_watch_free(k->watch);
	loop_timer_free(k->deadline);
	free(k->dir);
	free(k);
}
