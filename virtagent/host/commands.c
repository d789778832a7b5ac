/*
 * commands.c - host.commands and host.command.run
 *
 * A command runs for a call that waits on its connection's thread (run.h).  Of each
 * output the last RUN_OUTPUT_MAX bytes are kept.  A program whose caller left, or
 * whose time is over, is ended with its whole process group; it has a session of its
 * own (child.h), so the group is its own, too.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/host/run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/commands.h"
#include "common/str.h"
#include "virtagent/host/host.h"

#define PIECE (64u << 10)
#define TIMEOUT_DEFAULT_S 600 /* a guest that forgets a program must not keep it */
#define TIMEOUT_MAX_S 86400
#define ENV_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* --- the program's streams, on the call's thread --------------------------------- */

static void read_output(struct run *r, int i)
{
	ssize_t n = buf_read_fd(&r->kept[i], r->out[i], PIECE);
	size_t len = buf_len(&r->kept[i]);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		run_close(&r->out[i]);
		return;
	}
	if (len + PIECE > 2 * RUN_OUTPUT_MAX) {
		buf_consume(&r->kept[i], len - RUN_OUTPUT_MAX);
		r->dropped[i] += len - RUN_OUTPUT_MAX;
	}
}

static void write_input(struct run *r)
{
	ssize_t n = r->input_len ? write(r->in, r->input, r->input_len) : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		r->input += n;
		r->input_len -= (size_t)n;
	}
	/* A program that does not read all of it is no failure of the call. */
	if (n < 0 || !r->input_len)
		run_close(&r->in);
}

static int ms_until(uint64_t deadline_ns)
{
	uint64_t now = clock_now(), left;

	if (deadline_ns <= now)
		return 0;
	left = (deadline_ns - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	return left > 3600000 ? 3600000 : (int)left;
}

/* Until it has ended and its output, too; -ECANCELED when the caller left. */
static int pump(struct run *r, int cancel_fd)
{
	bool over = false;

	while (!over || r->out[0] >= 0 || r->out[1] >= 0) {
		struct pollfd p[] = {
			{ .fd = r->out[0], .events = POLLIN },
			{ .fd = r->out[1], .events = POLLIN },
			{ .fd = r->in, .events = POLLOUT },
			{ .fd = over ? -1 : r->end_fd, .events = POLLIN },
			{ .fd = cancel_fd, .events = POLLIN },
		};
		int n = poll(p, 5, ms_until(r->deadline_ns));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0 && over)
			return 0; /* somebody else holds its pipes */
		if (n == 0 && r->killed)
			return -ETIMEDOUT; /* it cannot be killed */
		if (n == 0)
			run_time_over(r);
		if (n <= 0)
			continue;
		if (p[4].revents)
			return -ECANCELED;
		for (int i = 0; i < 2; i++)
			if (p[i].revents)
				read_output(r, i);
		if (p[2].revents)
			write_input(r);
		if (p[3].revents) {
			over = true;
			run_close(&r->in);
			r->deadline_ns = clock_now() + RUN_DRAIN_NS;
		}
	}
	return 0;
}

/* --- the request ----------------------------------------------------------------- */

static int add_env(struct run *r, size_t *n, const char *name, const char *value)
{
	r->env[*n] = str_printf("%s=%s", name, value);
	return r->env[(*n)++] ? 0 : -ENOMEM;
}

static int set_env(const struct va_call *call, struct run *r)
{
	const char *guest = call->caller->guest ? call->caller->guest : "";
	char uid[16] = "";
	size_t n = 1;
	int err = 0;

	if (call->caller->cred.uid != (uid_t)-1)
		snprintf(uid, sizeof(uid), "%u", (unsigned)call->caller->cred.uid);
	r->env[0] = strdup(ENV_PATH);
	if (!r->env[0])
		return -ENOMEM;
	err = add_env(r, &n, "VA_SIDE", "host");
	if (err == 0)
		err = add_env(r, &n, "VA_GUEST", guest);
	if (err == 0)
		err = add_env(r, &n, "NEGOTIATOR_GUEST", guest);
	if (err == 0)
		err = add_env(r, &n, "VA_CALLER", uid);
	return err;
}

