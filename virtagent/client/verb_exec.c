/*
 * verb_exec.c - exec, shell: programs in the guest, joined to this terminal
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/exec_session.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"
#include "virtagent/exec_wire.h"

#define TARGET_MAX (128u << 10) /* of the request line; the agent's limit too */
#define ENV_MAX 256

struct exec_opts {
	const char *env[ENV_MAX];
	size_t nenv;
	const char *cwd, *user, *limit;
	bool tty, no_tty, no_stdin, detach;
};

DEFINE_TEXT(set_cwd, exec_opts, cwd);
DEFINE_TEXT(set_user, exec_opts, user);
DEFINE_FLAG(set_tty, exec_opts, tty);
DEFINE_FLAG(set_no_tty, exec_opts, no_tty);
DEFINE_FLAG(set_no_stdin, exec_opts, no_stdin);
DEFINE_FLAG(set_detach, exec_opts, detach);

static int set_env(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;
	struct exec_opts *o = cl->opts;

	if (!strchr(value, '=') || value[0] == '=') {
		snprintf(err, size, "%s is not NAME=VALUE", value);
		return -EINVAL;
	}
	if (o->nenv == ENV_MAX) {
		snprintf(err, size, "more than %d variables", ENV_MAX);
		return -E2BIG;
	}
	o->env[o->nenv++] = value;
	return 0;
}

DEFINE_TIME(set_limit, exec_opts, limit);

/* docker's -i. */
static int set_nothing(void *ctx, const char *value, char *err, size_t size)
{
	(void)ctx;
	(void)value;
	(void)err;
	(void)size;
	return 0;
}

/* -t is a terminal to those who come from incus or docker. */
static int set_timeout(void *ctx, const char *value, char *err, size_t size)
{
	int r = client_set_timeout(ctx, value, err, size);
	size_t n = strnlen(err, size);

	if (r < 0 && n < size)
		snprintf(err + n, size - n, " (a terminal is asked for by --tty or -it)");
	return r;
}

#define EXEC_ROWS                                                              \
	{ 'e', "env", "NAME=VALUE", "set a variable (may be repeated)", set_env }, \
	{ 'w', "cwd", "DIR", "working directory in the guest", set_cwd },        \
	{ 'u', "user", "USER", "run as this user (name or uid)", set_user },   \
	{ 0, "tty", NULL, "give it a terminal (default: when stdin and stdout " \
	  "are one)", set_tty },                                               \
	{ 'T', "no-tty", NULL, "give it none", set_no_tty },                   \
	{ 0, "limit", "SECONDS", "the guest ends it after this time", set_limit }, \
	CLIENT_ROWS_BUT_TIMEOUT,                                               \
	{ 't', "timeout", "SECONDS", "give up after this time (0 = never)",    \
	  set_timeout }

static const struct option_row exec_rows[] = {
	EXEC_ROWS,
	{ 'i', "interactive", NULL, "its input is this one's: it always is", set_nothing },
	{ 'n', "no-stdin", NULL, "its input is empty", set_no_stdin },
	{ 'd', "detach", NULL, "start it, print its job number and return",
	  set_detach },
};

static const struct option_row shell_rows[] = { EXEC_ROWS };

int exec_add_query(struct buf *b, const char *key, const char *value)
{
	static const char digits[] = "0123456789ABCDEF";
	char last = buf_len(b) ? (char)buf_data(b)[buf_len(b) - 1] : 0;
	int r = 0;

	if (last != '?')
		r |= buf_put_u8(b, '&');
	r |= buf_puts(b, key);
	r |= buf_put_u8(b, '=');
	for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
		if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		    (*p >= '0' && *p <= '9') || strchr("-._~/", *p)) {
			r |= buf_put_u8(b, *p);
		} else {
			r |= buf_put_u8(b, '%');
			r |= buf_put_u8(b, (uint8_t)digits[*p >> 4]);
			r |= buf_put_u8(b, (uint8_t)digits[*p & 15]);
		}
	}
	return r < 0 ? -E2BIG : 0;
}

/* A terminal may not know its size, and we may have none. */
static struct winsize our_size(void)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_row || !size.ws_col)
		size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
	return size;
}

static int add_terminal(struct buf *b)
{
	struct winsize size = our_size();
	const char *term = getenv("TERM");
	char number[16];
	int r;

	r = exec_add_query(b, "tty", "1");
	snprintf(number, sizeof(number), "%u", size.ws_row);
	r |= exec_add_query(b, "rows", number);
	snprintf(number, sizeof(number), "%u", size.ws_col);
	r |= exec_add_query(b, "cols", number);
	if (term) {
		CLEANUP_FREE char *pair = str_printf("TERM=%s", term);

		r |= pair ? exec_add_query(b, "env", pair) : -ENOMEM;
	}
	return r;
}

