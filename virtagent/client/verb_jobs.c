/*
 * verb_jobs.c - jobs, attach JOB, kill: programs that run in the guest
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"
#include "virtagent/client/exec_session.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"
#include "virtagent/client/table.h"

static const struct option_row jobs_rows[] = { CLIENT_ROWS };

struct kill_opts {
	const char *signal;
	bool forget;
};

DEFINE_TEXT(set_signal, kill_opts, signal);
DEFINE_FLAG(set_forget, kill_opts, forget);

static int set_nine(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;

	((struct kill_opts *)cl->opts)->signal = "KILL";
	return 0;
}

static const struct option_row kill_rows[] = {
	{ 's', "signal", "SIGNAL", "name or number (default TERM)", set_signal },
	{ '9', NULL, NULL, "the same as --signal KILL", set_nine },
	{ 0, "forget", NULL, "instead: forget ended jobs and their output", set_forget },
	CLIENT_ROWS,
};

static int run_jobs(struct client *cl, int argc, char **argv)
{
	CLEANUP_TABLE struct table *t = NULL;
	CLEANUP_VALUE struct va_value *jobs = NULL;
	CLEANUP_RPC struct rpc *r = NULL;
	int code = rpc_connect(cl, SIDE_GUEST, argc ? argv[0] : NULL, &r);

	if (!code)
		code = rpc_call(r, "guest.exec.list", RPC_IDEMPOTENT, va_array(), &jobs);
	if (code)
		return code;
	if (cl->json)
		return out_json(cl, jobs) ? VAC_ERROR : VAC_OK;
	t = table_new(">JOB,>PID,STATE,>EXIT,>SECONDS,>OUT,>ERR,PROGRAM");
	for (size_t i = 0; t && i < va_count(jobs); i++) {
		const struct va_value *j = va_item(jobs, i);
		bool timed_out = false;
		double seconds = 0;

		va_get_bool(va_member(j, "timed_out"), &timed_out);
		va_get_double(va_member(j, "seconds"), &seconds);
		table_member(t, j, "job");
		table_member(t, j, "pid");
		if (timed_out)
			table_cellf(t, "timed out");
		else
			table_member(t, j, "state");
		table_member(t, j, "exit");
		table_cellf(t, "%.1f", seconds);
		table_member(t, j, "stdout_bytes");
		table_member(t, j, "stderr_bytes");
		table_member(t, j, "program");
	}
	return !t || table_print(t, stdout, true) ? VAC_ERROR : VAC_OK;
}

int exec_attach_job(struct client *cl, int argc, char **argv, bool watch)
{
	CLEANUP_RPC struct rpc *r = NULL;
	CLEANUP_VALUE struct va_value *params = va_array(), *info = NULL;
	const char *number = argv[argc - 1];
	char target[64];
	uint64_t job;
	bool tty = false;

	if (str_to_u64(number, UINT32_MAX, &job) < 0) {
		out_error(NULL, "attach", "%s is no job number (va-client jobs lists them)",
			  number);
		return VAC_USAGE;
	}
	if (rpc_connect(cl, SIDE_GUEST, argc > 1 ? argv[0] : NULL, &r))
		return EXEC_OWN_FAILURE;
	va_append(params, va_int((int64_t)job));
	if (rpc_call(r, "guest.exec.status", RPC_IDEMPOTENT, take_ptr(params), &info))
		return EXEC_OWN_FAILURE;
	va_get_bool(va_member(info, "tty"), &tty);
	snprintf(target, sizeof(target), "/jobs/%llu", (unsigned long long)job);
	return exec_join(cl, r, "attach", target,
			 tty && !watch && isatty(STDIN_FILENO),
			 watch ? EXEC_WATCH : EXEC_STDIN_OURS);
}

static int kill_one(struct rpc *r, const struct kill_opts *o, uint64_t job)
{
	CLEANUP_VALUE struct va_value *done = NULL;
	struct va_value *params = va_array();

	va_append(params, va_int((int64_t)job));
	if (!o->forget && o->signal)
		va_append(params, va_string(o->signal));
	return rpc_call(r, o->forget ? "guest.exec.forget" : "guest.exec.kill",
			o->forget ? RPC_IDEMPOTENT : 0, params, &done);
}

/* The first of several operands is the guest, unless it is a number and no guest has
 * that name. */
static int run_kill(struct client *cl, int argc, char **argv)
{
	CLEANUP_RPC struct rpc *r = NULL;
	uint64_t job;
	int first, code, worst = VAC_OK;

	first = argc > 1 && (str_to_u64(argv[0], UINT32_MAX, &job) < 0 ||
			     exec_first_is_guest(cl, argc, argv));
	for (int i = first; i < argc; i++) {
		if (str_to_u64(argv[i], UINT32_MAX, &job) == 0)
			continue;
		out_error(NULL, "kill", "%s is no job number (va-client jobs lists them)",
			  argv[i]);
		return VAC_USAGE;
	}
	code = rpc_connect(cl, SIDE_GUEST, first ? argv[0] : NULL, &r);
	if (code)
		return code;
	for (int i = first; i < argc; i++) {
		str_to_u64(argv[i], UINT32_MAX, &job);
		code = kill_one(r, cl->opts, job);
		if (code > worst)
			worst = code;
	}
	return worst;
}

const struct verb verb_jobs = {
	.name = "jobs",
	.usage = "[GUEST]",
	.help = "programs that were started in a guest",
	.about = "Lists running programs and ended ones whose output is still kept.",
	.rows = jobs_rows,
	.nrows = NROWS(jobs_rows),
	.max_args = 1,
	.run = run_jobs,
};

const struct verb verb_kill = {
	.name = "kill",
	.usage = "[GUEST] JOB...",
	.help = "send a signal to a job in a guest",
	.about = "Signals each job's whole process group.",
	.rows = kill_rows,
	.nrows = NROWS(kill_rows),
	.opts_size = sizeof(struct kill_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run_kill,
};
