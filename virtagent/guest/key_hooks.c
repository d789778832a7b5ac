/*
 * key_hooks.c - programs that run when a key changes
 *
 * Each executable of CONFDIR/hooks/keys.d, in the order of names, is run for
 * each key that changed, with VA_KEY, VA_REVISION, VA_KEY_FILE and VA_REMOVED
 * (0 or 1) in its environment; the value is in the file.  One runs at a time, for
 * HOOK_NS at most.  A key that changed again meanwhile is reported once more, not
 * once for each change.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/agent_spawn.h"
#include "virtagent/guest/keys.h"

#define HOOK_NS (10 * NSEC_PER_SEC)
#define SPAWNER_NS (3 * NSEC_PER_SEC) /* until the spawner took it */
#define HOOKS_MAX 64
#define HOOK_STACK (128u << 10)

struct hooks {
	struct keyring *keys;
	struct spawn_client *spawn;
};

static void report(const char *path, const struct keyring_change *c,
		   const struct spawn_status *st)
{
	if (st->timed_out)
		log_warning("%s for key %s: ended after %llu s", path, c->name,
			    (unsigned long long)(HOOK_NS / NSEC_PER_SEC));
	else if (st->state == SPAWN_FAILED)
		log_warning("%s for key %s: %s: %s", path, c->name, st->step,
			    strerror(-st->error));
	else if (st->state == SPAWN_EXITED && (st->code || st->signal))
		log_warning("%s for key %s: %s %u", path, c->name,
			    st->signal ? "killed by signal" : "exited with",
			    st->signal ? st->signal : st->code);
}

static void wait_over(struct spawn_job *job)
{
	struct pollfd p = { .fd = spawn_job_fd(job), .events = POLLIN };

	/* The spawner keeps the time limit; without a spawner it is lost. */
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

static void run_hook(const struct hooks *h, const char *path,
		     const struct keyring_change *c)
{
	CLEANUP_FREE char *key = str_printf("VA_KEY=%s", c->name);
	CLEANUP_FREE char *rev = str_printf("VA_REVISION=%lld",
					    (long long)c->revision);
	CLEANUP_FREE char *file = str_printf("VA_KEY_FILE=%s/%s",
					     keyring_dir(h->keys), c->name);
	const char *const argv[] = { path, NULL };
	const char *const env[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
		"/bin", "VA_SIDE=guest", key, rev, file,
		c->removed ? "VA_REMOVED=1" : "VA_REMOVED=0", NULL,
	};
	const struct spawn_request rq = {
		.argv = argv, .env = env, .fds = { -1, -1, -1 },
		.flags = SPAWN_KILL_REST,
		.timeout_ns = (uint64_t)(clock_scale() * HOOK_NS),
	};
	struct spawn_status st;
	struct spawn_job *job;
	int err;

	if (!key || !rev || !file)
		return;
	err = spawn_start(h->spawn, &rq, -1, SPAWNER_NS, &job);
	if (err < 0) {
		log_warning("%s for key %s: %s", path, c->name, strerror(-err));
		return;
	}
	wait_over(job);
	spawn_job_status(job, &st);
	report(path, c, &st);
	spawn_job_free(job);
}

static int is_hook(const struct dirent *e)
{
	return e->d_name[0] != '.' && !strchr(e->d_name, '~');
}

/* A plain executable, root's or this user's, that nobody else may write. */
static bool may_run(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
	       (st.st_mode & 0111) && !(st.st_mode & 022) &&
	       (st.st_uid == 0 || st.st_uid == geteuid());
}

static void run_hooks(const struct hooks *h, const struct keyring_change *c)
{
	CLEANUP_FREE char *dir = str_printf("%s/hooks/keys.d", dir_conf());
	struct dirent **list = NULL;
	int n = dir ? scandir(dir, &list, is_hook, alphasort) : -1;

	for (int i = 0; i < n; i++) {
		CLEANUP_FREE char *path = str_printf("%s/%s", dir,
						     list[i]->d_name);

		if (i < HOOKS_MAX && path && may_run(path))
			run_hook(h, path, c);
		free(list[i]);
	}
	free(list);
}

static void *hooks_thread(void *arg)
{
	const struct hooks *h = arg;

	for (;;) {
		struct keyring_change c;

		keyring_next_change(h->keys, &c);
		run_hooks(h, &c);
	}
	return NULL;
}

int key_hooks_start(struct keyring *k, struct spawn_client *spawn)
{
	static struct hooks h; /* one keyring a process */
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	h = (struct hooks){ k, spawn };
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, HOOK_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, hooks_thread, &h);
	pthread_attr_destroy(&attr);
	return -err;
}
