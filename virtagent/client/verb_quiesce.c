/*
 * verb_quiesce.c - quiesce, resume: a guest's channel held still for a snapshot
 *
 * Spoken with virtproxy alone, by its control socket: neither va-hostd nor the
 * guest's agent need answer.  "quiesce" is repeated until virtproxy says that
 * nothing is under way; it ends by itself after a while (virtproxy.h).
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/ctl.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/target.h"

#define QUIESCE_WAIT_NS (10 * NSEC_PER_SEC)
#define QUIESCE_LOOK_NS (20 * NSEC_PER_MSEC)
#define QUIESCE_ASK_NS NSEC_PER_SEC /* virtproxy answers from its loop */
#define QUIESCE_FOR 60u		    /* seconds */
#define QUIESCE_FOR_MAX 3600u	    /* seconds: virtproxy's limit */
#define ANSWER_MAX 4096u

struct quiesce_opts {
	uint64_t seconds;
};

static int set_for(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;
	struct quiesce_opts *o = cl->opts;

	if (!str_to_u64(value, QUIESCE_FOR_MAX, &o->seconds) && o->seconds)
		return 0;
	snprintf(err, size, "%s is not 1 to %u seconds", value, QUIESCE_FOR_MAX);
	return -EINVAL;
}

static const struct option_row quiesce_rows[] = {
	{ 0, "for", "SECONDS", "go on by itself after this time (default 60)",
	  set_for },
	CLIENT_ROWS,
};

static const struct option_row resume_rows[] = { CLIENT_ROWS };

/* The guest's virtproxy; an exit code. */
static int find(const struct client *cl, int argc, char **argv, struct target *t)
{
	int code = target_resolve(cl, SIDE_GUEST, argc ? argv[0] : NULL, t);

	if (code || *t->ctl)
		return code;
	out_error(t->name, cl->verb->name,
		  "there is no virtproxy's control socket beside %s", t->rpc);
	return VAC_ERROR;
}

/* One command; an exit code, with the answer's first line in ret. */
static int ask(const struct client *cl, const struct target *t,
	       const char *command, char *ret, size_t size)
{
	CLEANUP_BUF struct buf answer = BUF_INIT(ANSWER_MAX);
	int error = ctl_ask(t->ctl, command, clock_now() + QUIESCE_ASK_NS, &answer);
	const char *text = buf_cstr(&answer);

	if (error) {
		out_error(t->name, cl->verb->name, "its virtproxy %s: %s",
			  error == -ETIMEDOUT ? "does not answer" :
						"cannot be asked",
			  strerror(-error));
		return error == -EACCES || error == -EPERM ? VAC_ERROR :
							     VAC_NOT_CONNECTED;
	}
	snprintf(ret, size, "%.*s", (int)strcspn(text ? text : "", "\n"),
		 text ? text : "");
	if (!str_starts(ret, "error"))
		return VAC_OK;
	out_error(t->name, cl->verb->name, "its virtproxy says: %s", ret);
	return VAC_ERROR;
}

static int print_result(const struct client *cl, const struct target *t,
			uint64_t began)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	struct ctl_session s = { 0 };
	bool up = !ctl_session(t->ctl, clock_now() + QUIESCE_ASK_NS, &s) && s.up;
	double took = (double)(clock_now() - began) / (double)NSEC_PER_SEC;

	va_value_free(s.status);
	if (va_set(v, "guest", va_string(t->name)) ||
	    va_set(v, "idle", va_bool(true)) ||
	    va_set(v, "connected", va_bool(up)) ||
	    va_set(v, "seconds", va_double(took)))
		return VAC_ERROR;
	return out_json(cl, v) ? VAC_ERROR : VAC_OK;
}

/* It did not become still: nothing is held back any longer. */
static int give_up(const struct client *cl, const struct target *t)
{
	struct ctl_session s = { 0 };
	char line[128];
	bool asked = interrupt_seen();

	if (!ctl_session(t->ctl, clock_now() + QUIESCE_ASK_NS, &s) && !asked)
		out_error(t->name, cl->verb->name,
			  "timed out with %lld bytes under way; it goes on",
			  (long long)member_int(s.status, "in-flight-bytes", 0));
	va_value_free(s.status);
	ask(cl, t, "resume", line, sizeof(line));
	return asked ? interrupt_status() : VAC_TIMEOUT;
}

static int run_quiesce(struct client *cl, int argc, char **argv)
{
	const struct quiesce_opts *o = cl->opts;
	uint64_t began = clock_now();
	uint64_t deadline = client_deadline(cl, QUIESCE_WAIT_NS);
	char command[64], line[128];
	struct target t;
	int code = find(cl, argc, argv, &t);

	if (code)
		return code;
	snprintf(command, sizeof(command), "quiesce %llu",
		 (unsigned long long)(o->seconds ? o->seconds : QUIESCE_FOR));
	interrupt_catch();
	for (;;) {
		code = ask(cl, &t, command, line, sizeof(line));
		if (code)
			return code;
		if (strcmp(line, "idle") == 0)
			return cl->json ? print_result(cl, &t, began) : VAC_OK;
		if (clock_now() >= deadline || interrupt_seen())
			return give_up(cl, &t);
		interrupt_sleep_until(clock_now() + QUIESCE_LOOK_NS);
	}
}

const struct verb verb_quiesce = {
	.name = "quiesce",
	.usage = "[GUEST]",
	.help = "hold a guest's channel still, for a snapshot",
	.about = "Holds back everything between a guest and its host and returns "
		 "when nothing is\nunder way.  Connections stay; what is written "
		 "to them waits for \"resume\".",
	.rows = quiesce_rows,
	.nrows = NROWS(quiesce_rows),
	.opts_size = sizeof(struct quiesce_opts),
	.max_args = 1,
	.run = run_quiesce,
};

static int run_resume(struct client *cl, int argc, char **argv)
{
	char line[128];
	struct target t;
	int code = find(cl, argc, argv, &t);

	return code ? code : ask(cl, &t, "resume", line, sizeof(line));
}

const struct verb verb_resume = {
	.name = "resume",
	.usage = "[GUEST]",
	.help = "end quiesce: what was held back goes on",
	.rows = resume_rows,
	.nrows = NROWS(resume_rows),
	.max_args = 1,
	.run = run_resume,
};
