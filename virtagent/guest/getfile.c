/*
 * getfile.c - guest.getfile: a plain file, piece by piece
 *
 * The path is first opened with O_PATH, which wakes no device (opening a
 * watchdog starts it, opening a tape rewinds it), and what it names is looked at
 * before the same object is opened for reading through /proc/self/fd.  Where
 * that is not possible the type is asked before and after opening.  Symbolic
 * links are followed: /etc/os-release is one.
 *
 * "Regular" files of /proc, /sys and the tracing file systems may block or never
 * end.  Three nets: the known ones are refused by name, one that poll() calls
 * not readable or that cannot be read at an offset is refused, and a timer
 * interrupts a read that blocks all the same.  Such files have size 0 or a
 * made-up one and may change between two calls, so a call reads on until it has
 * the whole file or max bytes; a read of one more byte tells the end.
 *
 * Limits: VA_BYTES_MAX a call.  A file on a dead file system blocks its call
 * (uninterruptibly: nothing helps), and no other.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/read_guard.h"
#include "virtagent/limits.h"

/* Older headers lack it. */
#ifndef TRACEFS_MAGIC
#define TRACEFS_MAGIC 0x74726163
#endif

/* Bytes asked for first when the size is not known. */
#define FIRST_PIECE (16u << 10)

/* Files that look regular and must not be read: reading takes messages from
 * whoever should get them, waits for more, or never ends. */
static const struct {
	long magic; /* of the file system */
	const char *name;
	const char *why;
} refused[] = {
	{ PROC_SUPER_MAGIC, "kmsg", "reading it takes messages from the system "
				    "log; use guest.getdmesg" },
	{ PROC_SUPER_MAGIC, "kcore", "it is the kernel's memory, without an end" },
	{ PROC_SUPER_MAGIC, "kpagecount", "it has no end" },
	{ TRACEFS_MAGIC, "trace_pipe", "it never ends" },
	{ TRACEFS_MAGIC, "trace_pipe_raw", "it never ends" },
	{ DEBUGFS_MAGIC, "trace_pipe", "it never ends" },
	{ DEBUGFS_MAGIC, "trace_pipe_raw", "it never ends" },
};

/* For a read that blocks where none should: then it is given up. */
#define READ_LIMIT_MS 5000

/* The path as it may appear in a fault. */
struct shown {
	char text[256];
};

static const char *show(struct shown *s, const char *path)
{
	return log_escape(s->text, sizeof(s->text), path, strlen(path));
}

static const char *type_name(mode_t mode)
{
	return S_ISDIR(mode)  ? "a directory" :
	       S_ISFIFO(mode) ? "a FIFO" :
	       S_ISSOCK(mode) ? "a socket" :
	       S_ISCHR(mode)  ? "a character device" :
	       S_ISBLK(mode)  ? "a block device" :
				"not a plain file";
}

static int check_type(struct va_call *call, const char *path, mode_t mode)
{
	struct shown s;

	if (S_ISREG(mode))
		return 0;
	return va_fail(call, S_ISDIR(mode) ? EISDIR : EINVAL,
		       "%s: %s is %s; only plain files are read",
		       call->method->name, show(&s, path), type_name(mode));
}

static int fail_path(struct va_call *call, const char *path, int error)
{
	struct shown s;

	return va_fail(call, error, "%s: %s: %s", call->method->name,
		       show(&s, path), strerror(error));
}

/* What fd really is; "" without /proc. */
static void real_path(int fd, char *ret, size_t size)
{
	char self[40];
	ssize_t n;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	n = readlink(self, ret, size - 1);
	ret[n < 0 ? 0 : n] = 0;
}

/* The policy judges the object, not the name it was asked for by. */
static int check_policy(struct va_call *call, int fd)
{
	char path[PATH_MAX];

	real_path(fd, path, sizeof(path));
	return guest_context(call)->check_path(call, path);
}

/* Without O_PATH (or /proc): look, open, look again. */
static int open_looking(struct va_call *call, const char *path, int *ret)
{
	CLEANUP_CLOSE int fd = -1;
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return fail_path(call, path, errno);
	r = check_type(call, path, st.st_mode);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail_path(call, path, errno);
	r = check_policy(call, fd);
	if (r == 0)
		r = check_type(call, path, st.st_mode);
	if (r == 0)
		*ret = take_fd(fd);
	return r;
}

static int open_plain(struct va_call *call, const char *path, int *ret)
{
	CLEANUP_CLOSE int at = open(path, O_PATH | O_CLOEXEC);
	char self[40];
	struct stat st;
	int r;

	if (at < 0 && errno == EINVAL)
		return open_looking(call, path, ret);
	if (at < 0)
		return fail_path(call, path, errno);
	r = check_policy(call, at);
	if (r < 0)
		return r;
	/* fstat() of such a descriptor works only from Linux 3.6 on. */
	if (fstatat(at, "", &st, AT_EMPTY_PATH) < 0)
		return open_looking(call, path, ret);
	r = check_type(call, path, st.st_mode);
	if (r < 0)
		return r;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", at);
	*ret = open(self, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (*ret < 0 && errno == ENOENT)
		return open_looking(call, path, ret);
	return *ret < 0 ? fail_path(call, path, errno) : 0;
}

static int check_endless(struct va_call *call, const char *path, int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };
	struct statfs fs;
	char real[PATH_MAX];
	const char *name;
	struct shown s;

	if (fstatfs(fd, &fs) < 0)
		return fail_path(call, path, errno);
	real_path(fd, real, sizeof(real));
	name = strrchr(real, '/');
	name = name ? name + 1 : real;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if ((long)fs.f_type == refused[i].magic &&
		    strcmp(name, refused[i].name) == 0)
			return va_fail(call, EINVAL, "%s: %s is not read: %s",
				       call->method->name, show(&s, path),
				       refused[i].why);
	if (lseek(fd, 0, SEEK_CUR) < 0)
		return va_fail(call, ESPIPE, "%s: %s cannot be read at an offset",
			       call->method->name, show(&s, path));
	if (poll(&p, 1, 0) == 0)
		return va_fail(call, EAGAIN, "%s: reading %s would wait",
			       call->method->name, show(&s, path));
	return 0;
}