static int build_query(struct buf *b, const struct exec_opts *o, bool tty,
		       int argc, char **argv)
{
	int r = buf_puts(b, "/exec?");

	for (int i = 0; i < argc; i++)
		r |= exec_add_query(b, "arg", argv[i]);
	for (size_t i = 0; i < o->nenv; i++)
		r |= exec_add_query(b, "env", o->env[i]);
	if (o->cwd)
		r |= exec_add_query(b, "cwd", o->cwd);
	if (o->user)
		r |= exec_add_query(b, "user", o->user);
	if (o->limit)
		r |= exec_add_query(b, "timeout", o->limit);
	if (tty)
		r |= add_terminal(b);
	return r < 0 ? -E2BIG : 0;
}

int exec_join(struct client *cl, struct rpc *r, const char *verb, const char *target,
	      bool tty, enum exec_input input)
{
	CLEANUP_BUF struct buf extra = BUF_INIT(2 * (EXEC_FRAME_MAX + EXEC_HEAD));
	CLEANUP_BUF struct buf reply = BUF_INIT(64u << 10);
	struct http_call call = {
		.method = "GET",
		.target = target,
		.reply = &reply,
		.deadline_ns = client_deadline(cl, CLIENT_CALL_NS),
	};
	struct exec_session s = {
		.cl = cl,
		.who = rpc_target(r)->name,
		.extra = &extra,
		.tty = tty,
		.input = input,
		.deadline_ns = client_deadline(cl, 0),
	};
	const char *text;
	int status, code = rpc_check(r);

	if (code) {
		rpc_report(r, verb, code);
		return EXEC_OWN_FAILURE;
	}
	code = http_client_upgrade(rpc_http(r), &call, EXEC_TOKEN, &s.fd, &extra);
	if (code == -EPROTO) {
		text = buf_cstr(&reply);
		out_error(s.who, verb, "%.*s", text ? (int)strcspn(text, "\r\n") : 0,
			  text ? text : "");
		return call.status == 404 ? 127 : EXEC_OWN_FAILURE;
	}
	if (code < 0) {
		out_error(s.who, verb, "%s", call.error);
		return EXEC_OWN_FAILURE;
	}
	status = exec_session_run(&s);
	close(s.fd);
	return status;
}

static struct va_value *detached_env(const struct exec_opts *o)
{
	struct va_value *env = va_array();
	const char *term = o->tty ? getenv("TERM") : NULL;

	/* What the user says of it comes first, and counts. */
	for (size_t i = 0; i < o->nenv; i++)
		va_append(env, rpc_text(o->env[i]));
	if (term) {
		CLEANUP_FREE char *pair = str_printf("TERM=%s", term);

		va_append(env, pair ? rpc_text(pair) : NULL);
	}
	return env;
}

static int run_detached(struct client *cl, struct rpc *r,
			const struct exec_opts *o, int argc, char **argv)
{
	CLEANUP_VALUE struct va_value *result = NULL;
	struct va_value *params = va_array(), *args = va_array(), *options = va_struct();
	int64_t job = 0, exit_code;
	uint64_t ns;
	int code;

	for (int i = 0; i < argc; i++)
		va_append(args, rpc_text(argv[i]));
	if (o->cwd)
		va_set(options, "cwd", rpc_text(o->cwd));
	if (o->user)
		va_set(options, "user", rpc_text(o->user));
	if (o->limit && str_to_duration(o->limit, UINT64_MAX / 2, &ns) == 0)
		va_set(options, "timeout", va_double((double)ns / (double)NSEC_PER_SEC));
	if (o->nenv || o->tty)
		va_set(options, "env", detached_env(o));
	if (o->tty) {
		struct winsize size = our_size();

		va_set(options, "tty", va_bool(true));
		va_set(options, "rows", va_int(size.ws_row));
		va_set(options, "cols", va_int(size.ws_col));
	}
	va_append(params, args);
	va_append(params, options);
	code = rpc_call(r, "guest.exec.start", 0, params, &result);
	if (code)
		return EXEC_OWN_FAILURE;
	if (cl->json)
		return out_json(cl, result) < 0 ? EXEC_OWN_FAILURE : VAC_OK;
	va_get_int(va_member(result, "job"), &job);
	if (va_get_int(va_member(result, "exit"), &exit_code) == 0 &&
	    va_member(result, "error")) {
		const char *text = "";

		va_get_string(va_member(result, "error"), &text);
		out_error(rpc_target(r)->name, "exec", "%s: %s", argv[0], text);
		return (int)exit_code;
	}
	printf("%lld\n", (long long)job);
	return VAC_OK;
}

