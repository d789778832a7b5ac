/*
 * verb_monitor.c - monitor: QEMU-monitor-style commands on a prompt
 *
 * The commands and what they print are those of the monitor that the original
 * virtagent added to QEMU (agent_*, later va_*); call, methods and info are new.
 * On a pipe the commands are read without a prompt, and the exit status is that
 * of the last one that failed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtagent/client/call.h"
#include "virtagent/client/line.h"
#include "virtagent/client/member.h"

#define MONITOR_WORDS_MAX 64

struct monitor {
	struct client *cl;
	struct rpc *rpc;
	bool quit;
};

struct monitor_command {
	const char *name, *args, *help;
	int min_args, max_args;
	int (*run)(struct monitor *m, int argc, char **argv);
};

static const struct monitor_command commands[];

/* Pieces of a file, as "cat" gives them. */
static int mon_viewfile(struct monitor *m, int argc, char **argv)
{
	CLEANUP_VALUE struct va_value *params = rpc_params(argv[0], NULL);
	struct method_info info;
	struct out_stream out;
	int code;

	if (!params || method_builtin("guest.getfile", &info))
		return VAC_ERROR;
	out_stream_init(&out, m->cl, stdout);
	code = call_pieces(m->cl, m->rpc, &info, params, &out);
	if (!code && !out.newline)
		out_stream_write(&out, "\n", 1);
	out_stream_end(&out);
	return code;
}

static int mon_viewdmesg(struct monitor *m, int argc, char **argv)
{
	return call_words(m->cl, m->rpc, "guest.getdmesg", 0, NULL);
}

static int mon_ping(struct monitor *m, int argc, char **argv)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	int code = rpc_try(m->rpc, "guest.ping", RPC_IDEMPOTENT, va_array(), &v);

	if (code)
		rpc_report(m->rpc, "guest.ping", code);
	printf("status: %s\n", code == VAC_OK ? "success" : "error or timeout");
	return code;
}

static int mon_capabilities(struct monitor *m, int argc, char **argv)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	const struct va_value *list;
	const char *version;
	int code = rpc_call(m->rpc, "guest.capabilities", RPC_IDEMPOTENT,
			    va_array(), &v);

	if (code)
		return code;
	version = member_text(v, "version");
	printf("guest agent version: ");
	out_text(m->cl, version, strlen(version));
	printf("\nthe following RPC methods are supported by the guest agent:\n");
	list = va_member(v, "methods");
	for (size_t i = 0; list && i < va_count(list); i++) {
		struct method_info info;

		if (method_from_value(va_item(list, i), &info))
			continue;
		out_text(m->cl, info.name, strlen(info.name));
		putchar('\n');
	}
	return VAC_OK;
}

static int mon_shutdown(struct monitor *m, int argc, char **argv)
{
	static const struct {
		const char *word, *mode;
	} words[] = {
		{ "powerdown", "powerdown" }, { "shutdown", "powerdown" },
		{ "poweroff", "powerdown" },  { "reboot", "reboot" },
		{ "halt", "halt" },
	};
	CLEANUP_VALUE struct va_value *v = NULL;

	for (size_t i = 0; i < NROWS(words); i++)
		if (strcmp(argc ? argv[0] : "powerdown", words[i].word) == 0)
			return rpc_call(m->rpc, "guest.shutdown", 0,
					rpc_params(words[i].mode, NULL), &v);
	out_error(NULL, "agent_shutdown", "%s is none of powerdown, reboot, halt",
		  argv[0]);
	return VAC_USAGE;
}

static int mon_call(struct monitor *m, int argc, char **argv)
{
	return call_words(m->cl, m->rpc, argv[0], argc - 1, argv + 1);
}

static int mon_quit(struct monitor *m, int argc, char **argv)
{
	m->quit = true;
	return VAC_OK;
}

static int mon_help(struct monitor *m, int argc, char **argv)
{
	for (const struct monitor_command *c = commands; c->name; c++)
		if (c->help && (!argc || strcmp(argv[0], c->name) == 0))
			printf("%s%s%s -- %s\n", c->name, *c->args ? " " : "",
			       c->args, c->help);
	return VAC_OK;
}

