/*
 * files_change.c - methods that change names and metadata: mkdir, remove,
 * rename, chmod, chown, symlink, truncate
 *
 * Everything acts on an opened directory and a last component, or on an opened
 * file.  A recursive removal walks with openat(O_NOFOLLOW) and never leaves the
 * tree it was given; it keeps one descriptor a level, at most TREE_DEPTH_MAX.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"
#include "virtagent/guest/ids.h"
#include "virtagent/guest/path.h"

/* One descriptor a level; well below any descriptor limit. */
#define TREE_DEPTH_MAX 128

#define MODE_MAX 07777

static int ok(struct va_value **ret)
{
	*ret = va_bool(true);
	return *ret ? 0 : -ENOMEM;
}

static int make_one(struct va_call *call, const char *path, mode_t mode,
		    bool exist_ok)
{
	CLEANUP_ENTRY struct guest_entry e = GUEST_ENTRY_INIT;
	struct stat st;
	int r = guest_open_parent(call, path, &e);

	if (r < 0)
		return r;
	if (mkdirat(e.dir_fd, e.name, mode & 0755) < 0) {
		if (errno == EEXIST && exist_ok &&
		    fstatat(e.dir_fd, e.name, &st, 0) == 0 &&
		    S_ISDIR(st.st_mode))
			return 0;
		return guest_path_fail(call, errno, path,
				       "cannot make the directory");
	}
	/* The umask is the daemon's, not the caller's wish. */
	if (fchmodat(e.dir_fd, e.name, mode, 0) < 0)
		return guest_path_fail(call, errno, path, "cannot set the mode");
	return 0;
}

static int guest_mkdir(struct va_call *call, struct va_value **ret)
{
	char part[PATH_MAX];
	const char *path;
	int64_t mode;
	bool parents;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = va_arg_int(call, 1, 0755, 0, MODE_MAX, &mode);
	if (r == 0)
		r = va_arg_bool(call, 2, false, &parents);
	if (r < 0)
		return r;
	if (strspn(path, "/") == strlen(path))
		return parents ? ok(ret) : guest_path_fail(call, EEXIST, path, "is there");
	for (size_t i = 1; parents && path[i]; i++) {
		if (path[i] != '/' || path[i - 1] == '/' ||
		    strspn(path + i, "/") == strlen(path + i))
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		r = make_one(call, part, 0755, true);
		if (r < 0)
			return r;
	}
	r = make_one(call, path, (mode_t)mode, parents);
	return r < 0 ? r : ok(ret);
}

/* A level of the tree that is being removed. */
struct tree_level {
	DIR *dir;
	char name[256]; /* within the level above */
};

struct tree_walk {
	struct tree_level *levels;
	size_t depth;
	int64_t removed;
};

static void tree_done(struct tree_walk *w)
{
	while (w->depth > 0)
		closedir(w->levels[--w->depth].dir);
	free(w->levels);
}

static int tree_enter(struct tree_walk *w, int dir_fd, const char *name)
{
	struct tree_level *level = &w->levels[w->depth];
	int fd;

	if (w->depth == TREE_DEPTH_MAX)
		return -ELOOP;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	level->dir = fdopendir(fd);
	if (!level->dir) {
		int err = errno;

		close(fd);
		return -err;
	}
	snprintf(level->name, sizeof(level->name), "%s", name);
	w->depth++;
	return 0;
}