static int grow(struct guest_piece *piece, size_t *alloc, size_t max)
{
	size_t want = *alloc ? *alloc * 2 : FIRST_PIECE;
	void *mem;

	if (want > max)
		want = max;
	mem = realloc(piece->data, want);
	if (!mem)
		return -ENOMEM;
	piece->data = mem;
	*alloc = want;
	return 0;
}

/* Reads up to max bytes, however short the single reads are. */
static int read_piece(int fd, uint64_t offset, size_t max, size_t expect,
		      struct guest_piece *piece)
{
	size_t alloc = 0;
	char probe;
	ssize_t n = 1;
	int r;

	if (expect && expect < max) {
		/* One more than expected, to see the end without growing. */
		alloc = expect + 1;
		piece->data = malloc(alloc);
		if (!piece->data)
			return -ENOMEM;
	}
	while (piece->len < max) {
		if (piece->len == alloc) {
			r = grow(piece, &alloc, max);
			if (r < 0)
				return r;
		}
		n = pread(fd, (char *)piece->data + piece->len,
			  alloc - piece->len, (off_t)(offset + piece->len));
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		piece->len += (size_t)n;
	}
	if (n > 0)
		n = pread(fd, &probe, 1, (off_t)(offset + piece->len));
	/* A file that cannot be read one byte further is over, for us. */
	piece->eof = n <= 0;
	return 0;
}

int guest_read_file(struct va_call *call, const char *path, uint64_t offset,
		    size_t max, struct guest_piece *ret)
{
	CLEANUP_CLOSE int fd = -1;
	struct guest_piece piece = { 0 };
	struct read_guard guard;
	struct stat st;
	struct shown s;
	size_t expect;
	int r;

	if (path[0] != '/')
		return va_fail(call, EINVAL, "%s: %s is not an absolute path",
			       call->method->name, show(&s, path));
	r = open_plain(call, path, &fd);
	if (r == 0)
		r = check_endless(call, path, fd);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return fail_path(call, path, errno);
	expect = (uint64_t)st.st_size > offset &&
				 (uint64_t)st.st_size - offset < max ?
			 (size_t)((uint64_t)st.st_size - offset) : 0;
	if ((uint64_t)st.st_size > offset && !expect)
		expect = max - 1;
	read_guard_start(&guard, READ_LIMIT_MS);
	r = read_piece(fd, offset, max, expect, &piece);
	read_guard_stop(&guard);
	if (r < 0 || fstat(fd, &st) < 0) {
		free(piece.data);
		if (r == -EINTR || r == -EAGAIN)
			return va_fail(call, -r, "%s: reading %s would wait",
				       call->method->name, show(&s, path));
		return fail_path(call, path, r < 0 ? -r : errno);
	}
	/* In /proc and /sys the size is what was found. */
	piece.size = (uint64_t)st.st_size;
	if (piece.len && (piece.eof || piece.size < offset + piece.len))
		piece.size = offset + piece.len;
	piece.mtime = st.st_mtim.tv_sec;
	*ret = piece;
	return 0;
}

static int getfile(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *s = NULL;
	struct guest_piece piece;
	int64_t offset, length;
	const char *path;
	int r = va_arg_text(call, 0, NULL, &path);

	if (r == 0)
		r = va_arg_int(call, 1, 0, 0, INT64_MAX - VA_BYTES_MAX - 1,
			       &offset);
	if (r == 0)
		r = va_arg_int(call, 2, VA_BYTES_MAX, 0, VA_BYTES_MAX, &length);
	if (r == 0)
		r = guest_read_file(call, path, (uint64_t)offset, (size_t)length,
				    &piece);
	if (r < 0)
		return r;
	s = va_struct();
	/* Nothing read, nothing allocated: an empty value all the same. */
	guest_set(s, "data", piece.data ? va_bytes_take(piece.data, piece.len) :
					  va_bytes("", 0), &r);
	guest_set(s, "offset", va_int(offset), &r);
	guest_set(s, "size", va_int((int64_t)piece.size), &r);
	guest_set(s, "eof", va_bool(piece.eof), &r);
	guest_set(s, "mtime", va_int(piece.mtime), &r);
	if (r == 0)
		*ret = take_ptr(s);
	return r;
}

static const struct va_method rows[] = {
	{
		.name = "guest.getfile",
		.signature = "S:t|ii",
		.args = "PATH [OFFSET [LENGTH]]",
		.cls = VA_CLASS_READ,
		.fn = getfile,
		.raw = "data",
		.help = "Reads a plain file of the guest, or a piece of it.",
		.doc = "PATH is absolute; symbolic links are followed.  OFFSET "
		       "(default 0) and LENGTH (default and at most 1 MiB) are "
		       "bytes.  A struct: data (base64), offset, size (bytes of "
		       "the file; of files in /proc and /sys what was found), eof "
		       "(nothing lies beyond), mtime (seconds since 1970).  A file "
		       "in /proc or /sys of less than 1 MiB comes whole in one "
		       "call.  Directories, FIFOs, sockets, devices and files that "
		       "wait or never end, such as /proc/kmsg, are refused.",
		.flags = VA_M_IDEMPOTENT | VA_M_PATH | VA_M_UNTIL_EOF,
	},
};

const struct va_family guest_getfile_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