static int add_args(struct va_call *call, struct run *r)
{
	const struct va_value *args = va_item(call->params, 1);
	size_t count = va_count(args);

	if (count > RUN_ARGS_MAX)
		return va_fail(call, E2BIG, "more than %u arguments", RUN_ARGS_MAX);
	for (size_t i = 0; i < count; i++) {
		const void *data;
		size_t n;

		if (va_get_bytes(va_item(args, i), &data, &n) < 0 ||
		    memchr(data, 0, n))
			return va_fail(call, EINVAL, "argument %zu of the command is "
				       "not text or holds a NUL byte", i);
		r->argv[i + 1] = strndup(data, n);
		if (!r->argv[i + 1])
			return -ENOMEM;
	}
	return 0;
}

static int set_options(struct va_call *call, struct run *r)
{
	const struct va_value *options = va_item(call->params, 2);
	/* With a session, the program ends with its client. */
	double seconds = r->session ? TIMEOUT_MAX_S : TIMEOUT_DEFAULT_S;
	const void *data;

	for (size_t i = 0; options && i < va_count(options); i++) {
		const char *name;
		const struct va_value *v = va_member_at(options, i, &name);

		if (strcmp(name, "timeout") == 0) {
			if (va_get_double(v, &seconds) < 0 || !(seconds > 0) ||
			    seconds > TIMEOUT_MAX_S)
				return va_fail(call, ERANGE, "option timeout: needs "
					       "seconds, above 0 and up to %d",
					       TIMEOUT_MAX_S);
		} else if (strcmp(name, "input") == 0) {
			if (va_get_bytes(v, &data, &r->input_len) < 0)
				return va_fail(call, EINVAL, "option input: needs "
					       "base64 or a string");
			r->input = data;
		} else {
			return va_fail(call, EINVAL, "there is no option \"%s\" "
				       "(input, timeout)", name);
		}
	}
	r->deadline_ns = clock_now() + (uint64_t)(seconds * (double)NSEC_PER_SEC);
	return 0;
}

int run_from_params(struct va_call *call, struct run *r)
{
	CLEANUP_FREE char *dirs = host_commands_dirs(r->owner);
	const char *name = "";
	char why[256] = "";
	int err = dirs ? va_arg_text(call, 0, "", &name) : -ENOMEM;

	if (err < 0)
		return err;
	err = command_find(dirs, name, &r->argv[0], why, sizeof(why));
	if (err < 0 && why[0])
		return va_fail(call, -err, "command %s: %s",
			       command_name_valid(name) ? name : "?", why);
	if (err == 0)
		err = add_args(call, r);
	if (err == 0)
		err = set_env(call, r);
	if (err == 0)
		err = set_options(call, r);
	return err;
}

/* --- the answer ------------------------------------------------------------------- */

static int add_output(struct run *r, int i, struct va_value *v)
{
	static const char *const names[2][2] = {
		{ "stdout", "stdout_dropped" },
		{ "stderr", "stderr_dropped" },
	};
	struct buf *b = &r->kept[i];

	if (buf_len(b) > RUN_OUTPUT_MAX) {
		r->dropped[i] += buf_len(b) - RUN_OUTPUT_MAX;
		buf_consume(b, buf_len(b) - RUN_OUTPUT_MAX);
	}
	if (va_set(v, names[i][0], va_bytes(buf_data(b), buf_len(b))) < 0)
		return -ENOMEM;
	return va_set(v, names[i][1], va_int((int64_t)r->dropped[i]));
}

static int add_status(const struct run *r, struct va_value *v)
{
	int sig, code = run_exit_code(r, &sig), err = 0;

	if (r->error)
		err = va_set(v, "error", va_string(strerror(-r->error)));
	if (err == 0)
		err = va_set(v, "exit", va_int(code));
	if (err == 0)
		err = va_set(v, "signal", va_int(sig));
	if (err == 0)
		err = va_set(v, "timed_out", va_bool(r->timed_out));
	if (err == 0)
		err = va_set(v, "seconds",
			     va_double((double)(clock_now() - r->began_ns) /
				       (double)NSEC_PER_SEC));
	return err;
}

