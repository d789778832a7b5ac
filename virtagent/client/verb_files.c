/*
 * verb_files.c - ls, stat, rm, mkdir: a guest's files
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/member.h"
#include "virtagent/client/members.h"
#include "virtagent/client/output.h"
#include "virtagent/client/page.h"
#include "virtagent/client/path.h"
#include "virtagent/client/table.h"
#include "virtagent/fault.h"

#define NAME_MAX_BYTES 255 /* of a file's name on Linux */

struct files_opts {
	bool longer, all, classify, recursive, force, parents;
	const char *mode;
};

DEFINE_FLAG(set_long, files_opts, longer);
DEFINE_FLAG(set_all, files_opts, all);
DEFINE_FLAG(set_classify, files_opts, classify);
DEFINE_FLAG(set_recursive, files_opts, recursive);
DEFINE_FLAG(set_force, files_opts, force);
DEFINE_FLAG(set_parents, files_opts, parents);
DEFINE_TEXT(set_mode, files_opts, mode);

/* Connects to the guest that a word names, and gives its path. */
static int open_word(struct client *cl, const char *word, struct rpc **r,
		     const char **path)
{
	char buf[256];
	const char *guest;
	int code;

	if (path_split(word, buf, sizeof(buf), &guest, path)) {
		out_error(NULL, word, "the guest's name is too long");
		return VAC_USAGE;
	}
	if (path_check_remote(word, *path))
		return VAC_USAGE;
	code = rpc_connect(cl, SIDE_GUEST, guest && *guest ? guest : NULL, r);
	if (!code && cl->timeout_given)
		rpc_set_deadline(*r, client_deadline(cl, 0));
	return code;
}

/* "-rw-r--r--" of a mode and a type's word. */
static void mode_text(const char *type, int64_t mode, char ret[11])
{
	static const struct {
		const char *type;
		char letter;
	} types[] = {
		{ "directory", 'd' },	{ "symlink", 'l' },
		{ "fifo", 'p' },	{ "socket", 's' },
		{ "char-device", 'c' }, { "block-device", 'b' },
	};
	static const char letters[] = "rwxrwxrwx";

	ret[0] = '-';
	for (size_t i = 0; i < NROWS(types); i++)
		if (strcmp(type, types[i].type) == 0)
			ret[0] = types[i].letter;
	for (int i = 0; i < 9; i++)
		ret[1 + i] = mode & (0400 >> i) ? letters[i] : '-';
	if (mode & 04000)
		ret[3] = mode & 0100 ? 's' : 'S';
	if (mode & 02000)
		ret[6] = mode & 0010 ? 's' : 'S';
	if (mode & 01000)
		ret[9] = mode & 0001 ? 't' : 'T';
	ret[10] = '\0';
}

static void time_text(int64_t seconds, char *ret, size_t size)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(ret, size, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(ret, size, "-");
}

/* mtime is a number of seconds, whole or not. */
static int64_t seconds_of(const struct va_value *v, const char *name)
{
	const struct va_value *m = va_member(v, name);
	double d;

	if (m && !va_get_double(m, &d) && d > -1e15 && d < 1e15)
		return (int64_t)d;
	return member_int(v, name, 0);
}

static void long_row(struct table *t, const struct va_value *e)
{
	CLEANUP_FREE char *shown = NULL;
	const struct va_value *name = va_member(e, "name");
	const struct va_value *target = va_member(e, "target");
	const void *data = "", *to = "";
	size_t n = 0, to_n = 0;
	char text[32];

	mode_text(member_text(e, "type"), member_int(e, "mode", 0), text);
	table_cell(t, text);
	table_member(t, e, "uid");
	table_member(t, e, "gid");
	table_member(t, e, "size");
	time_text(seconds_of(e, "mtime"), text, sizeof(text));
	table_cell(t, text);
	if (name)
		va_get_bytes(name, &data, &n);
	if (target)
		va_get_bytes(target, &to, &to_n);
	shown = str_printf("%.*s%s%.*s", (int)n, (const char *)data,
			   to_n ? " -> " : "", (int)to_n, (const char *)to);
	table_cell(t, shown ? shown : "-");
}

