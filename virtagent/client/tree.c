/*
 * tree.c - see tree.h
 *
 * The walk goes down directory by directory, to a limit of depth.
 * Names that come from the guest are used only after path_name_ok(); local
 * directories are opened part by part without following links (localfs.h).
 * Symbolic links are not followed on either side: one that stays below the tree
 * that is copied is made anew as a link, any other is left out and said.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/str.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/page.h"
#include "virtagent/client/path.h"
#include "virtagent/client/tree_queue.h"
#include "virtagent/fault.h"

struct walk {
	const struct tree_options *o;
	const char *local; /* the root here */
	struct rpc *rpc;   /* of the walking thread */
	struct tree_queue *queue;
	int code; /* the first failure of the walk itself */
};

static void failed(struct walk *w, const char *path, const char *why, int code)
{
	out_error(rpc_target(w->rpc)->name, path, "%s", why);
	if (!w->code)
		w->code = code;
}

static void set_transfer(const struct walk *w, struct rpc *r,
			 const char *remote, struct transfer *t)
{
	*t = (struct transfer){
		.rpc = r,
		.progress = w->o->progress,
		.remote = remote,
		.resume = w->o->resume,
		.preserve = w->o->preserve,
		.mode = -1,
		.uid = w->o->uid,
		.gid = w->o->gid,
		.deadline_ns = w->o->deadline_ns,
	};
}

/* "a/b/c" as its directory and its name, in place; the name. */
static char *split_rel(char *rel)
{
	char *slash = strrchr(rel, '/');

	if (!slash)
		return rel;
	*slash = '\0';
	return slash + 1;
}

/*
 * Does a link at rel (below the tree's root) with this target stay in the tree?
 * Relative, ".." only at the start, and never above the root: a ".." behind a
 * name could climb out through another link that lies in the tree.
 */
static bool link_stays(const char *rel, const char *target)
{
	int depth = 0;
	bool named = false;

	if (!*target || *target == '/')
		return false;
	for (; *rel; rel++)
		depth += *rel == '/';
	while (*target) {
		size_t n = strcspn(target, "/");

		if (n == 2 && memcmp(target, "..", 2) == 0) {
			if (named || --depth < 0)
				return false;
		} else if (n && !(n == 1 && *target == '.')) {
			named = true;
		}
		target += n;
		target += strspn(target, "/");
	}
	return true;
}

/* --- from the guest ------------------------------------------------------- */

static int get_file(void *arg, struct rpc *r, const struct tree_job *job)
{
	const struct walk *w = arg;
	CLEANUP_FREE char *rel = strdup(job->rel);
	struct local_file f;
	struct transfer t;
	uint64_t have = 0;
	char *name;
	int dir, code, error;

	if (!rel)
		return VAC_ERROR;
	name = split_rel(rel);
	dir = local_open_dir(w->local, name == rel ? "" : rel, false);
	error = dir < 0 ? dir : local_create(&f, dir, name, w->o->resume, &have);
	if (error) {
		out_error(NULL, job->rel, "cannot create: %s", strerror(-error));
		return VAC_ERROR;
	}
	set_transfer(w, r, job->remote, &t);
	code = transfer_get(&t, &f, have);
	local_done(&f);
	if (code && !interrupt_seen())
		rpc_report(r, job->remote, code);
	if (!code)
		progress_file_done(w->o->progress);
	return code;
}

static void get_link(struct walk *w, const char *rel, const char *remote,
		     const struct va_value *entry)
{
	CLEANUP_FREE char *copy = strdup(rel), *target = NULL;
	CLEANUP_CLOSE int dir = -1;
	const struct va_value *v = va_member(entry, "target");
	const void *data;
	char *name;
	size_t n;

	if (!copy || !v || va_get_bytes(v, &data, &n))
		return;
	target = strndup(data, n);
	if (!target || strlen(target) != n || !link_stays(rel, target)) {
		failed(w, remote, "left out: a link to outside the tree",
		       VAC_ERROR);
		return;
	}
	name = split_rel(copy);
	dir = local_open_dir(w->local, name == copy ? "" : copy, false);
	if (dir < 0 || (symlinkat(target, dir, name) &&
			(errno != EEXIST || unlinkat(dir, name, 0) ||
			 symlinkat(target, dir, name))))
		failed(w, remote, "cannot make the link", VAC_ERROR);
}

