/*
 * power.c - see power.h
 *
 * The system's own program does it, started by the spawner; it outlives the agent.
 * Suspend to RAM is the kernel's own (/sys/power/state), or systemd's where that
 * runs, which then tells the system's services.
 *
 * What waits, does so on one thread of the server and in a file (power_plan.h), so
 * that an agent that was restarted meanwhile takes it up again; the next one that
 * is asked for takes its place, and until its time it can be taken back.  Without a
 * delay it lies with the spawner for that
 * second, which a server's end does not touch.  Limits: where the agent comes back
 * later than POWER_LATE_NS after the time, it is dropped, and the host is told:
 * whoever asked no longer expects it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/power.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "virtagent/guest/init.h"
#include "virtagent/guest/procfs.h"

#define POWER_WAIT_NS (3 * NSEC_PER_SEC)
/* What the event gets to reach the host before the guest sleeps. */
#define POWER_TELL_NS (2 * NSEC_PER_SEC)
/* What a word to the users may wait for the spawner. */
#define POWER_SAY_NS (NSEC_PER_SEC / 4)
#define POWER_LATE_NS (60 * NSEC_PER_SEC)
/* A spawner that died is there again after a second. */
#define POWER_TRIES 5

static const struct power_mode modes[] = {
	{ "halt", "halt", { "-h", "-H" }, "/sbin/halt" },
	{ "powerdown", "powerdown", { "-h", "-P" }, "/sbin/poweroff" },
	{ "shutdown", "powerdown", { "-h", "-P" }, "/sbin/poweroff" },
	{ "poweroff", "powerdown", { "-h", "-P" }, "/sbin/poweroff" },
	{ "reboot", "reboot", { "-r", NULL }, "/sbin/reboot" },
	{ "suspend", "suspend", { NULL, NULL }, NULL },
};

const struct power_mode *power_find(const char *word)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(word, modes[i].word) == 0)
			return &modes[i];
	return NULL;
}

#define ARGV_MAX 6

/* What does it; argv[0] may be missing in this guest. */
static void fill_argv(const struct power_mode *m, const char *message,
		      const char *argv[ARGV_MAX])
{
	size_t n = 0;

	argv[n++] = "/sbin/shutdown";
	if (access(argv[0], X_OK) < 0) {
		argv[0] = m->program;
		argv[n] = NULL;
		return;
	}
	for (size_t i = 0; i < 2 && m->options[i]; i++)
		argv[n++] = m->options[i];
	/* Not "+0": systemd shows users the message of "now" only. */
	argv[n++] = "now";
	argv[n++] = message;
	argv[n] = NULL;
}

bool guest_power_possible(const char *word)
{
	const struct power_mode *m = power_find(word);
	const char *argv[ARGV_MAX];
	char states[64];

	if (!m)
		return false;
	if (!m->program)
		return procfs_line(AT_FDCWD, "/sys/power/state", states,
				   sizeof(states)) == 0 &&
		       strstr(states, "mem") != NULL;
	fill_argv(m, "", argv);
	return access(argv[0], X_OK) == 0;
}

/* --- who asked, and the file ------------------------------------------------------ */

/* An event of a plan's; more members may follow. */
struct va_value *power_about(const struct power_plan *p, bool with_mode, int *r)
{
	struct va_value *data = va_struct();

	if (with_mode)
		guest_set(data, "mode", va_string(p->mode), r);
	guest_set(data, "by", va_string(p->by), r);
	guest_set(data, "uid", va_int(p->uid), r);
	guest_set(data, "via", va_string("virtagent"), r);
	return data;
}

static void post(struct guest_context *ctx, const char *name, struct va_value *data,
		 int r)
{
	if (r == 0)
		ctx->post_event(ctx, name, data);
	else
		va_value_free(data);
}

/* What waits for its time; a delay of a day must not cost a thread each time that
 * another takes its place. */
