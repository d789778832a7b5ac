/*
 * test-guest-nomem.c - every allocation of the guest's keys, and of programs that it
 * runs, fails once (tests/lib/nomem.h)
 *
 * What was answered as set or pushed is there, in memory and as a file; what was
 * refused can be tried again.  Of a program that runs, no output is missing from
 * what is called all of it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/str.h"
#include "tests/lib/nomem.h"
#include "tests/lib/unit.h"
#include "virtagent/agent_ipc.h"
#include "virtagent/agent_spawn_client.h"
#include "virtagent/agent_spawner.h"
#include "virtagent/guest/jobs.h"
#include "virtagent/guest/keys.h"

/* --- keys -------------------------------------------------------------------- */

static char dir[300];

static struct keyring *open_again(void)
{
	struct keyring *k = keyring_open(dir);

	CHECK(k);
	return k;
}

static int set_key(struct keyring *k, const char *value)
{
	const struct key_change c = { .name = "guest.a", .value = value,
				      .size = strlen(value), .owner = KEY_OF_GUEST };
	char why[256] = "";
	uint64_t seq;
	int r = keyring_set(k, &c, 1, -1, &seq, why, sizeof(why));

	CHECK(r == 0 || why[0]);
	return r;
}

/* The host's batch that follows on revision 0, with one key. */
static struct va_value *batch(void)
{
	struct va_value *b = va_struct(), *keys = va_array(), *key = va_struct();

	va_set(b, "store", va_string("s"));
	va_set(b, "since", va_int(0));
	va_set(b, "revision", va_int(7));
	va_set(b, "full", va_bool(true));
	va_set(key, "name", va_string("user.b"));
	va_set(key, "revision", va_int(7));
	va_set(key, "value", va_bytes("pushed", 6));
	va_set(key, "read", va_bool(true));
	va_set(key, "secret", va_bool(false));
	va_append(keys, key);
	va_set(b, "keys", keys);
	return b;
}

static int push(struct keyring *k, const struct va_value *b)
{
	char why[256] = "";
	int64_t revision = 0;
	int r = keyring_push(k, b, &revision, why, sizeof(why));

	CHECK(r == 0 || why[0]);
	if (r == 0)
		CHECK_INT(revision, 7);
	return r;
}

static bool has_file(const char *name, const char *value)
{
	CLEANUP_FREE char *path = str_printf("%s/%s", dir, name);
	CLEANUP_FCLOSE FILE *f = fopen(path, "r");
	char have[100];
	size_t n = f ? fread(have, 1, sizeof(have), f) : 0;

	return f && n == strlen(value) && !memcmp(have, value, n);
}

/* The key has that value, or (NULL) is not there; negative: it cannot be said. */
static int expect(struct keyring *k, const char *name, const char *value)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	const void *data;
	size_t n;
	int r = keyring_get(k, name, true, &v);

	if (r == -ENOENT && !value)
		return 0;
	if (r < 0 && r != -ENOENT)
		return r;
	CHECK_INT(r, 0);
	CHECK_INT(va_get_bytes(va_member(v, "value"), &data, &n), 0);
	CHECK(value && n == strlen(value) && !memcmp(data, value, n));
	return 0;
}

static int reads(struct keyring *k)
{
	CLEANUP_VALUE struct va_value *list = NULL, *changes = NULL;
	struct keyring_dirty d = { 0 };
	int r = keyring_list(k, "*", "", &list);

	if (r == 0)
		r = keyring_watch(k, "*", 0, true, -1, clock_now() + NSEC_PER_SEC,
				  &changes);
	if (r == 0)
		r = keyring_dirty(k, &d);
	va_value_free(d.set);
	va_value_free(d.unset);
	va_value_free(d.options);
	return r;
}

static int keys_once(void)
{
	CLEANUP_VALUE struct va_value *b = NULL;
	struct keyring *k;
	int first, second = -ENOMEM, pushed, r, seen;
	const char *now;

	nomem_hold(true);
	b = batch();
	/* The directory as it was before the first run. */
	if (system("rm -rf \"$VA_RUNTIME_DIR\"/kv*"))
		unit_fail(__FILE__, __LINE__, "rm");
	nomem_hold(false);
	k = keyring_open(dir);
	if (!k)
		return -ENOMEM;
	first = set_key(k, "1");
	if (first == 0)
		second = set_key(k, "2");
	now = second == 0 ? "2" : first == 0 ? "1" : NULL;
	r = expect(k, "guest.a", now);
	pushed = push(k, b);
	seen = expect(k, "user.b", pushed == 0 ? "pushed" : NULL);
	if (r == 0)
		r = seen;
	if (r == 0)
		r = reads(k);
	nomem_hold(true);
	CHECK_INT(expect(k, "guest.a", now), 0);
	/* The host tries again. */
	if (pushed < 0)
		CHECK_INT(push(k, b), 0);
	CHECK_INT(expect(k, "user.b", "pushed"), 0);
	CHECK(has_file("user.b", "pushed"));
	if (now)
		CHECK(has_file("guest.a", now));
	keyring_free(k);
	/* The next server finds the same. */
	k = open_again();
	CHECK_INT(expect(k, "guest.a", now), 0);
	CHECK_INT(expect(k, "user.b", "pushed"), 0);
	keyring_free(k);
	va_value_free(take_ptr(b));
	nomem_hold(false);
	return first < 0 ? first : second < 0 ? second : pushed < 0 ? pushed : r;
}

