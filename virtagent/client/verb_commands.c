/*
 * verb_commands.c - commands, run: what the other side offers by name
 *
 * On a host they are a guest's commands, in a guest (or with --up) the host's, and
 * with --host this host's own.  They are joined to this terminal as exec's programs
 * are.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/exec_session.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"
#include "virtagent/client/table.h"

#define TARGET_MAX (128u << 10) /* of the request line; the agent's limit too */
#define INPUT_MAX (1u << 20)	/* one base64 value */
#define HOST_TIMEOUT_S 600	/* the host's own default */

struct run_opts {
	const char *limit;
	bool host, no_stdin;
};

DEFINE_FLAG(set_host, run_opts, host);
DEFINE_FLAG(set_no_stdin, run_opts, no_stdin);

DEFINE_TIME(set_limit, run_opts, limit);

#define HOST_ROW                                                               \
	{ 0, "host", NULL, "the host's commands, not a guest's", set_host }

static const struct option_row commands_rows[] = { HOST_ROW, CLIENT_ROWS };

static const struct option_row run_rows[] = {
	HOST_ROW,
	{ 0, "limit", "SECONDS", "the other side ends it after this time", set_limit },
	{ 'n', "no-stdin", NULL, "its input is empty", set_no_stdin },
	CLIENT_ROWS,
};

static bool of_host(const struct client *cl)
{
	const struct run_opts *o = cl->opts;

	return o->host || cl->up || (!cl->guest && !target_on_host(cl));
}

static int run_commands(struct client *cl, int argc, char **argv)
{
	CLEANUP_TABLE struct table *t = table_new("COMMAND,DESCRIPTION");
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_RPC struct rpc *r = NULL;
	bool host = argc == 0 && of_host(cl);
	int code = rpc_connect(cl, host ? SIDE_HOST : SIDE_GUEST,
			       argc ? argv[0] : NULL, &r);

	if (!code)
		code = rpc_call(r, host ? "host.commands" : "guest.commands",
				RPC_IDEMPOTENT, va_array(), &v);
	if (code)
		return code;
	if (cl->json)
		return out_json(cl, v) < 0 ? VAC_ERROR : VAC_OK;
	for (size_t i = 0; t && i < va_count(v); i++) {
		const struct va_value *c = va_item(v, i);
		const char *refused = member_text(c, "refused");

		table_cell(t, member_text(c, "name"));
		if (*refused)
			table_cellf(t, "(not run: it %s)", refused);
		else
			table_cell(t, member_text(c, "description"));
	}
	return t && table_print(t, stdout, true) == 0 ? VAC_OK : VAC_ERROR;
}

/* --- joined to this terminal -------------------------------------------------- */

static int run_joined(struct client *cl, struct rpc *r, int argc, char **argv)
{
	CLEANUP_BUF struct buf target = BUF_INIT(TARGET_MAX);
	const struct run_opts *o = cl->opts;
	const char *name = rpc_target(r)->name;
	int e = buf_puts(&target, "/exec?");

	e |= exec_add_query(&target, "command", argv[0]);
	/* A socket's path is no name that a guest could be told. */
	if (rpc_target(r)->side == SIDE_GUEST && *name && !strchr(name, '/'))
		e |= exec_add_query(&target, "guest", name);
	if (o->limit)
		e |= exec_add_query(&target, "timeout", o->limit);
	for (int i = 1; i < argc; i++)
		e |= exec_add_query(&target, "arg", argv[i]);
	if (e || !buf_cstr(&target)) {
		out_error(NULL, "run", "the command line passes %u bytes", TARGET_MAX);
		return EXEC_OWN_FAILURE;
	}
	return exec_join(cl, r, "run", buf_cstr(&target), false,
			 o->no_stdin ? EXEC_STDIN_NONE : EXEC_STDIN_OURS);
}

/* --- a host's with --json: its result in one piece ------------------------------- */

