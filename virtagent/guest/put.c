/*
 * put.c - see put.h; guest.putfile, guest.putstatus, guest.putforget
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/put.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/digest.h"
#include "virtagent/guest/guest.h"

#define MODE_MAX 07777

void guest_put_done(struct guest_put *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	guest_entry_done(&p->target);
}

/* The partial's name; the target's name is cut so that it fits NAME_MAX. */
static void part_name(struct guest_put *p)
{
	snprintf(p->part, sizeof(p->part), ".%.240s.va-part", p->target.name);
}

static int locate(struct va_call *call, struct guest_put *p, const char *path)
{
	int r = guest_open_parent(call, path, &p->target);

	if (r == 0)
		part_name(p);
	return r;
}

static int check_target(struct va_call *call, const struct guest_put *p)
{
	struct stat st;

	if (fstatat(p->target.dir_fd, p->target.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : guest_path_fail(call, errno, p->target.name,
							     "cannot stat");
	if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
		return 0;
	return guest_path_fail(call, S_ISDIR(st.st_mode) ? EISDIR : EINVAL,
			       p->target.name, "cannot be replaced by a file");
}

static int open_part(struct va_call *call, struct guest_put *p, uint64_t offset)
{
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	struct stat st;

	if (offset == 0) {
		if (unlinkat(p->target.dir_fd, p->part, 0) < 0 && errno != ENOENT)
			return guest_path_fail(call, errno, p->part,
					       "cannot replace the partial file");
		flags |= O_CREAT | O_EXCL;
	}
	p->fd = openat(p->target.dir_fd, p->part, flags, 0600);
	if (p->fd < 0)
		return guest_path_fail(call, errno, p->part,
				       "cannot open the partial file");
	if (fstat(p->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
		return guest_path_fail(call, EPERM, p->part,
				       "is not a partial file of ours");
	if (offset > (uint64_t)st.st_size)
		return va_fail(call, EINVAL,
			       "offset %" PRIu64 " lies behind the partial file's end "
			       "(%lld bytes)", offset, (long long)st.st_size);
	if ((uint64_t)st.st_size > offset && ftruncate(p->fd, (off_t)offset) < 0)
		return guest_path_fail(call, errno, p->part,
				       "cannot cut the partial file");
	p->at = offset;
	return 0;
}

int guest_put_begin(struct va_call *call, struct guest_put *p, const char *path,
		    uint64_t offset)
{
	int r = locate(call, p, path);

	if (r == 0)
		r = check_target(call, p);
	return r < 0 ? r : open_part(call, p, offset);
}

int guest_put_write(struct va_call *call, struct guest_put *p, const void *data,
		    size_t n)
{
	const char *from = data;

	while (n > 0) {
		ssize_t w = pwrite(p->fd, from, n, (off_t)p->at);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return guest_path_fail(call, errno, p->target.name,
					       "cannot write");
		from += w;
		n -= (size_t)w;
		p->at += (uint64_t)w;
	}
	return 0;
}

/* Owner first: chown clears the set-id bits that the mode may ask for. */
static int set_attrs(struct guest_put *p, const struct guest_put_attrs *attrs)
{
	struct stat old;
	int64_t mode = attrs->mode, uid = attrs->uid, gid = attrs->gid;

	if (fstatat(p->target.dir_fd, p->target.name, &old, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(old.st_mode)) {
		mode = mode < 0 ? (int64_t)(old.st_mode & 0777) : mode;
		uid = uid < 0 ? (int64_t)old.st_uid : uid;
		gid = gid < 0 ? (int64_t)old.st_gid : gid;
	}
	if ((uid >= 0 || gid >= 0) && fchown(p->fd, (uid_t)uid, (gid_t)gid) < 0)
		return -errno;
	if (fchmod(p->fd, mode < 0 ? 0644 : (mode_t)mode) < 0)
		return -errno;
	return 0;
}

int guest_put_finish(struct va_call *call, struct guest_put *p,
		     const struct guest_put_attrs *attrs)
{
	int r = set_attrs(p, attrs);

	if (r < 0)
		return guest_path_fail(call, -r, p->target.name,
				       "cannot set owner or mode");
	if (fsync(p->fd) < 0)
		return guest_path_fail(call, errno, p->target.name,
				       "cannot write to the disk");
	if (renameat(p->target.dir_fd, p->part, p->target.dir_fd, p->target.name) < 0)
		return guest_path_fail(call, errno, p->target.name,
				       "cannot put in place");
	/* Some file systems can't sync a directory; the rename stands. */
	if (fsync(p->target.dir_fd) < 0 && errno != EINVAL && errno != EBADF)
		return guest_path_fail(call, errno, p->target.name,
				       "cannot write the directory to the disk");
	return 0;
}

static int put_attrs(struct va_call *call, size_t i, struct guest_put_attrs *a)
{
	int r = va_arg_int(call, i, -1, -1, MODE_MAX, &a->mode);

	if (r == 0)
		r = va_arg_int(call, i + 1, -1, -1, UINT32_MAX - 1, &a->uid);
	if (r == 0)
		r = va_arg_int(call, i + 2, -1, -1, UINT32_MAX - 1, &a->gid);
	return r;
}

static int guest_putfile(struct va_call *call, struct va_value **ret)
{
	CLEANUP_PUT struct guest_put p = GUEST_PUT_INIT;
	CLEANUP_VALUE struct va_value *v = NULL;
	struct guest_put_attrs attrs = GUEST_PUT_ATTRS_NONE;
	const char *path;
	const void *data;
	int64_t offset;
	bool final;
	size_t n;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = va_arg_bytes(call, 1, &data, &n);
	if (r == 0)
		r = va_arg_int(call, 2, 0, 0, INT64_MAX, &offset);
	if (r == 0)
		r = va_arg_bool(call, 3, true, &final);
	if (r == 0)
		r = put_attrs(call, 4, &attrs);
	if (r == 0)
		r = guest_put_begin(call, &p, path, (uint64_t)offset);
	if (r == 0)
		r = guest_put_write(call, &p, data, n);
	if (r == 0 && final)
		r = guest_put_finish(call, &p, &attrs);
	if (r < 0)
		return r;
	v = va_struct();
	r |= va_set(v, "size", va_int((int64_t)p.at));
	r |= va_set(v, "complete", va_bool(final));
	if (r < 0)
		return -ENOMEM;
	*ret = take_ptr(v);
	return 0;
}

static int guest_putstatus(struct va_call *call, struct va_value **ret)
{
	CLEANUP_PUT struct guest_put p = GUEST_PUT_INIT;
	CLEANUP_VALUE struct va_value *v = va_struct();
	char hex[DIGEST_HEX];
	uint64_t done = 0;
	const char *path;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = locate(call, &p, path);
	if (r < 0)
		return r;
	p.fd = openat(p.target.dir_fd, p.part,
		      O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (p.fd < 0 && errno != ENOENT)
		return guest_path_fail(call, errno, path, "cannot open the partial file");
	if (p.fd >= 0) {
		r = digest_fd(p.fd, 0, UINT64_MAX, call->cancel_fd, hex, &done);
		if (r < 0)
			return guest_path_fail(call, -r, path,
					       "cannot read the partial file");
		r = va_set(v, "sha256", va_string(hex));
	}
	r |= va_set(v, "size", va_int((int64_t)done));
	r |= va_set(v, "partial", va_bool(p.fd >= 0));
	if (r < 0)
		return -ENOMEM;
	*ret = take_ptr(v);
	return 0;
}

static int guest_putforget(struct va_call *call, struct va_value **ret)
{
	CLEANUP_PUT struct guest_put p = GUEST_PUT_INIT;
	const char *path;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = locate(call, &p, path);
	if (r < 0)
		return r;
	if (unlinkat(p.target.dir_fd, p.part, 0) < 0 && errno != ENOENT)
		return guest_path_fail(call, errno, path,
				       "cannot remove the partial file");
	*ret = va_bool(true);
	return *ret ? 0 : -ENOMEM;
}

static const struct va_method methods[] = {
	{ "guest.putfile", "S:t6|ibiii",
	  "PATH DATA [OFFSET [FINAL [MODE [UID [GID]]]]]", VA_CLASS_WRITE,
	  guest_putfile, NULL, "write a file, atomically",
	  "At most 1 MiB of DATA a call. Pieces are collected in a partial file "
	  "beside the target; with FINAL true (the default) it is synced and renamed "
	  "over the target. OFFSET 0 begins anew. MODE, UID and GID default to the "
	  "replaced file's, else 0644 and the agent's. Returns size and complete.",
	  VA_M_PATH },
	{ "guest.putstatus", "S:t", "PATH", VA_CLASS_READ, guest_putstatus, NULL,
	  "how much of an unfinished put there is",
	  "Returns partial (is there one), size and sha256 of what was received.",
	  VA_M_PATH | VA_M_IDEMPOTENT },
	{ "guest.putforget", "b:t", "PATH", VA_CLASS_WRITE, guest_putforget, NULL,
	  "throw an unfinished put away", "No error when there is none.",
	  VA_M_PATH | VA_M_IDEMPOTENT },
};

const struct va_family guest_put_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
