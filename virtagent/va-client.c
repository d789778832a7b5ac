/*
 * va-client.c - the one client: calls methods of guests and of the host
 *
 * The options common to all verbs may stand before or behind the verb.  Each
 * verb is a row; see client/client.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "virtagent/client/client.h"
#include "virtagent/client/output.h"
#include "virtagent/codec.h"
#include "virtagent/http_client.h"

const struct verb *const client_verbs[] = {
	&verb_attach, &verb_call, &verb_cat, &verb_commands, &verb_cp, &verb_detach, &verb_df,
	&verb_dmesg,
	&verb_event_send, &verb_events, &verb_exec, &verb_forward, &verb_get, &verb_guest,
	&verb_guests, &verb_halt, &verb_help, &verb_info, &verb_ip, &verb_jobs,
	&verb_kill, &verb_kv_exists, &verb_kv_export, &verb_kv_get,
	&verb_kv_groups, &verb_kv_import, &verb_kv_list, &verb_kv_set, &verb_kv_unset,
	&verb_kv_wait, &verb_kv_watch, &verb_libvirt_xml, &verb_ls, &verb_methods, &verb_mkdir, &verb_monitor,
	&verb_ping, &verb_ps, &verb_put, &verb_quiesce, &verb_reboot, &verb_resume, &verb_rm, &verb_run, &verb_shell,
	&verb_shutdown, &verb_stat, &verb_suspend, &verb_wait,
};
const size_t client_nverbs = NROWS(client_verbs);

const struct verb *client_find_verb(const char *name)
{
	for (size_t i = 0; i < client_nverbs; i++)
		if (strcmp(client_verbs[i]->name, name) == 0)
			return client_verbs[i];
	return NULL;
}

/* argv[0] is the verb's (last) word. */
static int run_verb(struct client *cl, const struct verb *v, int argc,
		    char **argv)
{
	static char tty[] = "--tty";
	CLEANUP_FREE void *opts = calloc(1, v->opts_size ? v->opts_size : 1);
	int first = 0, n, r;

	if (!opts)
		return VAC_ERROR;
	cl->verb = v;
	cl->opts = opts;
	/* docker's way to ask for a terminal; -t is the time limit here. */
	for (int i = 1; v == &verb_exec && i < argc && argv[i][0] == '-'; i++)
		if (!strcmp(argv[i], "-it") || !strcmp(argv[i], "-ti"))
			argv[i] = tty;
	r = client_parse(cl, argc, argv, &first);
	if (r)
		return r > 0 ? VAC_OK : VAC_USAGE;
	n = argc - first;
	if (n < v->min_args || (v->max_args >= 0 && n > v->max_args)) {
		out_error(NULL, v->name, "usage: " PROGRAM " %s [OPTION...] %s", v->name,
			  v->usage ? v->usage : "");
		return VAC_USAGE;
	}
	return v->run(cl, n, argv + first);
}

static const struct option_row global_rows[] = { CLIENT_ROWS };

static const char epilog[] =
	"Verbs are listed by: va-client help\n\n"
	"Exit status: 0 ok, 1 not found or false, 2 error, 3 usage, 10 not "
	"connected or never\nsent, 11 outcome unknown, 124 timed out.\n\n"
	"Example: va-client call guest.getfile /proc/meminfo";

static int run(int argc, char **argv)
{
	static const struct options global = {
		.program = PROGRAM,
		.usage = "VERB [ARG...]",
		.about = "Calls methods of guests and of the host, through "
			 "virtagent.",
		.rows = global_rows,
		.nrows = NROWS(global_rows),
		.epilog = epilog,
	};
	struct client cl = { .guest = getenv("VA_GUEST") };
	const struct verb *v = NULL;
	char two[64];
	int first = 0, r = options_parse(&global, &cl, argc, argv, 1, &first);

	if (r)
		return r > 0 ? VAC_OK : VAC_USAGE;
	if (cl.guest && !*cl.guest)
		cl.guest = NULL;
	if (first == argc) {
		options_help(&global, stderr);
		return VAC_USAGE;
	}
	if (argc - first > 1) {
		snprintf(two, sizeof(two), "%s %s", argv[first],
			 argv[first + 1]);
		v = client_find_verb(two);
		first += v != NULL;
	}
	if (!v)
		v = client_find_verb(argv[first]);
	if (v)
		return run_verb(&cl, v, argc - first, argv + first);
	return client_no_such_verb(argv[first]);
}

int main(int argc, char **argv)
{
	int code;

	log_init(PROGRAM);
	if (http_global_init() || codec_global_init()) {
		out_error(NULL, NULL, "cannot start: out of memory");
		return VAC_ERROR;
	}
	code = run(argc, argv);
	if ((fflush(stdout) || ferror(stdout)) && !code) {
		out_error(NULL, NULL, "cannot write the output: %s",
			  strerror(errno));
		code = VAC_ERROR;
	}
	return code;
}
