/*
 * exec_request.c - see exec_request.h
 *
 * A program's environment is what the caller gave, with PATH, and for another
 * user HOME, USER, LOGNAME and SHELL, added where they are missing; nothing of
 * the agent's own.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/exec_request.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/fault.h"
#include "virtagent/guest/guest.h"
#include "virtagent/limits.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

void exec_request_done(struct exec_request *rq)
{
	for (size_t i = 0; i < rq->nargs; i++)
		free(rq->argv[i]);
	for (size_t i = 0; i < rq->nenv; i++)
		free(rq->env[i]);
	free(rq->cwd);
	free(rq->input);
	rq->nargs = rq->nenv = 0;
	rq->cwd = rq->input = NULL;
}

int exec_add_arg(struct va_call *call, struct exec_request *rq, const char *arg)
{
	if (rq->nargs == EXEC_ARGS_MAX)
		return va_fail(call, E2BIG, "more than %u arguments", EXEC_ARGS_MAX);
	rq->argv[rq->nargs] = strdup(arg);
	if (!rq->argv[rq->nargs])
		return -ENOMEM;
	rq->nargs++;
	return 0;
}

int exec_add_env(struct va_call *call, struct exec_request *rq, const char *pair)
{
	const char *equals = strchr(pair, '=');
	char shown[100];

	if (!equals || equals == pair ||
	    !str_is_clean_text(pair, (size_t)(equals - pair), "")) {
		log_escape(shown, sizeof(shown), pair, equals ? (size_t)(equals - pair) : strlen(pair));
		return va_fail(call, EINVAL,
			       "the environment needs NAME=VALUE, not \"%s\"", shown);
	}
	if (rq->nenv >= EXEC_ARGS_MAX - 8)
		return va_fail(call, E2BIG, "more than %u environment variables",
			       EXEC_ARGS_MAX - 8);
	rq->env[rq->nenv] = strdup(pair);
	if (!rq->env[rq->nenv])
		return -ENOMEM;
	rq->nenv++;
	return 0;
}

int exec_set_cwd(struct va_call *call, struct exec_request *rq, const char *dir)
{
	if (dir[0] != '/')
		return va_fail(call, EINVAL,
			       "the working directory must be an absolute path");
	free(rq->cwd);
	rq->cwd = strdup(dir);
	return rq->cwd ? 0 : -ENOMEM;
}

int exec_set_user(struct va_call *call, struct exec_request *rq, const char *user)
{
	char shown[100];
	int r = guest_user_find(user, &rq->user);

	if (r < 0) {
		log_escape(shown, sizeof(shown), user, strlen(user));
		return va_fail(call, -r, "there is no user \"%s\" in /etc/passwd", shown);
	}
	rq->has_user = true;
	return 0;
}

int exec_set_timeout(struct va_call *call, struct exec_request *rq, double seconds)
{
	if (!(seconds >= 0 && seconds <= EXEC_TIMEOUT_MAX_S))
		return va_fail(call, ERANGE,
			       "a time limit of %g s is not within 0 and %d",
			       seconds, EXEC_TIMEOUT_MAX_S);
	rq->job.spawn.timeout_ns = (uint64_t)(seconds * (double)NSEC_PER_SEC);
	return 0;
}

/* A value as a C string, whose bytes hold no NUL; NULL when it does not fit. */
static char *text_of(const struct va_value *v)
{
	const void *data;
	size_t n;

	if (va_get_bytes(v, &data, &n) < 0 || memchr(data, 0, n))
		return NULL;
	return strndup(data, n);
}

static int option_size(struct va_call *call, const struct va_value *v,
		       const char *name, int64_t max, int64_t *ret)
{
	if (va_get_int(v, ret) < 0 || *ret < 0 || *ret > max)
		return va_fail(call, EINVAL,
			       "option %s: needs a number from 0 to %lld", name,
			       (long long)max);
	return 0;
}

static int option_env(struct va_call *call, struct exec_request *rq,
		      const struct va_value *v)
{
	int r = 0;

	if (va_typeof(v) == VA_STRUCT) {
		for (size_t i = 0; i < va_count(v) && r == 0; i++) {
			const char *name;
			CLEANUP_FREE char *value = text_of(va_member_at(v, i, &name));
			CLEANUP_FREE char *pair = value ? str_printf("%s=%s", name, value) :
							  NULL;

			r = pair ? exec_add_env(call, rq, pair) :
				   va_fail(call, EINVAL, "option env: %s is not text",
					   name);
		}
		return r;
	}
	for (size_t i = 0; i < va_count(v) && r == 0; i++) {
		CLEANUP_FREE char *pair = text_of(va_item(v, i));

		r = pair ? exec_add_env(call, rq, pair) :
			   va_fail(call, EINVAL, "option env: item %zu is not text", i);
	}
	return r;
}