/* Removes one entry of the innermost level, or enters it. */
static int tree_step(struct tree_walk *w, const char *name)
{
	int fd = dirfd(w->levels[w->depth - 1].dir);

	if (unlinkat(fd, name, 0) == 0) {
		w->removed++;
		return 0;
	}
	if (errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	return tree_enter(w, fd, name);
}

static int tree_remove(struct va_call *call, const struct guest_entry *e,
		       struct tree_walk *w)
{
	struct pollfd cancel = { .fd = call->cancel_fd, .events = POLLIN };
	int r = tree_enter(w, e->dir_fd, e->name);

	while (r == 0 && w->depth > 0) {
		struct tree_level *level = &w->levels[w->depth - 1];
		struct dirent *d;

		if (cancel.fd >= 0 && poll(&cancel, 1, 0) > 0)
			return -ECANCELED;
		errno = 0;
		d = readdir(level->dir);
		if (!d && errno)
			return -errno;
		if (d && (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..")))
			continue;
		if (d) {
			r = tree_step(w, d->d_name);
			continue;
		}
		closedir(level->dir);
		w->depth--;
		if (unlinkat(w->depth ? dirfd(level[-1].dir) : e->dir_fd,
			     level->name, AT_REMOVEDIR) < 0)
			return -errno;
		w->removed++;
	}
	return r;
}

static int guest_remove(struct va_call *call, struct va_value **ret)
{
	CLEANUP_ENTRY struct guest_entry e = GUEST_ENTRY_INIT;
	CLEANUP(tree_done) struct tree_walk w = { .levels = NULL };
	const char *path;
	struct stat st;
	bool recursive;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = va_arg_bool(call, 1, false, &recursive);
	if (r == 0)
		r = guest_open_parent(call, path, &e);
	if (r < 0)
		return r;
	if (fstatat(e.dir_fd, e.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return guest_path_fail(call, errno, path, "cannot remove");
	if (!S_ISDIR(st.st_mode) || !recursive) {
		if (unlinkat(e.dir_fd, e.name,
			     S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
			return guest_path_fail(call, errno, path,
					       "cannot remove");
		*ret = va_int(1);
		return *ret ? 0 : -ENOMEM;
	}
	w.levels = calloc(TREE_DEPTH_MAX, sizeof(w.levels[0]));
	if (!w.levels)
		return -ENOMEM;
	r = tree_remove(call, &e, &w);
	if (r == -ELOOP)
		return va_fail(call, ELOOP,
			       "the tree is deeper than %d directories, which is "
			       "the limit; %lld entries were removed",
			       TREE_DEPTH_MAX, (long long)w.removed);
	if (r < 0)
		return guest_path_fail(call, -r, path,
				       "cannot remove the whole tree");
	*ret = va_int(w.removed);
	return *ret ? 0 : -ENOMEM;
}

static int guest_rename(struct va_call *call, struct va_value **ret)
{
	CLEANUP_ENTRY struct guest_entry from = GUEST_ENTRY_INIT;
	CLEANUP_ENTRY struct guest_entry to = GUEST_ENTRY_INIT;
	const char *from_path, *to_path;
	struct stat st;
	bool replace;
	int r;

	r = guest_arg_path(call, 0, &from_path);
	if (r == 0)
		r = guest_arg_path(call, 1, &to_path);
	if (r == 0)
		r = va_arg_bool(call, 2, false, &replace);
	if (r == 0)
		r = guest_open_parent(call, from_path, &from);
	if (r == 0)
		r = guest_open_parent(call, to_path, &to);
	if (r < 0)
		return r;
	/* Not atomic against a third party; renameat2 is newer than Linux 3.2. */
	if (!replace && fstatat(to.dir_fd, to.name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return guest_path_fail(call, EEXIST, to_path, "is there");
	if (renameat(from.dir_fd, from.name, to.dir_fd, to.name) < 0)
		return guest_path_fail(call, errno, from_path, "cannot rename");
	return ok(ret);
}

static int guest_chmod(struct va_call *call, struct va_value **ret)
{
	CLEANUP_CLOSE int fd = -1;
	const char *path;
	int64_t mode;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = va_arg_int(call, 1, 0, 0, MODE_MAX, &mode);
	if (r < 0)
		return r;
	fd = guest_open(call, path, O_RDONLY);
	if (fd < 0)
		return fd;
	if (fchmod(fd, (mode_t)mode) < 0)
		return guest_path_fail(call, errno, path, "cannot set the mode");
	return ok(ret);
}

/* A user or group: a number, a name, or "" / -1 for "leave as it is". */
static int arg_id(struct va_call *call, size_t i, bool group, int64_t *ret)
{
	const struct va_value *v = va_item(call->params, i);
	const char *name;
	uint64_t number;

	if (!v) {
		*ret = -1;
		return 0;
	}
	if (va_typeof(v) == VA_INT)
		return va_arg_int(call, i, -1, -1, UINT32_MAX - 1, ret);
	if (va_get_string(v, &name) < 0)
		return va_fail(call, EINVAL,
			       "argument %zu: a user or group is a number or a name",
			       i + 1);
	if (!*name) {
		*ret = -1;
		return 0;
	}
	if (str_to_u64(name, UINT32_MAX - 1, &number) == 0) {
		*ret = (int64_t)number;
		return 0;
	}
	return guest_lookup_id(call, name, group, ret);
}

static int guest_chown(struct va_call *call, struct va_value **ret)
{
	CLEANUP_ENTRY struct guest_entry e = GUEST_ENTRY_INIT;
	int64_t uid, gid;
	const char *path;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = arg_id(call, 1, false, &uid);
	if (r == 0)
		r = arg_id(call, 2, true, &gid);
	if (r == 0)
		r = guest_open_parent(call, path, &e);
	if (r < 0)
		return r;
	if (fchownat(e.dir_fd, e.name, (uid_t)uid, (gid_t)gid,
		     AT_SYMLINK_NOFOLLOW) < 0)
		return guest_path_fail(call, errno, path, "cannot set the owner");
	return ok(ret);
}

static int guest_symlink(struct va_call *call, struct va_value **ret)
{
	CLEANUP_ENTRY struct guest_entry e = GUEST_ENTRY_INIT;
	const char *target, *path;
	int r;

	r = va_arg_text(call, 0, NULL, &target);
	if (r == 0)
		r = guest_arg_path(call, 1, &path);
	if (r < 0)
		return r;
	if (!*target || strlen(target) >= PATH_MAX)
		return va_fail(call, EINVAL,
			       "argument 1: a link's target has 1 to %d bytes, not %zu",
			       PATH_MAX - 1, strlen(target));
	r = guest_open_parent(call, path, &e);
	if (r < 0)
		return r;
	if (symlinkat(target, e.dir_fd, e.name) < 0)
		return guest_path_fail(call, errno, path, "cannot make the link");
	return ok(ret);
}

static int guest_truncate(struct va_call *call, struct va_value **ret)
{
	CLEANUP_CLOSE int fd = -1;
	const char *path;
	struct stat st;
	int64_t size;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = va_arg_int(call, 1, 0, 0, INT64_MAX, &size);
	if (r < 0)
		return r;
	fd = guest_open(call, path, O_WRONLY);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return guest_path_fail(call, EINVAL, path, "is not a regular file");
	if (ftruncate(fd, (off_t)size) < 0)
		return guest_path_fail(call, errno, path, "cannot truncate");
	return ok(ret);
}

static const struct va_method methods[] = {
	{ "guest.mkdir", "b:t|ib", "DIR [MODE [PARENTS]]", VA_CLASS_WRITE,
	  guest_mkdir, NULL, "make a directory",
	  "MODE is exact, whatever the umask (default 0755 = 493). With PARENTS "
	  "true missing parents are made (0755) and an existing directory is no "
	  "error.",
	  VA_M_PATH },
	{ "guest.remove", "i:t|b", "PATH [RECURSIVE]", VA_CLASS_WRITE, guest_remove,
	  NULL, "remove a file or directory",
	  "Returns how many entries were removed. A symbolic link itself is "
	  "removed. A directory must be empty unless RECURSIVE is true; symbolic "
	  "links in the tree are never followed.",
	  VA_M_PATH },
	{ "guest.rename", "b:tt|b", "FROM TO [REPLACE]", VA_CLASS_WRITE,
	  guest_rename, NULL, "rename within a file system",
	  "An existing TO is an error unless REPLACE is true.", VA_M_PATH },
	{ "guest.chmod", "b:ti", "PATH MODE", VA_CLASS_WRITE, guest_chmod, NULL,
	  "set a file's mode bits", "MODE is a number from 0 to 07777.",
	  VA_M_PATH | VA_M_IDEMPOTENT },
	{ "guest.chown", "b:tx|x", "PATH USER [GROUP]", VA_CLASS_WRITE, guest_chown,
	  NULL, "set a file's owner",
	  "USER and GROUP are numbers or names; -1 or an empty string leaves one as "
	  "it is. A symbolic link itself is changed.",
	  VA_M_PATH | VA_M_IDEMPOTENT },
	{ "guest.symlink", "b:tt", "TARGET PATH", VA_CLASS_WRITE, guest_symlink,
	  NULL, "make a symbolic link",
	  "TARGET is stored as given and not looked at.", 0 },
	{ "guest.truncate", "b:ti", "PATH SIZE", VA_CLASS_WRITE, guest_truncate,
	  NULL, "set a regular file's size", "Growing makes a sparse end.",
	  VA_M_PATH | VA_M_IDEMPOTENT },
};

const struct va_family guest_files_change_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