static struct {
	pthread_mutex_t lock; /* over all of this, and what becomes of the file */
	pthread_cond_t changed;
	bool ready;   /* changed is initialised */
	bool running; /* the thread */
	struct power_plan plan; /* due_ns 0 = none */
} waiting = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Only the file is lost when it cannot be written. */
static void keep_plan(struct guest_context *ctx, const struct power_plan *p)
{
	int r = ctx->power_file ? power_plan_write(ctx->power_file, ctx->boot_id, p) : 0;

	if (r < 0)
		log_warning("%s, asked for by uid %lld of the %s, will be forgotten if "
			    "the agent restarts: %s: %s", p->mode, (long long)p->uid,
			    p->by, ctx->power_file, strerror(-r));
}

/* The file is that of what waits, if anything does. */
static void forget_plan(struct guest_context *ctx)
{
	pthread_mutex_lock(&waiting.lock);
	if (ctx->power_file && !waiting.plan.due_ns)
		unlink(ctx->power_file);
	pthread_mutex_unlock(&waiting.lock);
}

static void set_begun(struct guest_context *ctx, const struct power_mode *m,
		      struct power_plan *p)
{
	p->begun = true;
	keep_plan(ctx, p);
	__atomic_store_n(&ctx->power_mode, m->mode, __ATOMIC_RELEASE);
}

static void failed(struct guest_context *ctx, const struct power_plan *p,
		   const char *why)
{
	bool sleeps = !power_find(p->mode)->program;
	CLEANUP_VALUE struct va_value *data = va_struct();
	int r = 0;

	log_warning("%s, asked for by uid %lld of the %s, failed: %s", p->mode,
		    (long long)p->uid, p->by, why);
	forget_plan(ctx);
	if (!sleeps) {
		__atomic_store_n(&ctx->power_mode, NULL, __ATOMIC_RELEASE);
		guest_set(data, "mode", va_string(p->mode), &r);
	}
	guest_set(data, "error", va_string(why), &r);
	post(ctx, sleeps ? "suspend-failed" : "shutdown-failed", take_ptr(data), r);
}

/* --- the program ----------------------------------------------------------------- */

static int detach(void *(*fn)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, fn, arg) != 0)
		return -EAGAIN;
	pthread_detach(thread);
	return 0;
}

struct watched {
	struct guest_context *ctx;
	struct power_plan plan;
	struct spawn_job *job;
	char program[32];
};

/* It was acknowledged long ago: that the program refuses must not be lost.  One
 * that a signal ends was met by the shutdown itself. */
static void *watch_thread(void *arg)
{
	CLEANUP_FREE struct watched *w = arg;
	struct pollfd p = { .fd = spawn_job_fd(w->job), .events = POLLIN };
	struct spawn_status st;
	char why[128];

	while (poll(&p, 1, -1) <= 0)
		;
	spawn_job_status(w->job, &st);
	spawn_job_free(w->job);
	if (st.state == SPAWN_FAILED)
		snprintf(why, sizeof(why), "%s: %s", w->program, strerror(-st.error));
	else if (st.state == SPAWN_EXITED && !st.signal && st.code)
		snprintf(why, sizeof(why), "%s ended with status %u", w->program, st.code);
	else
		return NULL;
	failed(w->ctx, &w->plan, why);
	return NULL;
}

static int start_program(struct guest_context *ctx, const struct power_plan *p,
			 const char *const *argv, uint64_t delay_ns, int cancel_fd)
{
	struct spawn_request rq = {
		.argv = argv, .fds = { -1, -1, -1 }, .flags = SPAWN_KEEP,
		.delay_ns = delay_ns,
	};
	struct watched *w = calloc(1, sizeof(*w));
	int r = w ? spawn_start(ctx->spawn, &rq, cancel_fd, POWER_WAIT_NS, &w->job) :
		    -ENOMEM;

	if (r < 0) {
		free(w);
		return r;
	}
	w->ctx = ctx;
	w->plan = *p;
	snprintf(w->program, sizeof(w->program), "%s", argv[0]);
	/* Unwatched it runs as well. */
	if (detach(watch_thread, w) < 0) {
		spawn_job_free(w->job);
		free(w);
	}
	return 0;
}