static int command_run(struct va_call *call, struct va_value **ret)
{
	CLEANUP(run_leave_p) struct run *r = run_new(host_context(call)->commands);
	CLEANUP_VALUE struct va_value *v = va_struct();
	int err = r && v ? run_from_params(call, r) : -ENOMEM;

	if (err == 0)
		err = run_start(r);
	if (err == -ETIMEDOUT)
		return va_fail(call, ETIMEDOUT, "host.command.run: the daemon is busy");
	if (err < 0)
		return err;
	err = r->error ? 0 : pump(r, call->cancel_fd);
	if (err < 0) {
		run_signal(r, SIGKILL);
		return va_fail(call, -err, err == -ECANCELED ?
			       "the caller left; the command was killed" :
			       "the command does not end, though it was killed");
	}
	err = add_status(r, v);
	for (int i = 0; i < 2 && err == 0; i++)
		err = add_output(r, i, v);
	if (err == 0)
		*ret = take_ptr(v);
	return err;
}

static struct va_value *command_value(const struct command *c)
{
	CLEANUP_VALUE struct va_value *s = va_struct();
	int err = va_set(s, "name", va_string(c->name));

	if (err == 0 && c->description[0])
		err = va_set(s, "description", va_string(c->description));
	if (err == 0 && c->refused[0])
		err = va_set(s, "refused", va_string(c->refused));
	return err < 0 ? NULL : take_ptr(s);
}

static int commands(struct va_call *call, struct va_value **ret)
{
	CLEANUP_FREE char *dirs = host_commands_dirs(host_context(call)->commands);
	CLEANUP_VALUE struct va_value *v = va_array();
	CLEANUP_FREE struct command *list = NULL;
	int n = dirs ? command_list(dirs, &list) : -ENOMEM;
	int err = n < 0 ? n : 0;

	for (int i = 0; i < n && err == 0; i++)
		err = va_append(v, command_value(&list[i]));
	if (err == 0)
		*ret = take_ptr(v);
	return err;
}

static const struct va_method methods[] = {
	{
		.name = "host.commands",
		.signature = "A:",
		.args = "",
		.cls = VA_CLASS_READ,
		.fn = commands,
		.help = "the commands that this host offers",
		.doc = "They are the executable files of the directories that "
		       "hostd.conf names (commands, by default "
		       "/usr/lib/virtagent/commands).  An array of structs: name, "
		       "description where the script has one (a comment as its "
		       "second line), and for a file that would not run refused, "
		       "the reason.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "host.command.run",
		.signature = "S:t|AS",
		.args = "NAME [ARGS [OPTIONS]]",
		.cls = VA_CLASS_EXEC,
		.fn = command_run,
		.raw = "stdout",
		.help = "run a command that this host offers",
		.doc = "No shell is involved.  OPTIONS is a struct: input (bytes for "
		       "its stdin, empty by default), timeout (seconds, default 600; "
		       "then TERM and 2 s later KILL go to the whole process group).  "
		       "Environment: PATH, VA_SIDE (host), VA_GUEST and "
		       "NEGOTIATOR_GUEST (the calling guest, empty for a client of "
		       "the host), VA_CALLER (the caller's uid at his side).  Returns "
		       "a struct: stdout and stderr (the last 1 MiB of each), "
		       "stdout_dropped and stderr_dropped (bytes before those), exit "
		       "(128 + signal for a signal; 126 or 127, with error, when it "
		       "could not be started), signal, timed_out, seconds.  A file "
		       "that others than its owner may write, that is no executable "
		       "file of that very directory or belongs to another user than "
		       "root or va-hostd's is refused.  It is killed when the caller "
		       "leaves.",
	},
};

const struct va_family host_commands_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
