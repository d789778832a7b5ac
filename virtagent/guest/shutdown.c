/*
 * shutdown.c - guest.shutdown: halt, power down, reboot, suspend; and taking it back
 *
 * Acknowledged before it begins; what is missing is noticed before anything is
 * acknowledged.  power.c does it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/power.h"

#define POWER_MESSAGE "virtagent: asked for by the host"
#define POWER_DELAY_MAX_S (24 * 3600)

/* What the caller wants beside the mode. */
struct power {
	uint64_t delay_ns;
	const char *message;
};

static void fill_who(const struct va_call *call, struct power_plan *p)
{
	p->uid = call->caller->cred.uid;
	snprintf(p->by, sizeof(p->by), "%s", call->caller->remote ? "host" : "guest");
}

static void fill_plan(const struct va_call *call, const struct power_mode *m,
		      const struct power *p, struct power_plan *ret)
{
	*ret = (struct power_plan){
		.due_ns = clock_now() + POWER_DELAY_NS + p->delay_ns,
	};
	snprintf(ret->mode, sizeof(ret->mode), "%s", m->mode);
	fill_who(call, ret);
	snprintf(ret->message, sizeof(ret->message), "%s", p->message);
}

static int refuse(struct va_call *call, const struct power_mode *m, const char *word)
{
	char shown[64];

	if (!m)
		return va_fail(call, EINVAL, "%s: \"%s\" is not one of halt, "
			       "powerdown, reboot, suspend", call->method->name,
			       log_escape(shown, sizeof(shown), word, strlen(word)));
	if (!m->program)
		return va_fail(call, ENOTSUP,
			       "%s: this guest cannot be suspended to RAM "
			       "(/sys/power/state offers no \"mem\")",
			       call->method->name);
	return va_fail(call, ENOENT, "%s: this guest has neither /sbin/shutdown nor %s",
		       call->method->name, m->program);
}

static int power(struct va_call *call, const char *word, const struct power *p,
		 struct power_plan *plan)
{
	const struct power_mode *m = power_find(word);
	const char *program = word;
	int r;

	if (!m || !guest_power_possible(word))
		return refuse(call, m, word);
	fill_plan(call, m, p, plan);
	r = power_start(guest_context(call), plan, p->delay_ns > 0, call->cancel_fd,
			&program);
	return r == 0 ? 0 :
			va_fail(call, -r, "%s: %s could not be started: %s",
				call->method->name, program, strerror(-r));
}

int guest_power(struct va_call *call, const char *mode, const char **ret_mode)
{
	static const struct power plain = { 0, POWER_MESSAGE };
	struct power_plan plan;
	int r = power(call, mode, &plain, &plan);

	if (r == 0)
		*ret_mode = power_find(plan.mode)->mode;
	return r;
}

/* An event that goes out before the system stops us. */
static void tell_host(struct va_call *call, const struct power_plan *p,
		      uint64_t delay_ns)
{
	int r = 0;
	CLEANUP_VALUE struct va_value *data = power_about(p, true, &r);

	guest_set(data, "delay_ms", va_int((int64_t)(delay_ns / NSEC_PER_MSEC)), &r);
	if (r == 0)
		guest_context(call)->post_event(guest_context(call), "shutdown-begun",
						take_ptr(data));
}

static int shutdown_guest(struct va_call *call, struct va_value **ret)
{
	struct power p = { 0, POWER_MESSAGE };
	CLEANUP_VALUE struct va_value *s = NULL;
	struct power_plan plan;
	const char *mode;
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
	r = power(call, mode, &p, &plan);
	if (r < 0)
		return r;
	p.delay_ns += POWER_DELAY_NS;
	/* A suspend is told when it happens. */
	if (strcmp(plan.mode, "suspend") != 0)
		tell_host(call, &plan, p.delay_ns);
	s = va_struct();
	guest_set(s, "mode", va_string(plan.mode), &r);
	guest_set(s, "delay_ms", va_int((int64_t)(p.delay_ns / NSEC_PER_MSEC)), &r);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

static int nothing_waits(struct va_call *call, int error)
{
	const char *begun = __atomic_load_n(&guest_context(call)->power_mode,
					    __ATOMIC_ACQUIRE);

	if (error == -EALREADY)
		return va_fail(call, EALREADY, "%s: %s has begun and cannot be taken back",
			       call->method->name, begun ? begun : "what was asked for");
	return va_fail(call, ENOENT, "%s: no shutdown, reboot, halt or suspend waits",
		       call->method->name);
}

static int cancel(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *s = NULL, *data = NULL;
	struct power_plan was, who;
	uint64_t now = clock_now();
	int r = power_cancel(guest_context(call), &was);

	if (r < 0)
		return nothing_waits(call, r);
	log_info("%s, asked for by uid %lld of the %s, is taken back", was.mode,
		 (long long)was.uid, was.by);
	who = was;
	fill_who(call, &who);
	data = power_about(&who, true, &r);
	if (r == 0)
		guest_context(call)->post_event(guest_context(call),
						"shutdown-cancelled", take_ptr(data));
	s = power_about(&was, true, &r);
	guest_set(s, "delay_ms", va_int(was.due_ns > now ?
			(int64_t)((was.due_ns - now) / NSEC_PER_MSEC) : 0), &r);
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
		       "to logged-in users where shutdown(8) is there, and with a DELAY "
		       "also at once (and so is a cancel) where wall(1) is.  What waits "
		       "for its DELAY survives the agent; the next one that is asked "
		       "for takes its place, guest.shutdown.cancel takes it back.  Events: "
		       "shutdown-begun; suspended, when it happens, and resumed; "
		       "shutdown-failed, shutdown-dropped, shutdown-cancelled.  What the "
		       "guest cannot do is refused with the reason; "
		       "guest.capabilities says it beforehand.",
	},
	{
		.name = "guest.shutdown.cancel",
		.signature = "S:",
		.args = "",
		.cls = VA_CLASS_POWER,
		.fn = cancel,
		.flags = VA_M_UNCOUNTED,
		.help = "Takes back what guest.shutdown was asked for and waits for "
			"its DELAY.",
		.doc = "Whatever it is, whoever asked.  Returns a struct: mode, by (host "
		       "or guest) and uid (who had asked), via, delay_ms (how long it "
		       "had still to wait).  Fails with ENOENT where nothing waits, "
		       "with EALREADY where it has begun.  Event: shutdown-cancelled.",
	},
};

const struct va_family guest_shutdown_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