struct get_dir {
	struct walk *w;
	const char *remote, *rel;
	int depth;
};

static int get_tree(struct walk *w, const char *remote, const char *rel,
		    int depth);

static int get_entry(void *arg, const struct va_value *entry)
{
	struct get_dir *d = arg;
	struct walk *w = d->w;
	const struct va_value *v = va_member(entry, "name");
	CLEANUP_FREE char *name = NULL, *remote = NULL, *rel = NULL;
	const char *type = member_text(entry, "type");
	const void *data;
	size_t n;

	if (interrupt_seen())
		return -EINTR;
	if (v && !va_get_bytes(v, &data, &n))
		name = strndup(data, n);
	if (!name || strlen(name) != n || !path_name_ok(name)) {
		failed(w, d->remote, "the guest gave a name that is none",
		       VAC_ERROR);
		return 0;
	}
	remote = path_join(d->remote, name);
	rel = *d->rel ? path_join(d->rel, name) : strdup(name);
	if (!remote || !rel)
		return -ENOMEM;
	if (strcmp(type, "directory") == 0)
		return get_tree(w, remote, rel, d->depth + 1);
	if (strcmp(type, "file") == 0)
		return tree_queue_add(w->queue, take_ptr(remote), take_ptr(rel),
				      0);
	if (strcmp(type, "symlink") == 0)
		get_link(w, rel, remote, entry);
	else if (strcmp(type, "gone") != 0)
		failed(w, remote, "left out: no regular file", VAC_ERROR);
	return 0;
}

static int get_tree(struct walk *w, const char *remote, const char *rel,
		    int depth)
{
	CLEANUP_VALUE struct va_value *params = rpc_params(remote, NULL);
	struct get_dir d = { w, remote, rel, depth };
	int dir, code;

	if (depth > TREE_DEPTH_MAX) {
		failed(w, remote, "left out: too deep", VAC_ERROR);
		return 0;
	}
	dir = local_open_dir(w->local, rel, true);
	if (dir < 0) {
		failed(w, *rel ? rel : w->local, dir == -ELOOP || dir == -ENOTDIR ?
		       "is in the way, and no directory" : strerror(-dir),
		       VAC_ERROR);
		return 0;
	}
	close(dir);
	code = params ? page_each(w->rpc, "guest.list", params, get_entry, &d) :
			VAC_ERROR;
	if (code && !w->code)
		w->code = code;
	return code == VAC_NOT_CONNECTED || interrupt_seen() ? -ENOTCONN : 0;
}

static int finish(struct walk *w)
{
	int code = tree_queue_finish(w->queue);

	rpc_free(w->rpc);
	if (interrupt_seen())
		return interrupt_status();
	return w->code ? w->code : code;
}

static bool begin(struct walk *w, const struct target *target,
		  tree_work_fn work)
{
	w->rpc = rpc_open(w->o->cl, target);
	if (!w->rpc)
		return false;
	rpc_set_deadline(w->rpc, w->o->deadline_ns);
	w->queue = tree_queue_new(w->o, target, work, w);
	if (!w->queue)
		rpc_free(take_ptr(w->rpc));
	return w->queue != NULL;
}

int tree_get(const struct tree_options *o, const struct target *target,
	     const char *remote, const char *local)
{
	struct walk w = { .o = o, .local = local };

	if (!begin(&w, target, get_file))
		return VAC_ERROR;
	get_tree(&w, remote, "", 0);
	return finish(&w);
}

/* --- to the guest --------------------------------------------------------- */