TEST(keys_are_set_or_refused)
{
	snprintf(dir, sizeof(dir), "%s/run/kv", unit_tmpdir());
	{
		CLEANUP_FREE char *run = str_printf("%s/run", unit_tmpdir());

		setenv("VA_RUNTIME_DIR", run, 1);
	}
	nomem_each(keys_once, 0);
}

/* --- programs ------------------------------------------------------------------ */

static struct spawn_client *client;
static int stop_fd = -1;

/* The server's main thread: what the spawner reports. */
static void *pump(void *arg)
{
	struct pollfd p[] = { { spawn_client_fd(client), POLLIN, 0 },
			      { stop_fd, POLLIN, 0 } };

	while (poll(p, 2, -1) > 0 && !p[1].revents)
		spawn_client_input(client);
	return NULL;
}

static int output_is(struct job *j, const char *want)
{
	char have[100];
	uint64_t at = 0;
	ssize_t n = 0;
	size_t got = 0;

	while ((n = job_read(j, JOB_STDOUT, &at, have + got, sizeof(have) - got)) > 0) {
		got += (size_t)n;
		at += (uint64_t)n;
	}
	if (n < 0)
		return (int)n;
	CHECK_INT(got, strlen(want));
	CHECK_MEM(have, want, got);
	return 0;
}

static int run_one(struct jobs *t)
{
	static const char *const argv[] = { "/bin/sh", "-c", "read a; echo \"got $a\"",
					    NULL };
	const struct job_request rq = {
		.spawn = { .argv = argv, .fds = { -1, -1, -1 } },
		.label = "sh", .stdin_open = true,
	};
	struct job_info info;
	struct job *j = NULL;
	int r = job_start(t, &rq, -1, &j);

	if (r < 0)
		return r;
	job_info(j, &info);
	r = info.status.state == SPAWN_FAILED ? info.status.error :
						job_write(j, "it\n", 3, -1);
	if (r == 0)
		job_close_stdin(j);
	/* In time, in any case. */
	CHECK_INT(job_wait_over(j, -1, clock_now() + 8 * NSEC_PER_SEC), 0);
	job_info(j, &info);
	if (r == 0 && info.status.state == SPAWN_EXITED && !info.dropped[0]) {
		CHECK_INT(info.status.code, 0);
		r = output_is(j, "got it\n");
	} else if (r == 0) {
		r = -EIO;
	}
	job_forget(j);
	job_put(j);
	return r;
}

static int programs_once(void)
{
	struct jobs *t = jobs_new(client);
	int r;

	if (!t)
		return -ENOMEM;
	r = run_one(t);
	nomem_hold(true);
	CHECK_INT(run_one(t), 0);
	jobs_free(t);
	nomem_hold(false);
	return r;
}

TEST(programs_run_or_do_not)
{
	int ctl[2], srv[2], status;
	pthread_t thread;
	uint64_t one = 1;
	pid_t spawner;

	CHECK_INT(ipc_pair(ctl), 0);
	CHECK_INT(ipc_pair(srv), 0);
	spawner = fork();
	if (spawner == 0) {
		close(ctl[0]);
		close(srv[0]);
		_exit(agent_spawner_main(ctl[1], srv[1]));
	}
	close(ctl[1]);
	close(srv[1]);
	client = spawn_client_new();
	spawn_client_attach(client, srv[0]);
	stop_fd = eventfd(0, EFD_CLOEXEC);
	CHECK_INT(pthread_create(&thread, NULL, pump, NULL), 0);
	nomem_each(programs_once, 0);
	CHECK_INT(write(stop_fd, &one, sizeof(one)), sizeof(one));
	pthread_join(thread, NULL);
	close(stop_fd);
	spawn_client_free(client);
	close(ctl[0]);
	CHECK_INT(waitpid(spawner, &status, 0), spawner);
}

UNIT_MAIN(CASE_SLOW(keys_are_set_or_refused, 120),
	  CASE_SLOW(programs_run_or_do_not, 120))