struct ls_state {
	const struct client *cl;
	const struct files_opts *o;
	struct table *table;
	int error;
};

static int ls_entry(void *arg, const struct va_value *e)
{
	struct ls_state *s = arg;
	const struct va_value *name = va_member(e, "name");
	const void *data;
	bool slash;
	size_t n;

	if (!name || va_get_bytes(name, &data, &n) || !n)
		return 0;
	if (!s->o->all && *(const char *)data == '.')
		return 0;
	if (s->o->longer) {
		long_row(s->table, e);
		return 0;
	}
	/* A newline in a name is part of it, on a pipe; not on a terminal. */
	slash = s->o->classify &&
		strcmp(member_text(e, "type"), "directory") == 0;
	if (out_is_terminal(s->cl, stdout)) {
		char escaped[4 * NAME_MAX_BYTES + 1];

		out_escape(escaped, sizeof(escaped), data, n);
		printf("%s%s\n", escaped, slash ? "/" : "");
		return 0;
	}
	s->error = out_text(s->cl, data, n);
	printf("%s\n", slash ? "/" : "");
	return s->error;
}

/* "GUEST PATH" and "GUEST" as ps and its like take them, beside GUEST:PATH. */
static char *ls_word(int argc, char **argv)
{
	const char *word = argc ? argv[0] : "/";
	size_t n = strlen(word);

	if (argc == 2)
		return str_printf("%s:%s", word, argv[1]);
	if (*word == '.' || strchr(word, '/'))
		return strdup(word);
	return str_printf("%s%s/", word, n && word[n - 1] == ':' ? "" : ":");
}

static int run_ls(struct client *cl, int argc, char **argv)
{
	CLEANUP_FREE char *word = ls_word(argc, argv);
	CLEANUP_RPC struct rpc *r = NULL;
	CLEANUP_VALUE struct va_value *params = NULL, *all = NULL;
	CLEANUP_TABLE struct table *t =
		table_new("MODE,>UID,>GID,>SIZE,MODIFIED,NAME");
	struct ls_state s = { .cl = cl, .o = cl->opts, .table = t };
	const char *path;
	int code = word ? open_word(cl, word, &r, &path) : VAC_ERROR;

	if (code)
		return code;
	params = rpc_params(path, NULL);
	if (!params || !t)
		return VAC_ERROR;
	if (cl->json) {
		code = page_all(r, "guest.list", params, &all);
		return code ? code : out_json(cl, all) ? VAC_ERROR : VAC_OK;
	}
	code = page_each(r, "guest.list", params, ls_entry, &s);
	if (s.o->longer && table_print(t, stdout, true))
		return VAC_ERROR;
	return code;
}

/* Mode and times as ls shows them. */
static void make_readable(struct va_value *v)
{
	static const char *const times[] = { "mtime", "atime", "ctime" };
	char text[64];

	if (va_member(v, "mode")) {
		mode_text(member_text(v, "type"), member_int(v, "mode", 0), text);
		snprintf(text + 10, sizeof(text) - 10, " (%04o)",
			 (unsigned)member_int(v, "mode", 0) & 07777);
		va_set(v, "mode", va_string(text));
	}
	for (size_t i = 0; i < NROWS(times); i++) {
		if (!va_member(v, times[i]))
			continue;
		time_text(seconds_of(v, times[i]), text, sizeof(text));
		va_set(v, times[i], va_string(text));
	}
}

static int run_stat(struct client *cl, int argc, char **argv)
{
	CLEANUP_RPC struct rpc *r = NULL;
	CLEANUP_VALUE struct va_value *v = NULL;
	const char *path;
	int code = open_word(cl, argv[0], &r, &path);

	if (!code)
		code = rpc_call(r, "guest.stat", RPC_IDEMPOTENT,
				rpc_params(path, NULL), &v);
	if (code)
		return code;
	if (cl->json)
		return out_json(cl, v) ? VAC_ERROR : VAC_OK;
	make_readable(v);
	members_print(cl, v, 0);
	return VAC_OK;
}