/* With a delay shutdown(8) tells users at once, not only when it begins.  Two words
 * of text: wall(1) takes a single one for a file's name, if there is such a file. */
static void tell_users(struct guest_context *ctx, const char *text)
{
	const char *const argv[] = { "/usr/bin/wall", "virtagent:", text, NULL };
	const struct spawn_request rq = {
		.argv = argv, .fds = { -1, -1, -1 }, .flags = SPAWN_KEEP,
	};
	struct spawn_job *job;

	if (access(argv[0], X_OK) < 0 ||
	    spawn_start(ctx->spawn, &rq, -1, POWER_SAY_NS, &job) < 0)
		return;
	spawn_job_free(job);
}

static void tell_of_plan(struct guest_context *ctx, const struct power_plan *p)
{
	char text[POWER_MESSAGE_MAX + 64];
	uint64_t now = clock_now();

	snprintf(text, sizeof(text), "%s in %llu s: %s", p->mode,
		 (unsigned long long)(p->due_ns > now ?
				      (p->due_ns - now) / NSEC_PER_SEC : 0), p->message);
	tell_users(ctx, text);
}

/* --- when its time has come ---------------------------------------------------- */

/* systemd tells the system's services first; else the kernel does it, and write()
 * returns when the guest is awake again. */
static int suspend_now(struct guest_context *ctx, const struct power_plan *p)
{
	static const char *const argv[] = { "/bin/systemctl", "suspend", NULL };
	CLEANUP_CLOSE int fd = -1;

	if (init_is_systemd())
		return start_program(ctx, p, argv, 0, -1);
	fd = open("/sys/power/state", O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, "mem", 3) < 0 ? -errno : 0;
}

static void suspend(struct guest_context *ctx, const struct power_plan *p)
{
	struct va_value *data;
	int r = 0;

	/* Before it sleeps: once awake it must not be done again. */
	forget_plan(ctx);
	data = power_about(p, false, &r);
	post(ctx, "suspended", data, r);
	ctx->flush_events(ctx, clock_now() + POWER_TELL_NS);
	r = suspend_now(ctx, p);
	if (r < 0)
		failed(ctx, p, strerror(-r));
}

static void begin(struct guest_context *ctx, struct power_plan *p)
{
	const struct power_mode *m = power_find(p->mode);
	const char *argv[ARGV_MAX];
	int r = -EAGAIN;

	if (!m->program) {
		suspend(ctx, p);
		return;
	}
	fill_argv(m, p->message, argv);
	log_info("%s was asked for: running %s", m->mode, argv[0]);
	set_begun(ctx, m, p);
	for (int i = 0; i < POWER_TRIES && r == -EAGAIN; i++)
		r = start_program(ctx, p, argv, 0, -1);
	if (r < 0)
		failed(ctx, p, strerror(-r));
}

static int waiting_init(void)
{
	pthread_condattr_t attr;
	int r;

	if (waiting.ready)
		return 0;
	pthread_condattr_init(&attr);
	r = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (r == 0)
		r = pthread_cond_init(&waiting.changed, &attr);
	pthread_condattr_destroy(&attr);
	waiting.ready = r == 0;
	return -r;
}

/* With the lock held: returns false once nothing waits any more. */
static bool next_due(struct power_plan *ret)
{
	uint64_t due;

	while ((due = waiting.plan.due_ns) != 0 && clock_now() < due) {
		struct timespec ts = { (time_t)(due / NSEC_PER_SEC),
				       (long)(due % NSEC_PER_SEC) };

		pthread_cond_timedwait(&waiting.changed, &waiting.lock, &ts);
	}
	*ret = waiting.plan;
	waiting.plan.due_ns = 0;
	return due != 0;
}

static void *wait_thread(void *arg)
{
	struct guest_context *ctx = arg;
	struct power_plan plan;

	pthread_mutex_lock(&waiting.lock);
	while (next_due(&plan)) {
		pthread_mutex_unlock(&waiting.lock);
		begin(ctx, &plan);
		pthread_mutex_lock(&waiting.lock);
	}
	waiting.running = false;
	pthread_mutex_unlock(&waiting.lock);
	return NULL;
}

