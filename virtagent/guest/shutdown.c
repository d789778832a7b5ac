/*
 * shutdown.c - guest.shutdown: halt, power down, reboot, suspend
 *
 * The system's own program does it, started by the spawner after a delay, so
 * that the acknowledgement has left the guest; it outlives the agent.  What is
 * missing is noticed before anything is acknowledged.  Suspend to RAM is the
 * kernel's own (/sys/power/state), or systemd's where that runs, which then
 * tells the system's services.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/init.h"
#include "virtagent/guest/procfs.h"

/* Between the acknowledgement and the act: a reply takes milliseconds, at 115200
 * baud behind a full queue less than this. */
#define POWER_DELAY_NS NSEC_PER_SEC
#define POWER_WAIT_NS (3 * NSEC_PER_SEC)
/* What the event gets to reach the host before the guest sleeps. */
#define POWER_TELL_NS (2 * NSEC_PER_SEC)
#define POWER_MESSAGE "virtagent: asked for by the host"
#define POWER_DELAY_MAX_S (24 * 3600)
#define POWER_MESSAGE_MAX 200u

static const struct {
	const char *word; /* as callers say it */
	const char *mode; /* as the original said it */
	const char *option; /* of shutdown(8) */
	const char *program; /* without shutdown(8) */
} modes[] = {
	{ "halt", "halt", "-H", "/sbin/halt" },
	{ "powerdown", "powerdown", "-P", "/sbin/poweroff" },
	{ "shutdown", "powerdown", "-P", "/sbin/poweroff" },
	{ "poweroff", "powerdown", "-P", "/sbin/poweroff" },
	{ "reboot", "reboot", "-r", "/sbin/reboot" },
};

/* What the caller wants beside the mode. */
struct power {
	uint64_t delay_ns;
	const char *message;
};

static int start_program(struct guest_context *ctx, const char *const *argv,
			 uint64_t delay_ns, int cancel_fd)
{
	struct spawn_request rq = {
		.argv = argv, .fds = { -1, -1, -1 }, .flags = SPAWN_KEEP,
		.delay_ns = delay_ns,
	};
	struct spawn_job *job;
	int r = spawn_start(ctx->spawn, &rq, cancel_fd, POWER_WAIT_NS, &job);

	if (r == 0)
		spawn_job_free(job);
	return r;
}

static int start(struct va_call *call, const char *const *argv,
		 const struct power *p)
{
	int r = start_program(guest_context(call), argv,
			      POWER_DELAY_NS + p->delay_ns, call->cancel_fd);

	return r == 0 ? 0 :
			va_fail(call, -r, "%s: %s could not be started: %s",
				call->method->name, argv[0], strerror(-r));
}

/* Who asked, in an event's data. */
static void set_caller(struct va_call *call, struct va_value *data, int *r)
{
	guest_set(data, "by", va_string(call->caller->remote ? "host" : "guest"), r);
	guest_set(data, "uid", va_int((int32_t)call->caller->cred.uid), r);
}

bool guest_power_possible(const char *word)
{
	char states[64];

	if (strcmp(word, "suspend") == 0)
		return procfs_line(AT_FDCWD, "/sys/power/state", states,
				   sizeof(states)) == 0 &&
		       strstr(states, "mem") != NULL;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(word, modes[i].word) == 0)
			return access("/sbin/shutdown", X_OK) == 0 ||
			       access(modes[i].program, X_OK) == 0;
	return false;
}

struct suspend {
	struct guest_context *ctx;
	uint64_t delay_ns;
	struct va_value *data; /* of the event */
};

static void suspend_free(struct suspend *s)
{
	va_value_free(s->data);
	free(s);
}

/* systemd tells the system's services first; else the kernel does it, and write()
 * returns when the guest is awake again. */
static int suspend_now(struct guest_context *ctx)
{
	static const char *const argv[] = { "/bin/systemctl", "suspend", NULL };
	CLEANUP_CLOSE int fd = -1;

	if (init_is_systemd())
		return start_program(ctx, argv, 0, -1);
	fd = open("/sys/power/state", O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, "mem", 3) < 0 ? -errno : 0;
}

static void suspend_failed(struct guest_context *ctx, int err)
{
	CLEANUP_VALUE struct va_value *data = va_struct();
	int r = 0;

	log_warning("the guest was not suspended: %s", strerror(-err));
	guest_set(data, "error", va_string(strerror(-err)), &r);
	if (r == 0)
		ctx->post_event(ctx, "suspend-failed", take_ptr(data));
}

static void *suspend_thread(void *arg)
{
	struct suspend *s = arg;
	struct timespec ts = { (time_t)(s->delay_ns / NSEC_PER_SEC),
			       (long)(s->delay_ns % NSEC_PER_SEC) };
	int r;

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
	s->ctx->post_event(s->ctx, "suspended", take_ptr(s->data));
	s->ctx->flush_events(s->ctx, clock_now() + POWER_TELL_NS);
	r = suspend_now(s->ctx);
	if (r < 0)
		suspend_failed(s->ctx, r);
	suspend_free(s);
	return NULL;
}