/* Calls fn for each word; the last failure counts. */
static int each_word(struct client *cl, int argc, char **argv,
		     int (*fn)(struct client *cl, struct rpc *r,
			       const char *path))
{
	int code = VAC_OK;

	for (int i = 0; i < argc; i++) {
		CLEANUP_RPC struct rpc *r = NULL;
		const char *path;
		int one = open_word(cl, argv[i], &r, &path);

		if (!one)
			one = fn(cl, r, path);
		if (one)
			code = one;
		if (one == VAC_NOT_CONNECTED || one == VAC_UNKNOWN)
			break;
	}
	return code;
}

static int remove_one(struct client *cl, struct rpc *r, const char *path)
{
	const struct files_opts *o = cl->opts;
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params = rpc_params(path, NULL);
	int code;

	if (va_append(params, va_bool(o->recursive)))
		va_value_free(take_ptr(params));
	code = rpc_try(r, "guest.remove", 0, params, &v);
	if (code && o->force && rpc_fault(r) == VA_FAULT_ERRNO + ENOENT)
		return VAC_OK;
	return rpc_report(r, path, code);
}

static int run_rm(struct client *cl, int argc, char **argv)
{
	return each_word(cl, argc, argv, remove_one);
}

static int mkdir_one(struct client *cl, struct rpc *r, const char *path)
{
	const struct files_opts *o = cl->opts;
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params;
	char *end = NULL;
	long mode = o->mode ? strtol(o->mode, &end, 8) : 0755;

	if (o->mode && (!*o->mode || *end || mode < 0 || mode > 07777)) {
		out_error(NULL, NULL, "--mode: %s is not valid", o->mode);
		return VAC_USAGE;
	}
	params = rpc_params(path, NULL);
	if (va_append(params, va_int(mode)) ||
	    va_append(params, va_bool(o->parents)))
		va_value_free(take_ptr(params));
	return rpc_report(r, path, rpc_try(r, "guest.mkdir",
					   o->parents ? RPC_IDEMPOTENT : 0,
					   params, &v));
}

static int run_mkdir(struct client *cl, int argc, char **argv)
{
	return each_word(cl, argc, argv, mkdir_one);
}

static const struct option_row ls_rows[] = {
	{ 'l', "long", NULL, "show type, mode, owner, size and time", set_long },
	{ 'a', "all", NULL, "also names that begin with a dot", set_all },
	{ 'F', "classify", NULL, "put a / behind directories", set_classify },
	CLIENT_ROWS,
};

static const struct option_row common_rows[] = { CLIENT_ROWS };

static const struct option_row rm_rows[] = {
	{ 'r', "recursive", NULL, "directories with all in them",
	  set_recursive },
	{ 'f', "force", NULL, "what is not there is no failure", set_force },
	CLIENT_ROWS,
};

static const struct option_row mkdir_rows[] = {
	{ 'p', "parents", NULL, "make what is missing above it, too",
	  set_parents },
	{ 'm', "mode", "MODE", "permissions, octal (default 0755)", set_mode },
	CLIENT_ROWS,
};

const struct verb verb_ls = {
	.name = "ls",
	.usage = "[[GUEST:]PATH | GUEST [PATH]]",
	.help = "list a directory of a guest",
	.rows = ls_rows,
	.nrows = NROWS(ls_rows),
	.opts_size = sizeof(struct files_opts),
	.max_args = 2,
	.run = run_ls,
};

const struct verb verb_stat = {
	.name = "stat",
	.usage = "[GUEST:]PATH",
	.help = "show what a guest's file is",
	.rows = common_rows,
	.nrows = NROWS(common_rows),
	.min_args = 1,
	.max_args = 1,
	.run = run_stat,
};

const struct verb verb_rm = {
	.name = "rm",
	.usage = "[GUEST:]PATH...",
	.help = "remove files of a guest",
	.rows = rm_rows,
	.nrows = NROWS(rm_rows),
	.opts_size = sizeof(struct files_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run_rm,
};

const struct verb verb_mkdir = {
	.name = "mkdir",
	.usage = "[GUEST:]PATH...",
	.help = "make directories in a guest",
	.rows = mkdir_rows,
	.nrows = NROWS(mkdir_rows),
	.opts_size = sizeof(struct files_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run_mkdir,
};
