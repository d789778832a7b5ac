/*
 * verb_power.c - shutdown, reboot, halt, suspend
 *
 * The agent acknowledges before it acts.  --wait then watches: a reboot is over
 * when an agent with another boot id answers, the others when nobody answers any
 * more.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"

#define POWER_WAIT_NS (300 * NSEC_PER_SEC)
#define POWER_PING_NS (2 * NSEC_PER_SEC)
#define POWER_PAUSE_NS (NSEC_PER_SEC / 4)
#define POWER_SILENT 3 /* pings without an answer that mean "gone" */
#define BOOT_ID_SIZE 128
#define POWER_DELAY_MAX_S 86400 /* the guest's own limit */

struct power_opts {
	bool wait, cancel, delay_given;
	uint64_t delay_s;
	const char *message;
};

DEFINE_FLAG(set_wait, power_opts, wait);
DEFINE_FLAG(set_cancel, power_opts, cancel);
DEFINE_TEXT(set_message, power_opts, message);

static int set_delay(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;
	struct power_opts *o = cl->opts;
	uint64_t ns;

	if (str_to_duration(value, POWER_DELAY_MAX_S * NSEC_PER_SEC, &ns)) {
		snprintf(err, size, "%s is no time up to a day", value);
		return -EINVAL;
	}
	o->delay_given = true;
	o->delay_s = (ns + NSEC_PER_SEC - 1) / NSEC_PER_SEC;
	return 0;
}

static const struct option_row power_rows[] = {
	{ 'w', "wait", NULL, "return when it is done, not when it is begun",
	  set_wait },
	{ 'd', "delay", "SECONDS", "begin after this time", set_delay },
	{ 'm', "message", "TEXT", "tell the guest's users", set_message },
	{ 'c', "cancel", NULL, "take back what waits for its delay, whichever it is",
	  set_cancel },
	CLIENT_ROWS,
};

/* The boot id of whoever answers; "" when nobody does.  guest.uptime tells it in
 * 400 bytes; where the policy refuses that or there is none, the capabilities do,
 * in a hundred times as many. */
static void boot_id(struct rpc *r, char *ret, size_t size)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	int code = rpc_try(r, "guest.uptime", RPC_IDEMPOTENT, va_array(), &v);
	const char *id = code ? "" : member_text(v, "boot_id");

	if (!*id && (!code || rpc_fault(r)))
		id = member_text(rpc_capabilities(r), "boot_id");
	snprintf(ret, size, "%s", id);
}

static bool booted_anew(const struct client *cl, const struct target *t,
			const char *old_boot)
{
	CLEANUP_RPC struct rpc *r = rpc_open(cl, t);
	char boot[BOOT_ID_SIZE];

	if (!r)
		return false;
	rpc_set_deadline(r, clock_now() + POWER_PING_NS);
	boot_id(r, boot, sizeof(boot));
	return *boot && strcmp(boot, old_boot) != 0;
}

static bool is_silent(const struct client *cl, const struct target *t)
{
	CLEANUP_RPC struct rpc *r = rpc_open(cl, t);
	CLEANUP_VALUE struct va_value *v = NULL;

	if (!r)
		return false;
	rpc_set_deadline(r, clock_now() + POWER_PING_NS);
	return rpc_try(r, "guest.ping", RPC_IDEMPOTENT, va_array(), &v) != 0;
}

static int wait_done(const struct client *cl, const struct target *t,
		     const char *mode, const char *old_boot,
		     uint64_t delay_ns)
{
	uint64_t deadline = cl->timeout_given ? client_deadline(cl, 0) :
						clock_now() + delay_ns +
							POWER_WAIT_NS;
	bool reboot = strcmp(mode, "reboot") == 0;
	int silent = 0;
	char why[256];

	while (clock_now() < deadline) {
		if (reboot) {
			if (booted_anew(cl, t, old_boot))
				return VAC_OK;
		} else {
			if (target_check(t, why, sizeof(why), NULL))
				return VAC_OK;
			silent = is_silent(cl, t) ? silent + 1 : 0;
			if (silent >= POWER_SILENT)
				return VAC_OK;
		}
		interrupt_sleep_until(clock_now() + POWER_PAUSE_NS);
	}
	out_error(t->name, mode, "timed out; it was acknowledged but is not done");
	return VAC_TIMEOUT;
}

static int run_cancel(struct client *cl, int argc, char **argv)
{
	const struct power_opts *o = cl->opts;
	CLEANUP_RPC struct rpc *r = NULL;
	CLEANUP_VALUE struct va_value *v = NULL;
	char shown[64];
	int code;

	if (o->wait || o->delay_given || o->message) {
		out_error(NULL, NULL, "--cancel stands alone: no --wait, --delay, "
			  "--message");
		return VAC_USAGE;
	}
	code = rpc_connect(cl, SIDE_GUEST, argc ? argv[0] : NULL, &r);
	if (!code)
		code = rpc_call(r, "guest.shutdown.cancel", 0, va_array(), &v);
	if (code)
		return code;
	if (cl->json)
		return out_json(cl, v) ? VAC_ERROR : VAC_OK;
	printf("%s cancelled\n", out_escape(shown, sizeof(shown), member_text(v, "mode"),
					   strlen(member_text(v, "mode"))));
	return VAC_OK;
}

static int run_power(struct client *cl, int argc, char **argv, const char *mode)
{
	const struct power_opts *o = cl->opts;
	CLEANUP_RPC struct rpc *r = NULL;
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params;
	char boot[BOOT_ID_SIZE] = "";
	int code;

	if (o->cancel)
		return run_cancel(cl, argc, argv);
	code = rpc_connect(cl, SIDE_GUEST, argc ? argv[0] : NULL, &r);
	if (code)
		return code;
	if (o->wait && strcmp(mode, "reboot") == 0)
		boot_id(r, boot, sizeof(boot));
	params = rpc_params(mode, NULL);
	if (((o->delay_given || o->message) &&
	     va_append(params, va_int((int64_t)o->delay_s))) ||
	    (o->message && va_append(params, rpc_text(o->message))))
		va_value_free(take_ptr(params));
	code = rpc_call(r, "guest.shutdown", 0, params, &v);
	if (code || !o->wait)
		return code;
	return wait_done(cl, rpc_target(r), mode, boot,
			 o->delay_s * NSEC_PER_SEC);
}

static int run_shutdown(struct client *cl, int argc, char **argv)
{
	return run_power(cl, argc, argv, "powerdown");
}

static int run_reboot(struct client *cl, int argc, char **argv)
{
	return run_power(cl, argc, argv, "reboot");
}

static int run_halt(struct client *cl, int argc, char **argv)
{
	return run_power(cl, argc, argv, "halt");
}

static int run_suspend(struct client *cl, int argc, char **argv)
{
	return run_power(cl, argc, argv, "suspend");
}

#define POWER_VERB(word, text)                                                 \
	const struct verb verb_##word = {                                      \
		.name = #word,                                                 \
		.usage = "[GUEST]",                                            \
		.help = text,                                                  \
		.about = text ".\nThe guest acknowledges before it begins.",   \
		.rows = power_rows,                                            \
		.nrows = NROWS(power_rows),                                    \
		.opts_size = sizeof(struct power_opts),                        \
		.max_args = 1,                                                 \
		.run = run_##word,                                             \
	}

POWER_VERB(shutdown, "have a guest shut down and switch itself off");
POWER_VERB(reboot, "have a guest reboot");
POWER_VERB(halt, "have a guest halt");
POWER_VERB(suspend, "have a guest suspend itself to RAM");