static int put_file(void *arg, struct rpc *r, const struct tree_job *job)
{
	const struct walk *w = arg;
	CLEANUP_CLOSE int fd = local_open_read(w->local, job->rel);
	struct transfer t;
	int code;

	if (fd < 0) {
		out_error(NULL, job->rel, "cannot read: %s", strerror(-fd));
		return VAC_ERROR;
	}
	set_transfer(w, r, job->remote, &t);
	t.mode = job->mode;
	code = transfer_put(&t, fd);
	if (code && !interrupt_seen())
		rpc_report(r, job->remote, code);
	if (!code)
		progress_file_done(w->o->progress);
	return code;
}

/* "It is there already" is no failure. */
static int put_dir(struct walk *w, const char *remote, mode_t mode)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params = rpc_params(remote, NULL);
	int code;

	if (va_append(params, va_int((int64_t)(mode & 0777))) ||
	    va_append(params, va_bool(true)))
		va_value_free(take_ptr(params));
	code = rpc_try(w->rpc, "guest.mkdir", RPC_IDEMPOTENT, params, &v);
	if (code && rpc_fault(w->rpc) != VA_FAULT_ERRNO + EEXIST)
		failed(w, remote, rpc_error(w->rpc), code);
	else
		code = VAC_OK;
	return code;
}

static void put_link(struct walk *w, int dir, const char *name, const char *rel,
		     const char *remote)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char target[4096];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n < 0) {
		failed(w, rel, strerror(errno), VAC_ERROR);
		return;
	}
	target[n] = '\0';
	if (!link_stays(rel, target)) {
		failed(w, rel, "left out: a link to outside the tree", VAC_ERROR);
		return;
	}
	if (rpc_try(w->rpc, "guest.symlink", RPC_IDEMPOTENT,
		    rpc_params(target, remote, NULL), &v) &&
	    rpc_fault(w->rpc) != VA_FAULT_ERRNO + EEXIST)
		failed(w, remote, rpc_error(w->rpc), VAC_ERROR);
}

static int put_tree(struct walk *w, const char *remote, const char *rel,
		    int depth);

static int put_entry(struct walk *w, int dir, const char *name,
		     const char *remote_dir, const char *rel_dir, int depth)
{
	CLEANUP_FREE char *remote = path_join(remote_dir, name);
	CLEANUP_FREE char *rel = *rel_dir ? path_join(rel_dir, name) :
					    strdup(name);
	struct stat st;

	if (!remote || !rel)
		return -ENOMEM;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW)) {
		failed(w, rel, strerror(errno), VAC_ERROR);
		return 0;
	}
	if (S_ISDIR(st.st_mode))
		return put_tree(w, remote, rel, depth + 1);
	if (S_ISREG(st.st_mode))
		return tree_queue_add(w->queue, take_ptr(remote), take_ptr(rel),
				      st.st_mode & 0777);
	if (S_ISLNK(st.st_mode))
		put_link(w, dir, name, rel, remote);
	else
		failed(w, rel, "left out: no regular file", VAC_ERROR);
	return 0;
}

static int put_tree(struct walk *w, const char *remote, const char *rel,
		    int depth)
{
	CLEANUP_CLOSEDIR DIR *d = NULL;
	const struct dirent *e;
	struct stat st;
	int fd, error = 0;

	if (depth > TREE_DEPTH_MAX) {
		failed(w, rel, "left out: too deep", VAC_ERROR);
		return 0;
	}
	fd = local_open_dir(w->local, rel, false);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d || fstat(fd, &st)) {
		failed(w, *rel ? rel : w->local, strerror(fd < 0 ? -fd : errno),
		       VAC_ERROR);
		if (!d && fd >= 0)
			close(fd);
		return 0;
	}
	if (put_dir(w, remote, st.st_mode))
		return -ENOTDIR;
	while (!error && !interrupt_seen() && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			error = put_entry(w, fd, e->d_name, remote, rel, depth);
	return error;
}

int tree_put(const struct tree_options *o, const struct target *target,
	     const char *local, const char *remote)
{
	struct walk w = { .o = o, .local = local };

	if (!begin(&w, target, put_file))
		return VAC_ERROR;
	put_tree(&w, remote, "", 0);
	return finish(&w);
}