bool exec_first_is_guest(const struct client *cl, int argc, char **argv)
{
	struct guest_list l;
	bool found = false;

	if (cl->guest || argc == 0)
		return false;
	if (str_starts(argv[0], "unix:"))
		return true;
	if (guest_list_get(cl, &l) == 0)
		for (size_t i = 0; i < l.count && !found; i++)
			found = !strcmp(l.guest[i].name, argv[0]);
	guest_list_done(&l);
	return found;
}

static bool wants_tty(const struct exec_opts *o)
{
	if (o->no_tty || o->detach)
		return false;
	return o->tty || (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
}

static int start(struct client *cl, struct rpc *r, const struct exec_opts *o,
		 bool tty, int argc, char **argv)
{
	CLEANUP_BUF struct buf target = BUF_INIT(TARGET_MAX);

	if (build_query(&target, o, tty, argc, argv) < 0 || !buf_cstr(&target)) {
		out_error(NULL, "exec", "the command line passes %u bytes", TARGET_MAX);
		return EXEC_OWN_FAILURE;
	}
	return exec_join(cl, r, "exec", buf_cstr(&target), tty,
			 o->no_stdin ? EXEC_STDIN_NONE : EXEC_STDIN_OURS);
}

/*
 * "exec GUEST [OPTION...] [--] PROGRAM...", "exec [OPTION...] [--] PROGRAM...": what
 * stands behind the program is the program's.  The first operand is the guest when a
 * guest has that name, or when "--" follows.  -1, or an exit code.
 */
static int take_guest(struct client *cl, int *argc, char ***argv, const char **guest)
{
	int first = 0, r;

	/* "exec -- PROGRAM": the word before our operands ended the options. */
	if (*argc == 0 || !strcmp((*argv)[-1], "--"))
		return -1;
	/* With -G all operands are the program's; VA_GUEST is only a default. */
	if (cl->guest && cl->guest != getenv("VA_GUEST"))
		return -1;
	if (!exec_first_is_guest(cl, *argc, *argv) &&
	    !(*argc > 1 && !strcmp((*argv)[1], "--")))
		return -1;
	*guest = (*argv)[0];
	r = client_parse(cl, *argc, *argv, &first);
	if (r)
		return r > 0 ? VAC_OK : VAC_USAGE;
	*argc -= first;
	*argv += first;
	return -1;
}

static int run_exec(struct client *cl, int argc, char **argv)
{
	const struct exec_opts *o = cl->opts;
	CLEANUP_RPC struct rpc *r = NULL;
	const char *guest = NULL;
	int code = take_guest(cl, &argc, &argv, &guest);

	if (code >= 0)
		return code;
	if (argc == 0) {
		out_error(NULL, "exec", "usage: va-client exec [GUEST] [OPTION...] [--] PROGRAM [ARG...]");
		return EXEC_OWN_FAILURE;
	}
	if (rpc_connect(cl, SIDE_GUEST, guest, &r))
		return EXEC_OWN_FAILURE;
	if (o->detach)
		return run_detached(cl, r, o, argc, argv);
	return start(cl, r, o, wants_tty(o), argc, argv);
}

static int run_shell(struct client *cl, int argc, char **argv)
{
	/* The user's own shell is found by the guest; sh is everywhere. */
	static char *const shell[] = { (char *)"/bin/sh", (char *)"-c",
		(char *)"exec \"${SHELL:-/bin/sh}\" -l" };
	const struct exec_opts *o = cl->opts;
	CLEANUP_RPC struct rpc *r = NULL;

	if (rpc_connect(cl, SIDE_GUEST, argc ? argv[0] : NULL, &r))
		return EXEC_OWN_FAILURE;
	return start(cl, r, o, wants_tty(o), 3, (char **)shell);
}

const struct verb verb_exec = {
	.name = "exec",
	.usage = "[GUEST] [OPTION...] [--] PROGRAM [ARG...]",
	.help = "run a program in a guest",
	.about = "Runs PROGRAM in the guest, joined to this terminal, and exits with its status\n"
		 "(128 + signal; 126 and 127 as shells do; 125: va-client failed; 124: time is up).\n"
		 "No shell is involved.  The program ends when this client does, unless detached.",
	.rows = exec_rows,
	.nrows = NROWS(exec_rows),
	.opts_size = sizeof(struct exec_opts),
	.stop_at_operand = true,
	.min_args = 1,
	.max_args = -1,
	.run = run_exec,
};

const struct verb verb_shell = {
	.name = "shell",
	.usage = "[GUEST]",
	.help = "an interactive shell in a guest",
	.rows = shell_rows,
	.nrows = NROWS(shell_rows),
	.opts_size = sizeof(struct exec_opts),
	.max_args = 1,
	.run = run_shell,
};