int exec_set_input(struct va_call *call, struct exec_request *rq,
		   const struct va_value *v)
{
	const void *data;
	size_t n;

	if (va_get_bytes(v, &data, &n) < 0)
		return va_fail(call, EINVAL, "option input: needs base64 or a string");
	free(rq->input);
	rq->input = malloc(n + 1);
	if (!rq->input)
		return -ENOMEM;
	memcpy(rq->input, data, n);
	rq->input_len = n;
	rq->job.stdin_open = true;
	return 0;
}

int exec_feed(struct va_call *call, struct exec_request *rq, struct job *j)
{
	int r = 0;

	if (!rq->input)
		return 0;
	if (rq->input_len)
		r = job_write(j, rq->input, rq->input_len, call->cancel_fd);
	/* A program that does not read all of it is no failure of the call. */
	if (r < 0 && r != -EPIPE) {
		job_kill(j, SIGKILL);
		return va_fail(call, -r, "the input could not be written: %s; the "
			       "program was killed", strerror(-r));
	}
	job_close_stdin(j);
	return 0;
}

static int set_option(struct va_call *call, struct exec_request *rq,
		      const char *name, const struct va_value *v)
{
	CLEANUP_FREE char *text = text_of(v);
	int64_t number;
	double seconds;
	int r;

	if (!strcmp(name, "env"))
		return option_env(call, rq, v);
	if (!strcmp(name, "cwd"))
		return text ? exec_set_cwd(call, rq, text) :
			      va_fail(call, EINVAL, "option cwd: needs a path");
	if (!strcmp(name, "user"))
		return text ? exec_set_user(call, rq, text) :
			      va_fail(call, EINVAL, "option user: needs a name");
	if (!strcmp(name, "timeout"))
		return va_get_double(v, &seconds) < 0 ?
			       va_fail(call, EINVAL, "option timeout: needs seconds") :
			       exec_set_timeout(call, rq, seconds);
	if (!strcmp(name, "stdin"))
		return va_get_bool(v, &rq->job.stdin_open) < 0 ?
			       va_fail(call, EINVAL, "option stdin: needs a boolean") : 0;
	if (!strcmp(name, "tty"))
		return va_get_bool(v, &rq->job.tty) < 0 ?
			       va_fail(call, EINVAL, "option tty: needs a boolean") : 0;
	if (!strcmp(name, "output_max")) {
		r = option_size(call, v, name, VA_JOB_OUTPUT_MAX, &number);
		rq->job.output_max = r == 0 ? (size_t)number : 0;
		return r;
	}
	if (!strcmp(name, "rows") || !strcmp(name, "cols")) {
		r = option_size(call, v, name, 10000, &number);
		if (r == 0)
			*(name[0] == 'r' ? &rq->job.rows : &rq->job.cols) = (unsigned)number;
		return r;
	}
	if (!strcmp(name, "input"))
		return exec_set_input(call, rq, v);
	return va_fail(call, EINVAL,
		       "there is no option \"%s\" (env, cwd, user, timeout, stdin, "
		       "input, tty, rows, cols, output_max)", name);
}

int exec_add_args(struct va_call *call, struct exec_request *rq,
		  const struct va_value *args)
{
	int r = 0;

	for (size_t i = 0; args && i < va_count(args) && r == 0; i++) {
		CLEANUP_FREE char *arg = text_of(va_item(args, i));

		r = arg ? exec_add_arg(call, rq, arg) :
			  va_fail(call, EINVAL, "argument %zu of the program is not "
				  "text or holds a NUL byte", i);
	}
	return r;
}

int exec_from_params(struct va_call *call, struct exec_request *rq)
{
	const struct va_value *options = va_item(call->params, 1);
	int r = exec_add_args(call, rq, va_item(call->params, 0));

	for (size_t i = 0; options && i < va_count(options) && r == 0; i++) {
		const char *name;
		const struct va_value *v = va_member_at(options, i, &name);

		r = set_option(call, rq, name, v);
	}
	return r;
}

