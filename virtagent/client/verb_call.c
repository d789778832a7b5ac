/*
 * verb_call.c - call, methods, help
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/call.h"
#include "virtagent/client/member.h"
#include "virtagent/client/table.h"
#include "virtagent/fault.h"

static const struct option_row call_rows[] = { CLIENT_ROWS };

static int run_call(struct client *cl, int argc, char **argv)
{
	CLEANUP_RPC struct rpc *r = NULL;
	int code;

	if (argc > 1 && !strchr(argv[0], '.') && str_starts(argv[1], "guest.")) {
		out_error(NULL, "call", "%s is no method; a guest is named by -G: "
			  "va-client call -G %s %s ...", argv[0], argv[0], argv[1]);
		return VAC_USAGE;
	}
	code = rpc_connect(cl, target_side_of(argv[0]), NULL, &r);
	if (code)
		return code;
	rpc_set_deadline(r, client_deadline(cl, CLIENT_CALL_NS));
	return call_words(cl, r, argv[0], argc - 1, argv + 1);
}

const struct verb verb_call = {
	.name = "call",
	.usage = "METHOD [ARG...]",
	.help = "call a method of a guest or of the host",
	.about = "Calls METHOD and prints its result.  Each ARG is converted as "
		 "the method's\nsignature says; a prefix overrides that: i:42, "
		 "s:TEXT, b:true, d:1.5,\nbase64:@FILE, base64:TEXT, json:[1,2]."
		 "  A negative number is written i:-5.",
	.epilog = "Example: va-client call guest.getfile /proc/meminfo",
	.rows = call_rows,
	.nrows = NROWS(call_rows),
	.min_args = 1,
	.max_args = -1,
	.run = run_call,
};

struct methods_opts {
	bool host;
};

DEFINE_FLAG(set_host, methods_opts, host);

static const struct option_row methods_rows[] = {
	{ 0, "host", NULL, "the host's methods, not the guest's", set_host },
	CLIENT_ROWS,
};

static int print_rows(const struct client *cl, const struct va_value *list)
{
	CLEANUP_TABLE struct table *t = table_new("METHOD,CLASS,ALLOWED,ARGUMENTS");

	for (size_t i = 0; t && i < va_count(list); i++) {
		struct method_info m;

		if (method_from_value(va_item(list, i), &m))
			continue;
		table_cell(t, m.name);
		table_cell(t, *m.cls ? m.cls : "-");
		table_cell(t, m.allowed ? "yes" : "no");
		table_cell(t, m.args);
	}
	return !t || table_print(t, stdout, true) ? VAC_ERROR : VAC_OK;
}

static int run_methods(struct client *cl, int argc, char **argv)
{
	const struct methods_opts *o = cl->opts;
	CLEANUP_RPC struct rpc *r = NULL;
	CLEANUP_VALUE struct va_value *names = NULL;
	const struct va_value *cap, *list;
	int code = rpc_connect(cl, o->host ? SIDE_HOST : SIDE_GUEST,
			       argc ? argv[0] : NULL, &r);

	if (code)
		return code;
	rpc_set_deadline(r, client_deadline(cl, CLIENT_CALL_NS));
	cap = rpc_capabilities(r);
	list = cap ? va_member(cap, "methods") : NULL;
	if (!list) {
		code = rpc_call(r, "system.listMethods", RPC_IDEMPOTENT,
				va_array(), &names);
		if (code)
			return code;
		list = names;
	}
	if (cl->json)
		return out_json(cl, list) ? VAC_ERROR : VAC_OK;
	return print_rows(cl, list);
}

const struct verb verb_methods = {
	.name = "methods",
	.usage = "[GUEST]",
	.help = "list the methods that may be called",
	.about = "Lists the methods of the guest (or, with --host, of the host), "
		 "each with its class,\nwhether the policy allows it, and its "
		 "arguments.",
	.rows = methods_rows,
	.nrows = NROWS(methods_rows),
	.opts_size = sizeof(struct methods_opts),
	.max_args = 1,
	.run = run_methods,
};

static const struct option_row help_rows[] = { CLIENT_ROWS };

static int overview(void)
{
	size_t width = 0;

	for (size_t i = 0; i < client_nverbs; i++)
		if (strlen(client_verbs[i]->name) > width)
			width = strlen(client_verbs[i]->name);
	for (size_t i = 0; i < client_nverbs; i++)
		printf("  %-*s  %s\n", (int)width, client_verbs[i]->name,
		       client_verbs[i]->help);
	printf("\nva-client help VERB tells more about one, va-client help "
	       "METHOD about a method.\n");
	return VAC_OK;
}

static int print_method(const struct client *cl, const struct method_info *m,
			const struct va_value *help)
{
	const char *text = m->help;

	if (help)
		va_get_string(help, &text);
	if (cl->json) {
		CLEANUP_VALUE struct va_value *v = va_struct();

		if (va_set(v, "name", va_string(m->name)) ||
		    va_set(v, "signature", va_string(m->signature)) ||
		    va_set(v, "args", va_string(m->args)) ||
		    va_set(v, "class", va_string(m->cls)) ||
		    va_set(v, "allowed", va_bool(m->allowed)) ||
		    va_set(v, "help", va_string(text)) || out_json(cl, v))
			return VAC_ERROR;
		return VAC_OK;
	}
	out_text(cl, m->name, strlen(m->name));
	if (*m->args)
		putchar(' ');
	out_text(cl, m->args, strlen(m->args));
	putchar('\n');
	if (*m->cls) {
		printf("class ");
		out_text(cl, m->cls, strlen(m->cls));
		printf(", %s by the policy\n",
		       m->allowed ? "allowed" : "refused");
	}
	if (*text) {
		putchar('\n');
		out_text(cl, text, strlen(text));
		putchar('\n');
	}
	return VAC_OK;
}

static int method_help(struct client *cl, const char *name)
{
	CLEANUP_RPC struct rpc *r = NULL;
	CLEANUP_VALUE struct va_value *help = NULL;
	struct method_info m = { .allowed = true };
	int code = rpc_connect(cl, target_side_of(name), NULL, &r), error;

	if (code)
		return code;
	rpc_set_deadline(r, client_deadline(cl, CLIENT_CALL_NS));
	code = rpc_check(r);
	if (code)
		return rpc_report(r, name, code);
	error = method_ask(r, name, 1, &m);
	code = rpc_try(r, "system.methodHelp", RPC_IDEMPOTENT,
		       rpc_params(name, NULL), &help);
	if (code && rpc_fault(r) == VA_FAULT_NO_METHOD && !error)
		code = VAC_OK;
	if (error == -ENOENT || (code && error)) {
		out_error(rpc_target(r)->name, name, "no such method");
		return VAC_FALSE;
	}
	return code ? rpc_report(r, name, code) : print_method(cl, &m, help);
}

static int run_help(struct client *cl, int argc, char **argv)
{
	const struct verb *v;
	char two[64];

	if (argc == 0)
		return overview();
	if (argc == 2)
		snprintf(two, sizeof(two), "%s %s", argv[0], argv[1]);
	v = client_find_verb(argc == 2 ? two : argv[0]);
	if (v) {
		client_verb_help(v);
		return VAC_OK;
	}
	if (argc == 1 && strchr(argv[0], '.'))
		return method_help(cl, argv[0]);
	return client_no_such_verb(argv[0]);
}

const struct verb verb_help = {
	.name = "help",
	.usage = "[VERB | METHOD]",
	.help = "explain a verb or a method",
	.about = "Without an operand, lists the verbs.  A name with a dot in it is "
		 "a method of the\nguest or of the host, which is asked for its "
		 "description.",
	.rows = help_rows,
	.nrows = NROWS(help_rows),
	.max_args = 2,
	.run = run_help,
};
