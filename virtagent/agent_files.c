/*
 * agent_files.c - GET and PUT of /file: whole files, streamed (PROTOCOL, "Files")
 *
 * GET /file?path=P sends a regular file with sendfile(2), as a whole or the one
 * range asked for.  What has no size (/proc, /sys) is read first, up to
 * PSEUDO_MAX, because its content changes under a second read.
 *
 * PUT /file?path=P writes to the partial file of guest/put.h as the pieces
 * arrive and puts it in place at the end.  A transfer that breaks off leaves the
 * partial, to be continued with offset=N.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"
#include "virtagent/agent_form.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/path.h"
#include "virtagent/guest/put.h"
#include "virtagent/limits.h"

#define PSEUDO_MAX (16u << 20) /* bytes of a /proc or /sys file */
#define BYTES "application/octet-stream"

/* --- GET ------------------------------------------------------------------ */

static void get_free(void *data)
{
	form_end(data);
	free(data);
}

/*
 * "bytes=A-B", "bytes=A-", "bytes=-N" of a file of size bytes.  1 with the
 * range, 0 for none (or a form that may be ignored, RFC 9110 14.2), -ERANGE.
 */
static int parse_range(const char *text, uint64_t size, uint64_t *offset,
		       uint64_t *length)
{
	char from[24], to[24];
	const char *dash;
	uint64_t a = 0, b = UINT64_MAX;

	if (!text || !str_starts(text, "bytes=") || strchr(text, ','))
		return 0;
	text += 6;
	dash = strchr(text, '-');
	if (!dash || (size_t)(dash - text) >= sizeof(from) || strlen(dash + 1) >= sizeof(to))
		return 0;
	snprintf(from, sizeof(from), "%.*s", (int)(dash - text), text);
	snprintf(to, sizeof(to), "%s", dash + 1);
	if ((*from && str_to_u64(from, UINT64_MAX, &a) < 0) ||
	    (*to && str_to_u64(to, UINT64_MAX, &b) < 0) || (!*from && !*to))
		return 0;
	if (!*from) { /* the last b bytes */
		a = b < size ? size - b : 0;
		b = UINT64_MAX;
	}
	if (a >= size || b < a)
		return -ERANGE;
	*offset = a;
	*length = (b < size ? b + 1 : size) - a;
	return 1;
}

static void add_facts(struct http_request *rq, const struct stat *st)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, (int64_t)st->st_mtime);
	http_add_header(rq, "X-Va-Mtime", text);
	snprintf(text, sizeof(text), "%" PRIu64, (uint64_t)st->st_size);
	http_add_header(rq, "X-Va-Size", text);
	snprintf(text, sizeof(text), "%04o", (unsigned)(st->st_mode & 07777));
	http_add_header(rq, "X-Va-Mode", text);
	snprintf(text, sizeof(text), "%u:%u", (unsigned)st->st_uid, (unsigned)st->st_gid);
	http_add_header(rq, "X-Va-Owner", text);
}

static int send_pseudo(struct form *f, struct http_request *rq, const char *path,
		       struct stat *st)
{
	CLEANUP_BUF struct buf b = BUF_INIT(PSEUDO_MAX);
	struct guest_piece piece = { .eof = false };

	while (!piece.eof) {
		int r = guest_read_file(&f->call, path, buf_len(&b), VA_BYTES_MAX, &piece);
		size_t n = piece.len;

		if (r < 0)
			return form_fail(f, rq, r);
		r = buf_put(&b, piece.data, n);
		free(piece.data);
		if (r < 0)
			return form_fail(f, rq, va_fail(&f->call, EFBIG,
				"the file has no size and more than %u bytes, which is "
				"the limit", PSEUDO_MAX));
		if (n == 0)
			break;
	}
	st->st_size = (off_t)buf_len(&b);
	add_facts(rq, st);
	return http_respond(rq, 200, BYTES, buf_data(&b), buf_len(&b));
}

static int send_file(struct form *f, struct http_request *rq, int fd,
		     const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size, offset = 0, length = size;
	char text[80];
	int r = parse_range(http_request_header(rq, "Range"), size, &offset, &length);

	add_facts(rq, st);
	http_add_header(rq, "Accept-Ranges", "bytes");
	if (r == -ERANGE) {
		snprintf(text, sizeof(text), "bytes */%" PRIu64, size);
		http_add_header(rq, "Content-Range", text);
		close(fd);
		f->error = -ERANGE;
		return http_respond_text(rq, 416, "the range lies outside the file's %"
					 PRIu64 " bytes\n", size);
	}
	if (r == 1) {
		snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
			 offset, offset + length - 1, size);
		http_add_header(rq, "Content-Range", text);
	}
	return http_respond_fd(rq, r == 1 ? 206 : 200, BYTES, fd, offset, length);
}