static int add_default(struct exec_request *rq, const char *name, const char *value)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < rq->nenv; i++)
		if (!strncmp(rq->env[i], name, n) && rq->env[i][n] == '=')
			return 0;
	rq->env[rq->nenv] = str_printf("%s=%s", name, value);
	if (!rq->env[rq->nenv])
		return -ENOMEM;
	rq->nenv++;
	return 0;
}

static int complete_env(struct exec_request *rq)
{
	int r = add_default(rq, "PATH", DEFAULT_PATH);

	if (r == 0 && rq->has_user) {
		r |= add_default(rq, "HOME", rq->user.home);
		r |= add_default(rq, "USER", rq->user.name);
		r |= add_default(rq, "LOGNAME", rq->user.name);
		r |= add_default(rq, "SHELL", rq->user.shell[0] ? rq->user.shell : "/bin/sh");
	}
	if (r == 0 && rq->job.tty)
		r = add_default(rq, "TERM", "linux");
	return r < 0 ? -ENOMEM : 0;
}

static int check_user(struct va_call *call, struct exec_request *rq)
{
	struct guest_context *ctx = guest_context(call);
	struct guest_user self;
	char number[16];
	int r;

	if (!ctx->check_user)
		return 0;
	if (rq->has_user)
		return ctx->check_user(call, rq->user.name);
	snprintf(number, sizeof(number), "%u", (unsigned)geteuid());
	r = guest_user_find(number, &self);
	return r < 0 ? r : ctx->check_user(call, self.name);
}

/* As at a login: the user's home, or / when it is not there. */
static const char *home_of(const struct exec_request *rq)
{
	return rq->has_user && access(rq->user.home, F_OK) == 0 ? rq->user.home : NULL;
}

static int at_limit(struct va_call *call, const struct exec_request *rq, int r)
{
	struct guest_limits l = guest_context(call)->limits(guest_context(call));
	char ask[48] = "";

	if (r == -EUSERS)
		return va_fault(call, VA_FAULT_BUSY, EBUSY, "%s: %llu programs run or "
				"are followed, the limit (jobs in agent.conf)",
				call->method->name, (unsigned long long)l.jobs);
	if (rq->job.output_max)
		snprintf(ask, sizeof(ask), "; output_max is %zu", rq->job.output_max);
	return va_fault(call, VA_FAULT_BUSY, EBUSY, "%s: the kept output of all programs "
			"may have %llu bytes, the limit (output in agent.conf)%s",
			call->method->name, (unsigned long long)l.output, ask);
}

int exec_start(struct va_call *call, struct exec_request *rq, struct job **ret)
{
	struct guest_context *ctx = guest_context(call);
	const char *base;
	int r;

	if (rq->nargs == 0 || !rq->argv[0][0])
		return va_fail(call, EINVAL, "no program was named");
	r = check_user(call, rq);
	if (r == 0)
		r = complete_env(rq);
	if (r < 0)
		return r;
	base = strrchr(rq->argv[0], '/');
	log_escape(rq->label, sizeof(rq->label), base ? base + 1 : rq->argv[0],
		   strlen(base ? base + 1 : rq->argv[0]));
	rq->job.label = rq->label;
	rq->job.spawn.argv = (const char *const *)rq->argv;
	rq->job.spawn.env = (const char *const *)rq->env;
	rq->job.spawn.cwd = rq->cwd ? rq->cwd : home_of(rq);
	if (rq->has_user && (rq->user.uid != geteuid() || rq->user.gid != getegid())) {
		rq->job.spawn.flags |= SPAWN_IDS;
		rq->job.spawn.uid = rq->user.uid;
		rq->job.spawn.gid = rq->user.gid;
		rq->job.spawn.groups = rq->user.groups;
		rq->job.spawn.ngroups = rq->user.ngroups;
	}
	r = job_start(ctx->jobs, &rq->job, call->cancel_fd, ret);
	if (r == -EUSERS || r == -ENOBUFS)
		return at_limit(call, rq, r);
	if (r == -EAGAIN)
		return va_fault(call, VA_FAULT_BUSY, EBUSY, "%s: no program is started "
				"now: %u run, the most there may be, or the agent's "
				"spawner is being replaced", call->method->name,
				SPAWN_JOBS_MAX);
	if (r == -E2BIG)
		return va_fail(call, E2BIG,
			       "arguments and environment are too long (the limit is "
			       "about 96 KiB together)");
	return r < 0 ? va_fail(call, -r, "cannot start %s: %s", rq->label, strerror(-r)) : 0;
}