static int suspend(struct va_call *call, const struct power *p)
{
	struct suspend *s;
	pthread_t thread;
	int r = 0;

	if (!guest_power_possible("suspend"))
		return va_fail(call, ENOTSUP,
			       "%s: this guest cannot be suspended to RAM "
			       "(/sys/power/state offers no \"mem\")",
			       call->method->name);
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->ctx = guest_context(call);
	s->delay_ns = POWER_DELAY_NS + p->delay_ns;
	s->data = va_struct();
	set_caller(call, s->data, &r);
	if (r == 0 && pthread_create(&thread, NULL, suspend_thread, s) != 0)
		r = -EAGAIN;
	if (r == 0)
		pthread_detach(thread);
	else
		suspend_free(s);
	return r;
}

static int power(struct va_call *call, const char *mode, const struct power *p,
		 const char **ret_mode)
{
	/* "now", not "+0": systemd shows users the message of that one only. */
	const char *argv[] = { "/sbin/shutdown", NULL, "now", p->message, NULL };
	char shown[64];
	int r;

	if (strcmp(mode, "suspend") == 0) {
		*ret_mode = "suspend";
		return suspend(call, p);
	}
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(mode, modes[i].word) != 0)
			continue;
		*ret_mode = modes[i].mode;
		argv[1] = modes[i].option;
		if (access(argv[0], X_OK) < 0) {
			argv[0] = modes[i].program;
			argv[1] = NULL;
		}
		if (access(argv[0], X_OK) < 0)
			return va_fail(call, ENOENT,
				       "%s: this guest has neither "
				       "/sbin/shutdown nor %s",
				       call->method->name, argv[0]);
		log_info("%s was asked for: running %s", modes[i].mode, argv[0]);
		r = start(call, argv, p);
		if (r == 0)
			__atomic_store_n(&guest_context(call)->power_mode,
					 modes[i].mode, __ATOMIC_RELEASE);
		return r;
	}
	return va_fail(call, EINVAL, "%s: \"%s\" is not one of halt, powerdown, "
		       "reboot, suspend", call->method->name,
		       log_escape(shown, sizeof(shown), mode, strlen(mode)));
}

int guest_power(struct va_call *call, const char *mode, const char **ret_mode)
{
	static const struct power plain = { 0, POWER_MESSAGE };

	return power(call, mode, &plain, ret_mode);
}

/* An event that goes out before the system stops us. */
static void tell_host(struct va_call *call, const char *mode, uint64_t delay_ns)
{
	struct guest_context *ctx = guest_context(call);
	CLEANUP_VALUE struct va_value *data = va_struct();
	int r = 0;

	guest_set(data, "mode", va_string(mode), &r);
	set_caller(call, data, &r);
	guest_set(data, "delay_ms",
		  va_int((int64_t)((POWER_DELAY_NS + delay_ns) / NSEC_PER_MSEC)), &r);
	if (r == 0)
		ctx->post_event(ctx, "shutdown-begun", take_ptr(data));
}

static int shutdown_guest(struct va_call *call, struct va_value **ret)
{
	struct power p = { 0, POWER_MESSAGE };
	CLEANUP_VALUE struct va_value *s = NULL;
	const char *mode, *done = "";
	int64_t delay;
	int r = va_arg_string(call, 0, "powerdown", &mode);

	if (r == 0)
		r = va_arg_int(call, 1, 0, 0, POWER_DELAY_MAX_S, &delay);
	if (r == 0)
		r = va_arg_string(call, 2, POWER_MESSAGE, &p.message);
	if (r < 0)
		return r;
	if (strlen(p.message) > POWER_MESSAGE_MAX || p.message[0] == '-')
		return va_fail(call, EINVAL,
			       "%s: a message has at most %u bytes (not %zu) and does "
			       "not begin with a dash", call->method->name,
			       POWER_MESSAGE_MAX, strlen(p.message));
	p.delay_ns = (uint64_t)delay * NSEC_PER_SEC;
	r = power(call, mode, &p, &done);
	if (r < 0)
		return r;
	/* A suspend is told when it happens. */
	if (strcmp(done, "suspend") != 0)
		tell_host(call, done, p.delay_ns);
	s = va_struct();
	guest_set(s, "mode", va_string(done), &r);
	guest_set(s, "delay_ms",
		  va_int((int64_t)((POWER_DELAY_NS + p.delay_ns) / NSEC_PER_MSEC)), &r);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

static const struct va_method rows[] = {
	{
		.name = "guest.shutdown",
		.signature = "S:|sis",
		.args = "[halt|powerdown|reboot|suspend [DELAY_S [MESSAGE]]]",
		.cls = VA_CLASS_POWER,
		.fn = shutdown_guest,
		.help = "Shuts the guest down, in order, or suspends it; default "
			"powerdown.",
		.doc = "\"shutdown\" and \"poweroff\" are taken for powerdown; "
		       "suspend is to RAM.  Answers before it acts, with a struct: "
		       "mode, delay_ms (how long until it acts).  MESSAGE is shown "
		       "to logged-in users where shutdown(8) is there.  Events: "
		       "shutdown-begun; suspended, when it happens, and resumed.  "
		       "What the "
		       "guest cannot do is refused with the reason; "
		       "guest.capabilities says it beforehand.",
	},
};

const struct va_family guest_shutdown_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
