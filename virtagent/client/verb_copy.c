/*
 * verb_copy.c - get, put, cp: files between here and a guest
 *
 * The user names the target; what comes from the guest is written under a
 * temporary name beside it and renamed when it is whole.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/path.h"
#include "virtagent/client/transfer.h"
#include "virtagent/client/tree.h"
#include "virtagent/fault.h"

struct copy_opts {
	bool recursive, resume, preserve, quiet;
	uint64_t jobs;
	const char *mode, *uid, *gid;
};

DEFINE_FLAG(set_recursive, copy_opts, recursive);
DEFINE_FLAG(set_continue, copy_opts, resume);
DEFINE_FLAG(set_preserve, copy_opts, preserve);
DEFINE_FLAG(set_quiet, copy_opts, quiet);
DEFINE_TEXT(set_mode, copy_opts, mode);
DEFINE_TEXT(set_uid, copy_opts, uid);
DEFINE_TEXT(set_gid, copy_opts, gid);

static int set_jobs(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;
	struct copy_opts *o = cl->opts;

	if (!str_to_u64(value, TREE_JOBS_MAX, &o->jobs) && o->jobs)
		return 0;
	snprintf(err, size, "%s is no number from 1 to %d", value,
		 TREE_JOBS_MAX);
	return -EINVAL;
}

#define COPY_ROWS                                                              \
	{ 'r', "recursive", NULL, "copy directories with all in them",         \
	  set_recursive },                                                     \
	{ 'c', "continue", NULL, "go on with a copy that was broken off",      \
	  set_continue },                                                      \
	{ 'p', "preserve", NULL, "keep permissions and time as they are",      \
	  set_preserve },                                                      \
	{ 'j', "jobs", "N", "with -r: so many files at once (default 4)",      \
	  set_jobs },                                                          \
	{ 'q', "quiet", NULL, "show no progress", set_quiet }

#define PUT_ROWS                                                               \
	{ 0, "mode", "MODE", "permissions in the guest, octal", set_mode },    \
	{ 0, "uid", "UID", "owner in the guest", set_uid },                    \
	{ 0, "gid", "GID", "group in the guest", set_gid }

static const struct option_row get_rows[] = { COPY_ROWS, CLIENT_ROWS };
static const struct option_row put_rows[] = { COPY_ROWS, PUT_ROWS,
					      CLIENT_ROWS };

/* One run of get, put or cp. */
struct copy {
	struct client *cl;
	const struct copy_opts *o;
	struct rpc *rpc;
	struct progress progress;
	uint64_t deadline_ns;
	int64_t mode, uid, gid;
};

static int number(const char *option, const char *text, int base, int64_t max,
		  int64_t *ret)
{
	char *end;
	long long n;

	*ret = -1;
	if (!text)
		return VAC_OK;
	errno = 0;
	n = strtoll(text, &end, base);
	if (!*text || *end || errno || n < 0 || n > max) {
		out_error(NULL, NULL, "--%s: %s is not valid", option, text);
		return VAC_USAGE;
	}
	*ret = n;
	return VAC_OK;
}

static int copy_begin(struct copy *c, struct client *cl, const char *guest)
{
	int code;

	*c = (struct copy){ .cl = cl, .o = cl->opts };
	code = number("mode", c->o->mode, 8, 07777, &c->mode);
	if (!code)
		code = number("uid", c->o->uid, 10, UINT32_MAX - 1, &c->uid);
	if (!code)
		code = number("gid", c->o->gid, 10, UINT32_MAX - 1, &c->gid);
	if (code)
		return code;
	code = rpc_connect(cl, SIDE_GUEST, guest && *guest ? guest : NULL,
			   &c->rpc);
	if (code)
		return code;
	c->deadline_ns = client_deadline(cl, 0);
	rpc_set_deadline(c->rpc, c->deadline_ns);
	code = rpc_check(c->rpc);
	if (code) {
		rpc_report(c->rpc, NULL, code);
		rpc_free(take_ptr(c->rpc));
		return code;
	}
	progress_init(&c->progress, c->o->quiet || cl->json);
	interrupt_catch();
	return VAC_OK;
}