/* Takes the place of what waited; keep: in the file, too. */
static int wait_for(struct guest_context *ctx, const struct power_plan *p, bool keep)
{
	int r;

	pthread_mutex_lock(&waiting.lock);
	r = waiting_init();
	if (r == 0 && !waiting.running)
		r = detach(wait_thread, ctx);
	if (r == 0) {
		waiting.running = true;
		waiting.plan = *p;
		if (keep)
			keep_plan(ctx, p);
		pthread_cond_signal(&waiting.changed);
	}
	pthread_mutex_unlock(&waiting.lock);
	return r;
}

int power_cancel(struct guest_context *ctx, struct power_plan *ret)
{
	char text[64];
	int r = 0;

	pthread_mutex_lock(&waiting.lock);
	if (waiting.plan.due_ns) {
		*ret = waiting.plan;
		waiting.plan.due_ns = 0;
		pthread_cond_signal(&waiting.changed);
	} else {
		r = __atomic_load_n(&ctx->power_mode, __ATOMIC_ACQUIRE) ? -EALREADY :
									  -ENOENT;
	}
	pthread_mutex_unlock(&waiting.lock);
	if (r < 0)
		return r;
	forget_plan(ctx);
	snprintf(text, sizeof(text), "%s is cancelled", ret->mode);
	tell_users(ctx, text);
	return 0;
}

/* What an agent before this one was asked for and did not live to see. */
void guest_power_resume(struct guest_context *ctx)
{
	const struct power_mode *m;
	struct va_value *data;
	struct power_plan p;
	uint64_t now = clock_now();
	int r = !ctx->power_file ? -ENOENT :
				   power_plan_read(ctx->power_file, ctx->boot_id, &p);

	m = r == 0 ? power_find(p.mode) : NULL;
	if (!m) {
		if (r != -ENOENT)
			log_warning("%s: a shutdown that was asked for is lost: %s",
				    ctx->power_file, strerror(r < 0 ? -r : EINVAL));
		forget_plan(ctx);
	} else if (p.begun) {
		__atomic_store_n(&ctx->power_mode, m->mode, __ATOMIC_RELEASE);
	} else if (now > p.due_ns + POWER_LATE_NS) {
		log_warning("%s, asked for by uid %lld of the %s, is dropped: it is "
			    "%llu s late", p.mode, (long long)p.uid, p.by,
			    (unsigned long long)((now - p.due_ns) / NSEC_PER_SEC));
		forget_plan(ctx);
		r = 0;
		data = power_about(&p, true, &r);
		guest_set(data, "late_s",
			  va_int((int64_t)((now - p.due_ns) / NSEC_PER_SEC)), &r);
		post(ctx, "shutdown-dropped", data, r);
	} else {
		log_info("%s, asked for by uid %lld of the %s, is waited for again",
			 p.mode, (long long)p.uid, p.by);
		r = wait_for(ctx, &p, false);
		if (r < 0)
			failed(ctx, &p, strerror(-r));
	}
}

/* --- when it is asked for ------------------------------------------------------- */

int power_start(struct guest_context *ctx, struct power_plan *p, bool later,
		int cancel_fd, const char **ret_program)
{
	const struct power_mode *m = power_find(p->mode);
	const char *argv[ARGV_MAX];
	int r;

	if (later || !m->program) {
		r = wait_for(ctx, p, true);
		if (r == 0 && later)
			tell_of_plan(ctx, p);
		return r;
	}
	fill_argv(m, p->message, argv);
	*ret_program = argv[0];
	log_info("%s was asked for: running %s", m->mode, argv[0]);
	r = start_program(ctx, p, argv, POWER_DELAY_NS, cancel_fd);
	if (r < 0)
		return r;
	pthread_mutex_lock(&waiting.lock);
	waiting.plan.due_ns = 0;
	pthread_mutex_unlock(&waiting.lock);
	set_begun(ctx, m, p);
	return 0;
}
