/*
 * hook_run.c - one event's hooks, one after another
 *
 * The executables of the directory, in name order, each until it ends; one that
 * hangs is killed with its process group at the deadline.
 *
 * Never a shell: the file itself is executed, with the event's name as its only
 * argument, the data (JSON) on stdin and VA_SIDE, VA_GUEST, VA_EVENT, VA_SEQ,
 * VA_TIME in a clean environment.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/host/hook_run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/sock.h"
#include "common/str.h"
#include "virtagent/host/events.h"

#define HOOKS_MAX 64
#define HOOK_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct hook_run {
	struct hook_run_config cfg;
	char *dir;
	struct va_value *event;
	struct loop_timer *timer; /* to begin; then the deadline */
	struct dirent **names;	  /* hooks that are to run */
	int nnames, next;
	bool begun;
	pid_t pid; /* runs now, or -1 */
	loop_fn done;
	void *arg;
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

static void run_next(struct hook_run *r);

static const char *current(const struct hook_run *r)
{
	return r->names[r->next - 1]->d_name;
}

static void on_end(void *arg, pid_t pid, int status)
{
	struct hook_run *r = arg;
	char text[64];

	r->pid = -1;
	loop_timer_stop(r->timer);
	if (status)
		log_ratelimited(r->cfg.limit, LOG_LVL_WARNING,
				"hook %s/%s for event %s: %s", r->dir, current(r),
				member(r->event, "event"),
				child_status_text(status, text, sizeof(text)));
	run_next(r);
}

static int run_one(struct hook_run *r, const char *name)
{
	CLEANUP(environment_done) struct environment env = { 0 };
	CLEANUP_FREE char *path = str_printf("%s/%s", r->dir, name);
	CLEANUP_CLOSE int fd = -1;
	const char *argv[] = { path, member(r->event, "event"), NULL };
	struct child_spec spec = { .path = path, .argv = argv, .fd_out = -1,
				   .fd_err = -1 };
	int err = make_environment(r->event, &env);

	if (!path || err < 0)
		return -ENOMEM;
	fd = data_fd(r->event);
	if (fd < 0)
		return fd;
	spec.fd_in = fd;
	spec.envp = (const char *const *)env.vars;
	r->pid = child_start(r->cfg.children, &spec, on_end, r);
	if (r->pid < 0) {
		err = (int)r->pid;
		r->pid = -1;
		return err;
	}
	loop_timer_in(r->timer, r->cfg.timeout_ns);
	return 0;
}

/* The next hook of the event; behind the last one it is done. */
static void run_next(struct hook_run *r)
{
	char why[512];

	while (r->next < r->nnames) {
		const char *name = r->names[r->next++]->d_name;
		int err = hook_check(r->dir, name, why, sizeof(why));

		if (err == 0) {
			err = run_one(r, name);
			if (err == 0)
				return;
			snprintf(why, sizeof(why), "%s/%s: %s", r->dir, name,
				 strerror(-err));
		}
		log_ratelimited(r->cfg.limit, LOG_LVL_WARNING,
				"a hook is refused: %s", why);
	}
	r->done(r->arg);
}

static void begin(struct hook_run *r)
{
	r->begun = true;
	r->nnames = scandir(r->dir, &r->names, wanted, alphasort);
	if (r->nnames < 0) {
		r->names = NULL;
		r->nnames = 0;
	}
	for (int i = HOOKS_MAX; i < r->nnames; i++)
		free(r->names[i]);
	if (r->nnames > HOOKS_MAX)
		r->nnames = HOOKS_MAX;
	run_next(r);
}

static void on_timer(void *arg)
{
	struct hook_run *r = arg;

	if (!r->begun) {
		begin(r);
		return;
	}
	if (r->pid <= 1)
		return;
	log_warning("hook %s/%s for event %s: killed after %llu seconds", r->dir,
		    current(r), member(r->event, "event"),
		    (unsigned long long)(r->cfg.timeout_ns / NSEC_PER_SEC));
	kill(-r->pid, SIGKILL);
}

struct hook_run *hook_run_new(const struct hook_run_config *cfg,
			      struct va_value *event, loop_fn done, void *arg)
{
	struct hook_run *r = calloc(1, sizeof(*r));

	if (!r) {
		va_value_free(event);
		return NULL;
	}
	r->cfg = *cfg;
	r->event = event;
	r->done = done;
	r->arg = arg;
	r->pid = -1;
	r->dir = strdup(cfg->dir);
	r->timer = loop_timer_new(cfg->loop, on_timer, r);
	if (r->dir && r->timer && loop_timer_in(r->timer, 0) == 0)
		return r;
	hook_run_free(r);
	return NULL;
}

void hook_run_free(struct hook_run *r)
{
	if (!r)
		return;
	if (r->pid > 1) {
		child_forget(r->cfg.children, r->pid);
		kill(-r->pid, SIGKILL);
	}
	for (int i = 0; i < r->nnames; i++)
		free(r->names[i]);
	free(r->names);
	va_value_free(r->event);
	if (r->timer)
		loop_timer_free(r->timer);
	free(r->dir);
	free(r);
}