static void copy_end(struct copy *c)
{
	progress_end(&c->progress);
	rpc_free(c->rpc);
}

static struct transfer copy_transfer(struct copy *c, const char *remote)
{
	return (struct transfer){
		.rpc = c->rpc, .progress = &c->progress, .remote = remote,
		.resume = c->o->resume, .preserve = c->o->preserve,
		.mode = c->mode, .uid = c->uid, .gid = c->gid,
		.deadline_ns = c->deadline_ns,
	};
}

static struct tree_options copy_tree(struct copy *c)
{
	return (struct tree_options){
		.cl = c->cl, .progress = &c->progress,
		.resume = c->o->resume, .preserve = c->o->preserve,
		.jobs = c->o->jobs ? (unsigned)c->o->jobs : TREE_JOBS_DEFAULT,
		.uid = c->uid, .gid = c->gid, .deadline_ns = c->deadline_ns,
	};
}

static int report(struct copy *c, const char *path, int code)
{
	if (interrupt_seen())
		return interrupt_status();
	/* (A streamed file's error is text only.) */
	if (code && !c->o->recursive &&
	    (rpc_fault(c->rpc) == VA_FAULT_ERRNO + EISDIR ||
	     strstr(rpc_error(c->rpc), "not a regular file: Is a directory"))) {
		out_error(rpc_target(c->rpc)->name, path,
			  "is a directory; -r copies directories");
		return code;
	}
	return rpc_report(c->rpc, path, code);
}

static bool is_local_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Is it a directory of the guest?  A failure counts as no. */
static bool is_remote_dir(struct copy *c, const char *path)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params = rpc_params(path, NULL);

	/* A link to a directory, which the user named, is one. */
	if (va_append(params, va_bool(true)))
		va_value_free(take_ptr(params));
	if (rpc_try(c->rpc, "guest.stat", RPC_IDEMPOTENT, params, &v))
		return false;
	return strcmp(member_text(v, "type"), "directory") == 0;
}

static int get_file(struct copy *c, const char *remote, const char *local)
{
	struct transfer t = copy_transfer(c, remote);
	struct local_file f;
	uint64_t have;
	int code, error;

	if (strcmp(local, "-") == 0)
		return report(c, remote, transfer_get_fd(&t, STDOUT_FILENO));
	error = local_create_path(&f, local, c->o->resume, &have);
	if (error) {
		out_error(NULL, local, "cannot create: %s", strerror(-error));
		return VAC_ERROR;
	}
	code = transfer_get(&t, &f, have);
	/* A file that is not there must not leave an empty one of resume. */
	if (code == VAC_FALSE && !have)
		f.keep = false;
	local_done(&f);
	if (!code)
		progress_file_done(&c->progress);
	return report(c, remote, code);
}

static int get_one(struct copy *c, const char *remote, const char *local)
{
	CLEANUP_FREE char *base = path_base(remote), *inside = NULL;
	struct tree_options o = copy_tree(c);
	bool into = is_local_dir(local);

	if (!base)
		return VAC_ERROR;
	if (path_check_remote(remote, remote))
		return VAC_USAGE;
	if (into && path_name_ok(base)) {
		inside = path_join(local, base);
		if (!inside)
			return VAC_ERROR;
		local = inside;
	}
	if (c->o->recursive && is_remote_dir(c, remote))
		return tree_get(&o, rpc_target(c->rpc), remote, local);
	return get_file(c, remote, local);
}

