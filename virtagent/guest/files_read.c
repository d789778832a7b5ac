/*
 * files_read.c - methods that look at files: stat, list, readlink, checksum
 *
 * A directory is listed in the order of its names' bytes.  The cursor is the
 * last name given, so that a listing survives changes between calls; each call
 * reads the whole directory but keeps only the `limit` smallest names behind
 * the cursor (a heap), which bounds the memory whatever the directory holds.
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
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/digest.h"
#include "virtagent/guest/path.h"

/* Entries a call (design.md section 4); a reply then stays near 300 KiB. */
#define LIST_MAX 1000

static int guest_stat(struct va_call *call, struct va_value **ret)
{
	CLEANUP_ENTRY struct guest_entry e = GUEST_ENTRY_INIT;
	CLEANUP_VALUE struct va_value *v = NULL;
	const char *path;
	struct stat st;
	bool follow;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = va_arg_bool(call, 1, false, &follow);
	if (r < 0)
		return r;
	if (strspn(path, "/") == strlen(path)) {
		if (stat("/", &st) < 0)
			return guest_path_fail(call, errno, path, "cannot stat");
		*ret = guest_stat_value(&st);
		return *ret ? 0 : -ENOMEM;
	}
	r = guest_open_parent(call, path, &e);
	if (r < 0)
		return r;
	if (fstatat(e.dir_fd, e.name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return guest_path_fail(call, errno, path, "cannot stat");
	v = guest_stat_value(&st);
	if (v && S_ISLNK(st.st_mode)) {
		char target[PATH_MAX];
		ssize_t n = readlinkat(e.dir_fd, e.name, target,
				       sizeof(target) - 1);

		if (n >= 0) {
			target[n] = 0;
			if (va_set(v, "target", guest_text(target)) < 0)
				return -ENOMEM;
		}
	}
	*ret = take_ptr(v);
	return *ret ? 0 : -ENOMEM;
}

static int guest_readlink(struct va_call *call, struct va_value **ret)
{
	CLEANUP_ENTRY struct guest_entry e = GUEST_ENTRY_INIT;
	char target[PATH_MAX];
	const char *path;
	ssize_t n;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = guest_open_parent(call, path, &e);
	if (r < 0)
		return r;
	n = readlinkat(e.dir_fd, e.name, target, sizeof(target) - 1);
	if (n < 0)
		return guest_path_fail(call, errno, path, "cannot read the link");
	target[n] = 0;
	*ret = guest_text(target);
	return *ret ? 0 : -ENOMEM;
}

/* A max-heap of the smallest names so far. */
struct name_heap {
	char **names;
	size_t count, limit;
	bool more; /* names were left out */
};

static void heap_done(struct name_heap *h)
{
	for (size_t i = 0; i < h->count; i++)
		free(h->names[i]);
	free(h->names);
}

static void heap_sift_down(struct name_heap *h)
{
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;
		char *swap;

		if (child >= h->count)
			return;
		if (child + 1 < h->count &&
		    strcmp(h->names[child + 1], h->names[child]) > 0)
			child++;
		if (strcmp(h->names[i], h->names[child]) >= 0)
			return;
		swap = h->names[i];
		h->names[i] = h->names[child];
		h->names[child] = swap;
		i = child;
	}
}

static int heap_add(struct name_heap *h, const char *name)
{
	char *copy;
	size_t i;

	if (h->count == h->limit) {
		h->more = true;
		if (strcmp(name, h->names[0]) >= 0)
			return 0;
		copy = strdup(name);
		if (!copy)
			return -ENOMEM;
		free(h->names[0]);
		h->names[0] = copy;
		heap_sift_down(h);
		return 0;
	}
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	i = h->count++;
	while (i > 0 && strcmp(h->names[(i - 1) / 2], copy) < 0) {
		h->names[i] = h->names[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->names[i] = copy;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int collect_names(struct va_call *call, DIR *dir, const char *cursor,
			 struct name_heap *h)
{
	struct pollfd cancel = { .fd = call->cancel_fd, .events = POLLIN };
	struct dirent *e;
	unsigned n = 0;
	int r;

	while (errno = 0, (e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (cursor && strcmp(e->d_name, cursor) <= 0)
			continue;
		r = heap_add(h, e->d_name);
		if (r < 0)
			return r;
		if (++n % 4096 == 0 && cancel.fd >= 0 && poll(&cancel, 1, 0) > 0)
			return va_fail(call, ECANCELED, "the caller left");
	}
	return errno ? -errno : 0;
}

static struct va_value *list_entry(int dir_fd, const char *name)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char target[PATH_MAX];
	struct stat st;
	ssize_t n;
	int r = 0;

	/* An entry that went away in between is shown as gone, not left out:
	 * the cursor counts names. */
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		v = va_struct();
		r |= va_set(v, "type", va_string("gone"));
	} else {
		v = guest_stat_value(&st);
		if (v && S_ISLNK(st.st_mode)) {
			n = readlinkat(dir_fd, name, target, sizeof(target) - 1);
			if (n >= 0) {
				target[n] = 0;
				r |= va_set(v, "target", guest_text(target));
			}
		}
	}
	r |= va_set(v, "name", guest_text(name));
	return r < 0 ? NULL : take_ptr(v);
}

static int list_result(DIR *dir, struct name_heap *h, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_struct(), *entries = va_array();
	int r = 0;

	qsort(h->names, h->count, sizeof(h->names[0]), by_name);
	for (size_t i = 0; i < h->count && r == 0; i++)
		r = va_append(entries, list_entry(dirfd(dir), h->names[i]));
	r |= va_set(v, "entries", take_ptr(entries));
	r |= va_set(v, "eof", va_bool(!h->more));
	r |= va_set(v, "cursor",
		    guest_text(h->count ? h->names[h->count - 1] : ""));
	if (r < 0)
		return -ENOMEM;
	*ret = take_ptr(v);
	return 0;
}

static int guest_list(struct va_call *call, struct va_value **ret)
{
	CLEANUP(heap_done) struct name_heap h = { .names = NULL };
	CLEANUP_CLOSEDIR DIR *dir = NULL;
	CLEANUP_CLOSE int fd = -1;
	const char *path, *cursor;
	int64_t limit;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = va_arg_text(call, 1, NULL, &cursor);
	if (r == 0)
		r = va_arg_int(call, 2, LIST_MAX, 1, LIST_MAX, &limit);
	if (r < 0)
		return r;
	fd = guest_open(call, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir)
		return guest_path_fail(call, errno, path, "cannot list");
	take_fd(fd);
	h.limit = (size_t)limit;
	h.names = calloc(h.limit, sizeof(h.names[0]));
	if (!h.names)
		return -ENOMEM;
	r = collect_names(call, dir, cursor && *cursor ? cursor : NULL, &h);
	if (r < 0 && call->fault.code == 0)
		return guest_path_fail(call, -r, path, "cannot list");
	if (r < 0)
		return r;
	return list_result(dir, &h, ret);
}

static int guest_checksum(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_CLOSE int fd = -1;
	char hex[DIGEST_HEX];
	const char *path;
	int64_t offset, length;
	uint64_t done;
	struct stat st;
	int r;

	r = guest_arg_path(call, 0, &path);
	if (r == 0)
		r = va_arg_int(call, 1, 0, 0, INT64_MAX, &offset);
	if (r == 0)
		r = va_arg_int(call, 2, -1, -1, INT64_MAX, &length);
	if (r < 0)
		return r;
	fd = guest_open(call, path, O_RDONLY);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return guest_path_fail(call, errno, path, "cannot stat");
	if (!S_ISREG(st.st_mode))
		return guest_path_fail(call, EINVAL, path, "is not a regular file");
	/* Never past the size the file has now: one that grows for ever would
	 * otherwise keep the call for ever. */
	if (length < 0 || length > st.st_size - offset)
		length = st.st_size > offset ? st.st_size - offset : 0;
	r = digest_fd(fd, (uint64_t)offset, (uint64_t)length, call->cancel_fd,
		      hex, &done);
	if (r < 0)
		return guest_path_fail(call, -r, path, "cannot read");
	v = va_struct();
	r |= va_set(v, "sha256", va_string(hex));
	r |= va_set(v, "bytes", va_int((int64_t)done));
	r |= va_set(v, "size", va_int(st.st_size));
	if (r < 0)
		return -ENOMEM;
	*ret = take_ptr(v);
	return 0;
}

static const struct va_method methods[] = {
	{ "guest.stat", "S:t|b", "PATH [FOLLOW]", VA_CLASS_READ, guest_stat, NULL,
	  "metadata of a file",
	  "Returns type (file, directory, symlink, fifo, socket, char-device, "
	  "block-device), mode, uid, gid, size, allocated, mtime, atime, ctime "
	  "(seconds since 1970), nlink, inode, device; target for a symbolic link, "
	  "major and minor for a device. A symbolic link itself is described "
	  "unless FOLLOW is true.",
	  VA_M_IDEMPOTENT | VA_M_PATH },
	{ "guest.list", "S:t|ti", "DIR [CURSOR [LIMIT]]", VA_CLASS_READ, guest_list,
	  NULL, "entries of a directory",
	  "Returns entries (an array of structs as guest.stat's, with name), cursor "
	  "and eof. Entries come in the order of their names' bytes, at most LIMIT "
	  "(1000) a call; pass cursor back for the rest. A name that is not clean "
	  "text is base64. An entry that went away meanwhile has type gone.",
	  VA_M_IDEMPOTENT | VA_M_PATH },
	{ "guest.readlink", "x:t", "PATH", VA_CLASS_READ, guest_readlink, NULL,
	  "target of a symbolic link",
	  "Returns the target as a string, or base64 when it is not clean text.",
	  VA_M_IDEMPOTENT | VA_M_PATH },
	{ "guest.checksum", "S:t|ii", "PATH [OFFSET [LENGTH]]", VA_CLASS_READ,
	  guest_checksum, "sha256", "SHA-256 of a regular file or a part of it",
	  "Returns sha256 (hex), bytes (how many were summed) and size. LENGTH -1 "
	  "means to the end; what lies behind the end is left out.",
	  VA_M_IDEMPOTENT | VA_M_PATH },
};

const struct va_family guest_files_read_family = { methods, sizeof(methods) / sizeof(methods[0]) };
