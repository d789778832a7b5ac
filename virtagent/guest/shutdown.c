/*
 * shutdown.c - guest.shutdown: halt, power down, reboot
 *
 * The system's own program does it, started by the spawner after a delay, so
 * that the acknowledgement has left the guest; it outlives the agent.  What is
 * missing is noticed before anything is acknowledged.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "virtagent/guest/guest.h"

/* Between the acknowledgement and the act: a reply takes milliseconds, at 115200
 * baud behind a full queue less than this. */
#define POWER_DELAY_NS NSEC_PER_SEC
#define POWER_WAIT_NS (3 * NSEC_PER_SEC)
#define POWER_MESSAGE "virtagent: asked for by the host"

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

static int start(struct va_call *call, const char *const *argv)
{
	struct guest_context *ctx = guest_context(call);
	struct spawn_request rq = {
		.argv = argv, .fds = { -1, -1, -1 }, .flags = SPAWN_KEEP,
		.delay_ns = POWER_DELAY_NS,
	};
	struct spawn_job *job;
	int r = spawn_start(ctx->spawn, &rq, call->cancel_fd, POWER_WAIT_NS, &job);

	if (r < 0)
		return va_fail(call, -r, "%s: %s could not be started: %s",
			       call->method->name, argv[0], strerror(-r));
	spawn_job_free(job);
	return 0;
}

int guest_power(struct va_call *call, const char *mode, const char **ret_mode)
{
	const char *argv[] = { "/sbin/shutdown", NULL, "+0", POWER_MESSAGE, NULL };
	char shown[64];

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
		return start(call, argv);
	}
	return va_fail(call, EINVAL, "%s: \"%s\" is not one of halt, powerdown, "
		       "reboot", call->method->name,
		       log_escape(shown, sizeof(shown), mode, strlen(mode)));
}

static int shutdown_guest(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *s = NULL;
	const char *mode, *done;
	int r = va_arg_string(call, 0, "powerdown", &mode);

	if (r == 0)
		r = guest_power(call, mode, &done);
	if (r < 0)
		return r;
	s = va_struct();
	guest_set(s, "mode", va_string(done), &r);
	guest_set(s, "delay_ms", va_int((int64_t)(POWER_DELAY_NS / NSEC_PER_MSEC)),
		  &r);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

static const struct va_method rows[] = {
	{
		.name = "guest.shutdown",
		.signature = "S:|s",
		.args = "[halt|powerdown|reboot]",
		.cls = VA_CLASS_POWER,
		.fn = shutdown_guest,
		.help = "Shuts the guest down, in order; default powerdown.",
		.doc = "\"shutdown\" and \"poweroff\" are taken for powerdown.  "
		       "Answers before it acts, with a struct: mode, delay_ms (how "
		       "long until shutdown(8) is run).",
	},
};

const struct va_family guest_shutdown_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