static int put_one(struct copy *c, const char *local, const char *remote,
		   bool into)
{
	CLEANUP_FREE char *base = path_base(local), *inside = NULL;
	CLEANUP_CLOSE int opened = -1;
	struct tree_options o = copy_tree(c);
	struct transfer t;
	struct stat st;
	int fd = STDIN_FILENO, code;

	if (into) {
		if (!base || !path_name_ok(base) || strcmp(local, "-") == 0) {
			out_error(NULL, local, "what name should it get in %s?",
				  remote);
			return VAC_USAGE;
		}
		inside = path_join(remote, base);
		if (!inside)
			return VAC_ERROR;
		remote = inside;
	}
	if (strcmp(local, "-") != 0) {
		fd = opened = open(local, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (fd < 0 || fstat(fd, &st)) {
			out_error(NULL, local, "cannot read: %s",
				  strerror(errno));
			return errno == ENOENT ? VAC_FALSE : VAC_ERROR;
		}
		if (S_ISDIR(st.st_mode) && c->o->recursive)
			return tree_put(&o, rpc_target(c->rpc), local, remote);
		if (S_ISDIR(st.st_mode)) {
			out_error(NULL, local, "is a directory (use -r)");
			return VAC_ERROR;
		}
	}
	t = copy_transfer(c, remote);
	if (t.mode < 0 && opened >= 0 && S_ISREG(st.st_mode))
		t.mode = st.st_mode & 0777;
	code = transfer_put(&t, fd);
	if (!code)
		progress_file_done(&c->progress);
	return report(c, remote, code);
}

static int get_many(struct copy *c, char **remote, int n, const char *local)
{
	int code = VAC_OK;

	if (n > 1 && !is_local_dir(local) && strcmp(local, "-") != 0) {
		out_error(NULL, local, "is no directory");
		return VAC_USAGE;
	}
	for (int i = 0; i < n && !interrupt_seen(); i++) {
		char buf[256];
		const char *guest, *path;
		int one;

		/* The guest was taken from the first. */
		if (path_split(remote[i], buf, sizeof(buf), &guest, &path))
			return VAC_USAGE;
		one = get_one(c, path, local);
		if (one)
			code = one;
		if (one == VAC_NOT_CONNECTED)
			break;
	}
	return code;
}

static int put_many(struct copy *c, char **local, int n, const char *remote)
{
	size_t len = strlen(remote);
	bool into = (len && remote[len - 1] == '/') || is_remote_dir(c, remote);
	int code = VAC_OK;

	if (path_check_remote(remote, remote))
		return VAC_USAGE;
	if (n > 1 && !into) {
		out_error(rpc_target(c->rpc)->name, remote, "is no directory");
		return VAC_USAGE;
	}
	for (int i = 0; i < n && !interrupt_seen(); i++) {
		int one = put_one(c, local[i], remote, into);

		if (one)
			code = one;
		if (one == VAC_NOT_CONNECTED)
			break;
	}
	return code;
}

/* All remote operands must name one guest; its name into buf ("" = none). */
static int one_guest(char **words, int n, char *buf, unsigned size)
{
	for (int i = 0; i < n; i++) {
		char this[256];
		const char *guest, *path;

		if (path_split(words[i], this, sizeof(this), &guest, &path)) {
			out_error(NULL, words[i], "the guest's name is too long");
			return VAC_USAGE;
		}
		if (i == 0)
			snprintf(buf, size, "%s", guest ? guest : "");
		else if (strcmp(buf, guest ? guest : "") != 0) {
			out_error(NULL, words[i], "names another guest than %s",
				  words[0]);
			return VAC_USAGE;
		}
	}
	return VAC_OK;
}

static int copy_from(struct client *cl, char **remote, int n, const char *local)
{
	struct copy c;
	char guest[256] = "";
	int code = one_guest(remote, n, guest, sizeof(guest));

	if (!code)
		code = copy_begin(&c, cl, guest);
	if (code)
		return code;
	code = get_many(&c, remote, n, local);
	copy_end(&c);
	return code;
}

static int copy_to(struct client *cl, char **local, int n, char *remote)
{
	struct copy c;
	char guest[256] = "", buf[256];
	const char *unused, *path;
	int code = one_guest(&remote, 1, guest, sizeof(guest));

	if (!code)
		code = copy_begin(&c, cl, guest);
	if (code)
		return code;
	path_split(remote, buf, sizeof(buf), &unused, &path);
	code = put_many(&c, local, n, path);
	copy_end(&c);
	return code;
}

/* Which of the words name something in a guest? */
static bool is_remote(const char *word)
{
	char buf[256];
	const char *guest, *path;

	return !path_split(word, buf, sizeof(buf), &guest, &path) && guest;
}

/* A word that cannot but be GUEST:/PATH (a file here may have a colon, too). */
static bool surely_remote(const char *word)
{
	return is_remote(word) && strstr(word, ":/") && access(word, F_OK) < 0;
}

/* A target of get in a guest, a source of put in one: the other verb is meant. */
static int wrong_way(const char *verb, const char *other, const char *here,
		     const char *there)
{
	if (!surely_remote(here) || is_remote(there))
		return VAC_OK;
	out_error(NULL, verb, "%s is in a guest; is it this: va-client %s", here, other);
	return VAC_USAGE;
}

static int run_get(struct client *cl, int argc, char **argv)
{
	if (argc == 1)
		return copy_from(cl, argv, 1, ".");
	if (wrong_way("get", "put LOCAL... GUEST:PATH", argv[argc - 1], argv[0]))
		return VAC_USAGE;
	return copy_from(cl, argv, argc - 1, argv[argc - 1]);
}

static int run_put(struct client *cl, int argc, char **argv)
{
	if (wrong_way("put", "get GUEST:PATH... LOCAL", argv[0], argv[argc - 1]))
		return VAC_USAGE;
	return copy_to(cl, argv, argc - 1, argv[argc - 1]);
}

static int run_cp(struct client *cl, int argc, char **argv)
{
	int remote = 0;

	for (int i = 0; i < argc - 1; i++)
		remote += is_remote(argv[i]);
	if (is_remote(argv[argc - 1]) && remote == 0)
		return copy_to(cl, argv, argc - 1, argv[argc - 1]);
	if (!is_remote(argv[argc - 1]) && remote == argc - 1)
		return copy_from(cl, argv, argc - 1, argv[argc - 1]);
	if (is_remote(argv[argc - 1]))
		out_error(NULL, "cp", "from guest to guest it goes in two steps: get, "
				      "then put");
	else
		out_error(NULL, "cp", "either the sources or the target must be "
				      "GUEST:PATH (or :PATH)");
	return VAC_USAGE;
}

const struct verb verb_get = {
	.name = "get",
	.usage = "[GUEST:]PATH... [LOCAL]",
	.help = "copy files from a guest",
	.about = "Copies files from a guest to LOCAL: a file, a directory (. by "
		 "default), or - for\nstdout.  A file appears under its name only "
		 "when it is whole.",
	.epilog = "Example: va-client get vm1:/var/log/syslog .",
	.rows = get_rows,
	.nrows = NROWS(get_rows),
	.opts_size = sizeof(struct copy_opts),
	.min_args = 1,
	.max_args = -1,
	.run = run_get,
};

const struct verb verb_put = {
	.name = "put",
	.usage = "LOCAL... [GUEST:]PATH",
	.help = "copy files to a guest",
	.about = "Copies files to a guest; LOCAL - is stdin.  PATH may be a "
		 "directory.  In the guest,\na file appears under its name only "
		 "when it is whole.",
	.epilog = "Example: va-client put ./setup.sh vm1:/root/",
	.rows = put_rows,
	.nrows = NROWS(put_rows),
	.opts_size = sizeof(struct copy_opts),
	.min_args = 2,
	.max_args = -1,
	.run = run_put,
};

const struct verb verb_cp = {
	.name = "cp",
	.usage = "SOURCE... TARGET",
	.help = "copy files to or from a guest, as scp does",
	.about = "Either all sources are GUEST:PATH, or the target is.  :PATH is "
		 "in the guest that -G\nor VA_GUEST names, or in the only one.",
	.epilog = "Example: va-client cp -r vm1:/etc ./etc-of-vm1",
	.rows = put_rows,
	.nrows = NROWS(put_rows),
	.opts_size = sizeof(struct copy_opts),
	.min_args = 2,
	.max_args = -1,
	.run = run_cp,
};