static int read_input(const struct run_opts *o, struct va_value *options)
{
	CLEANUP_BUF struct buf in = BUF_INIT(INPUT_MAX + 1);
	ssize_t n = 1;

	if (o->no_stdin || isatty(STDIN_FILENO))
		return 0;
	while (n > 0 || n == -EINTR)
		n = buf_read_fd(&in, STDIN_FILENO, 64u << 10);
	if (n == -EMSGSIZE || buf_len(&in) > INPUT_MAX) {
		out_error(NULL, "run", "the input for a host's command is over %u bytes",
			  INPUT_MAX);
		return -EMSGSIZE;
	}
	if (n < 0) {
		out_error(NULL, "run", "cannot read the input: %s", strerror((int)-n));
		return (int)n;
	}
	return va_set(options, "input", va_bytes(buf_data(&in), buf_len(&in)));
}

static int run_to_json(struct client *cl, struct rpc *r, int argc, char **argv)
{
	CLEANUP_VALUE struct va_value *options = va_struct(), *v = NULL;
	struct va_value *params = rpc_params(argv[0], NULL), *args = va_array();
	const struct run_opts *o = cl->opts;
	uint64_t ns = HOST_TIMEOUT_S * NSEC_PER_SEC;

	for (int i = 1; i < argc; i++)
		va_append(args, rpc_text(argv[i]));
	va_append(params, args);
	if (o->limit && str_to_duration(o->limit, UINT64_MAX / 2, &ns) == 0)
		va_set(options, "timeout", va_double((double)ns / (double)NSEC_PER_SEC));
	if (read_input(o, options) < 0) {
		va_value_free(params);
		return EXEC_OWN_FAILURE;
	}
	va_append(params, take_ptr(options));
	if (!cl->timeout_given)
		rpc_set_deadline(r, clock_now() + ns + CLIENT_CALL_NS);
	/* Not marked, so that it ends with this client. */
	if (rpc_call(r, "host.command.run", RPC_UNMARKED, params, &v))
		return EXEC_OWN_FAILURE;
	if (out_json(cl, v) < 0)
		return EXEC_OWN_FAILURE;
	if (member_bool(v, "timed_out", false))
		return VAC_TIMEOUT;
	return (int)member_int(v, "exit", EXEC_OWN_FAILURE);
}

static int run_run(struct client *cl, int argc, char **argv)
{
	CLEANUP_RPC struct rpc *r = NULL;
	const char *guest = NULL;
	bool host = of_host(cl);

	if (!host && exec_first_is_guest(cl, argc, argv)) {
		guest = argv[0];
		argc--;
		argv++;
	}
	if (argc && strcmp(argv[0], "--") == 0) {
		argc--;
		argv++;
	}
	if (argc == 0) {
		out_error(NULL, "run", "usage: va-client run [OPTION...] [GUEST] NAME [ARG...]");
		return EXEC_OWN_FAILURE;
	}
	if (rpc_connect(cl, host ? SIDE_HOST : SIDE_GUEST, guest, &r))
		return EXEC_OWN_FAILURE;
	return host && cl->json ? run_to_json(cl, r, argc, argv) :
				  run_joined(cl, r, argc, argv);
}

const struct verb verb_commands = {
	.name = "commands",
	.usage = "[GUEST]",
	.help = "list the commands that a guest offers (in a guest: the host)",
	.rows = commands_rows,
	.nrows = NROWS(commands_rows),
	.opts_size = sizeof(struct run_opts),
	.max_args = 1,
	.run = run_commands,
};

const struct verb verb_run = {
	.name = "run",
	.usage = "[GUEST] NAME [ARG...]",
	.help = "run a command that a guest offers (in a guest: the host)",
	.about = "Runs a guest's command NAME, joined to this terminal, and exits with its status as\n"
		 "exec does.  In a guest: one of the host's.",
	.rows = run_rows,
	.nrows = NROWS(run_rows),
	.opts_size = sizeof(struct run_opts),
	.stop_at_operand = true,
	.min_args = 1,
	.max_args = -1,
	.run = run_run,
};