/* Rows without help are other names of the same. */
static const struct monitor_command commands[] = {
	{ "agent_capabilities", "", "list what the guest's agent can do", 0, 0,
	  mon_capabilities },
	{ "agent_ping", "", "ask the guest's agent for a sign of life", 0, 0,
	  mon_ping },
	{ "agent_shutdown", "[powerdown|reboot|halt]",
	  "have the guest's agent shut the guest down", 0, 1, mon_shutdown },
	{ "agent_viewdmesg", "", "print the guest's kernel messages", 0, 0,
	  mon_viewdmesg },
	{ "agent_viewfile", "PATH", "print a file of the guest", 1, 1,
	  mon_viewfile },
	{ "call", "METHOD [ARG...]", "call any method", 1, MONITOR_WORDS_MAX,
	  mon_call },
	{ "help", "[COMMAND]", "list the commands", 0, 1, mon_help },
	{ "quit", "", "leave", 0, 0, mon_quit },
	{ "?", "", NULL, 0, 1, mon_help },
	{ "exit", "", NULL, 0, 0, mon_quit },
	{ "q", "", NULL, 0, 0, mon_quit },
	{ "va_capabilities", "", NULL, 0, 0, mon_capabilities },
	{ "va_ping", "", NULL, 0, 0, mon_ping },
	{ "va_shutdown", "", NULL, 0, 1, mon_shutdown },
	{ NULL, NULL, NULL, 0, 0, NULL },
};

/* Splits in place at spaces; "..." keeps them together, a backslash takes the
 * next character as it is.  The number of words, or -1 for an open quote. */
static int split_words(char *line, char **words, int max)
{
	char *from = line, *to = line;
	int n = 0;

	for (;;) {
		bool quoted = false;

		while (*from == ' ' || *from == '\t')
			from++;
		if (!*from || n == max)
			return n;
		words[n++] = to;
		while (*from && (quoted || (*from != ' ' && *from != '\t'))) {
			if (*from == '"') {
				quoted = !quoted;
				from++;
				continue;
			}
			if (*from == '\\' && from[1])
				from++;
			*to++ = *from++;
		}
		if (quoted)
			return -1;
		if (*from)
			from++;
		*to++ = '\0';
	}
}

static int run_line(struct monitor *m, const char *line)
{
	CLEANUP_FREE char *copy = strdup(line);
	char *words[MONITOR_WORDS_MAX];
	int n = copy ? split_words(copy, words, MONITOR_WORDS_MAX) : 0;

	if (n < 0) {
		out_error(NULL, "monitor", "a quote is left open");
		return VAC_USAGE;
	}
	if (n == 0 || words[0][0] == '#')
		return VAC_OK;
	for (const struct monitor_command *c = commands; c->name; c++) {
		if (strcmp(c->name, words[0]) != 0)
			continue;
		if (n - 1 < c->min_args || n - 1 > c->max_args) {
			out_error(NULL, c->name, "usage: %s %s", c->name,
				  c->args);
			return VAC_USAGE;
		}
		rpc_set_deadline(m->rpc,
				 client_deadline(m->cl, CLIENT_CALL_NS));
		return c->run(m, n - 1, words + 1);
	}
	out_error(NULL, "monitor", "unknown command: %s (try help)", words[0]);
	return VAC_USAGE;
}

static const struct option_row monitor_rows[] = { CLIENT_ROWS };

static int run_monitor(struct client *cl, int argc, char **argv)
{
	CLEANUP(line_close_p) struct line_editor *editor = NULL;
	CLEANUP_RPC struct rpc *r = NULL;
	const char *names[NROWS(commands)];
	struct monitor m = { .cl = cl };
	char prompt[300];
	const char *line;
	int code = rpc_connect(cl, SIDE_GUEST, argc ? argv[0] : NULL, &r);

	if (code)
		return code;
	m.rpc = r;
	for (size_t i = 0; i < NROWS(commands); i++)
		names[i] = commands[i].name;
	snprintf(prompt, sizeof(prompt), "(%s) ", rpc_target(r)->name);
	editor = line_open(prompt, names);
	if (!editor) {
		out_error(NULL, "monitor", "cannot use the terminal");
		return VAC_ERROR;
	}
	while (!m.quit && (line = line_read(editor))) {
		int one = run_line(&m, line);

		fflush(stdout);
		if (one)
			code = one;
	}
	return code;
}

const struct verb verb_monitor = {
	.name = "monitor",
	.usage = "[GUEST]",
	.help = "QEMU-monitor-style commands on a prompt",
	.about = "Reads commands such as agent_viewfile PATH, agent_ping and "
		 "agent_capabilities from a\nprompt with history, or from a pipe; "
		 "help lists them.",
	.rows = monitor_rows,
	.nrows = NROWS(monitor_rows),
	.max_args = 1,
	.run = run_monitor,
};