int agent_file_get(struct http_request *rq, void *context)
{
	CLEANUP_CLOSE int fd = -1;
	struct form *f = calloc(1, sizeof(*f));
	const char *path = http_request_query(rq, "path");
	struct va_value *params = va_array();
	struct stat st;

	if (!f)
		return -ENOMEM;
	http_request_set_data(rq, f, get_free);
	va_append(params, va_bytes(path ? path : "", path ? strlen(path) : 0));
	if (agent_form_begin(f, rq, context, "guest.getfile", params) < 0)
		return 0;
	if (guest_arg_path(&f->call, 0, &path) < 0)
		return form_fail(f, rq, -EINVAL);
	fd = guest_open(&f->call, path, O_RDONLY);
	if (fd < 0)
		return form_fail(f, rq, fd);
	if (fstat(fd, &st) < 0)
		return form_fail(f, rq, -errno);
	if (!S_ISREG(st.st_mode))
		return form_fail(f, rq, guest_path_fail(&f->call,
			S_ISDIR(st.st_mode) ? EISDIR : EINVAL, path,
			"is not a regular file"));
	if (st.st_size == 0)
		return send_pseudo(f, rq, path, &st);
	return send_file(f, rq, take_fd(fd), &st);
}

/* --- PUT ------------------------------------------------------------------ */

struct put_form {
	struct form form;
	struct guest_put put;
	struct guest_put_attrs attrs;
	bool final;
	bool failed; /* answered already */
};

static void put_free(void *data)
{
	struct put_form *f = data;

	/* Neither finished nor failed: the client went away in the middle. */
	if (f->put.fd >= 0 && !f->form.error)
		f->form.error = -ECONNRESET;
	guest_put_done(&f->put);
	form_end(&f->form);
	free(f);
}

static struct va_value *put_params(const char *path, int64_t offset,
				   const struct put_form *f)
{
	CLEANUP_VALUE struct va_value *p = va_array();
	int r = 0;

	r |= va_append(p, va_bytes(path, strlen(path)));
	r |= va_append(p, va_bytes("", 0));
	r |= va_append(p, va_int(offset));
	r |= va_append(p, va_bool(f->final));
	r |= va_append(p, va_int(f->attrs.mode));
	r |= va_append(p, va_int(f->attrs.uid));
	r |= va_append(p, va_int(f->attrs.gid));
	return r < 0 ? NULL : take_ptr(p);
}

/* The mode is written as people write it: octal. */
static int query_mode(struct http_request *rq, int64_t *ret)
{
	const char *text = http_request_query(rq, "mode");
	char *end;

	*ret = -1;
	if (!text || !*text)
		return 0;
	*ret = (int64_t)strtoul(text, &end, 8);
	if (!*end && *ret <= 07777)
		return 0;
	http_respond_text(rq, 400, "mode=%s: needs an octal number up to 7777\n", text);
	return -EINVAL;
}

int agent_file_put(struct http_request *rq, void *context)
{
	struct put_form *f = calloc(1, sizeof(*f));
	const char *path = http_request_query(rq, "path");
	int64_t offset, final;
	int r;

	if (!f)
		return -ENOMEM;
	f->put = (struct guest_put)GUEST_PUT_INIT;
	f->failed = true;
	http_request_set_data(rq, f, put_free);
	if (form_query_int(rq, "offset", 0, 0, INT64_MAX, &offset) < 0 ||
	    form_query_int(rq, "final", 1, 0, 1, &final) < 0 ||
	    form_query_int(rq, "uid", -1, -1, UINT32_MAX - 1, &f->attrs.uid) < 0 ||
	    form_query_int(rq, "gid", -1, -1, UINT32_MAX - 1, &f->attrs.gid) < 0 ||
	    query_mode(rq, &f->attrs.mode) < 0)
		return 0;
	f->final = final != 0;
	if (agent_form_begin(&f->form, rq, context, "guest.putfile",
			     put_params(path ? path : "", offset, f)) < 0)
		return 0;
	r = guest_arg_path(&f->form.call, 0, &path);
	if (r == 0)
		r = guest_put_begin(&f->form.call, &f->put, path, (uint64_t)offset);
	if (r < 0)
		return form_fail(&f->form, rq, r);
	f->failed = false;
	return 0;
}

int agent_file_piece(struct http_request *rq, const void *data, size_t n)
{
	struct put_form *f = http_request_data(rq);
	int r;

	/* The answer is ready; what still arrives is passed over. */
	if (!f || f->failed)
		return 0;
	r = guest_put_write(&f->form.call, &f->put, data, n);
	if (r < 0) {
		f->failed = true;
		form_fail(&f->form, rq, r);
	}
	return 0;
}

int agent_file_end(struct http_request *rq)
{
	struct put_form *f = http_request_data(rq);
	char text[64];
	int r = 0;

	if (!f || f->failed)
		return 0;
	if (f->final)
		r = guest_put_finish(&f->form.call, &f->put, &f->attrs);
	f->failed = true;
	if (r < 0)
		return form_fail(&f->form, rq, r);
	snprintf(text, sizeof(text), "{\"size\":%" PRIu64 ",\"complete\":%s}\n",
		 f->put.at, f->final ? "true" : "false");
	guest_put_done(&f->put);
	return http_respond(rq, 200, "application/json", text, strlen(text));
}
