/*
 * transfer.c - see transfer.h
 *
 * GET: a second request for the rest (Range) counts only when the file's size and
 * X-Va-Mtime are still the same.  A file that has no size (/proc, /sys) cannot be
 * taken up in the middle; it begins anew.
 *
 * PUT writes a partial file in the guest, beside the target, that takes the
 * target's name when the whole body has arrived; so repeating it is harmless.
 * The partial outlives a broken connection: guest.putstatus tells how much there
 * is and its checksum.  Unless the user wants to go on later (resume), a put that
 * failed throws it away.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/transfer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/str.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/path.h"
#include "virtagent/fault.h"

#define TRANSFER_TRIES 4
#define PUT_FORGET_NS (2 * NSEC_PER_SEC)
#define TRANSFER_ERROR_MAX 512 /* bytes of a refusal's text */

struct get_state {
	const struct transfer *t;
	unsigned status;
	int fd;
	uint64_t offset; /* of the next byte */
	uint64_t size;	 /* as the first reply said */
	char mtime[64];	 /* likewise */
	bool known;	 /* size and mtime are set */
	bool seekable;	 /* may begin anew */
	bool counted;	 /* the progress knows the size */
	struct buf error;
	int local_error;
};

static bool still_there(const struct transfer *t)
{
	char why[256];

	return target_check(rpc_target(t->rpc), why, sizeof(why), NULL) == 0;
}

/* What an HTTP status that is no success means. */
static int status_exit(const struct transfer *t, unsigned status,
		       struct buf *text)
{
	const char *s = buf_cstr(text);
	int n = s ? (int)strcspn(s, "\r\n") : 0;

	if (n)
		rpc_set_error(t->rpc, "%.*s", n > 400 ? 400 : n, s);
	else
		rpc_set_error(t->rpc, status == 404 ? "no such file" :
				      status == 403 ? "refused" :
						      "HTTP status %u", status);
	return status == 404 ? VAC_FALSE : VAC_ERROR;
}

static const char *header(const struct transfer *t, const char *name)
{
	const char *s = http_client_reply_header(rpc_http(t->rpc), name);

	return s ? s : "";
}

static int get_error(struct get_state *g, int error, const char *why)
{
	rpc_set_error(g->t->rpc, "%s", why);
	return g->local_error = error;
}

/* The whole file comes instead of its rest: from the beginning, then. */
static int begin_anew(struct get_state *g)
{
	if (!g->seekable || ftruncate(g->fd, 0) || lseek(g->fd, 0, SEEK_SET))
		return get_error(g, -ESPIPE, "the connection broke, and the "
				 "server cannot go on in the middle");
	if (g->t->progress)
		progress_back(g->t->progress, g->offset);
	g->offset = 0;
	g->known = false;
	return 0;
}

/* The first reply tells what the file is; a later one must tell the same. */
static int get_head(void *arg, unsigned status, int64_t length)
{
	struct get_state *g = arg;
	uint64_t from = 0, to, size = length > 0 ? (uint64_t)length : 0;
	char mtime[64];
	int error = 0;

	g->status = status;
	if (status != 200 && status != 206)
		return 0;
	snprintf(mtime, sizeof(mtime), "%s", header(g->t, "X-Va-Mtime"));
	if (status == 206 &&
	    (sscanf(header(g->t, "Content-Range"),
		    "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, &from, &to,
		    &size) != 3 || from != g->offset))
		return get_error(g, -EBADMSG, "the server sent another part of "
					      "the file than was asked for");
	if (status == 200 && g->offset)
		error = begin_anew(g);
	if (!error && g->known &&
	    (size != g->size || strcmp(g->mtime, mtime) != 0))
		error = get_error(g, -ESTALE, "the file changed while it was "
					      "copied");
	if (error)
		return error;
	g->known = true;
	g->size = size;
	snprintf(g->mtime, sizeof(g->mtime), "%s", mtime);
	if (!g->counted && g->t->progress)
		progress_file(g->t->progress, g->t->remote, size, g->offset);
	g->counted = true;
	return 0;
}

static int write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR && !interrupt_seen())
			continue;
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static int get_sink(void *arg, const void *data, size_t n)
{
	struct get_state *g = arg;
	int error;

	if (interrupt_seen())
		return g->local_error = -EINTR;
	if (g->status != 200 && g->status != 206) {
		size_t room = buf_room(&g->error);

		return buf_put(&g->error, data, n < room ? n : room);
	}
	error = write_all(g->fd, data, n);
	if (error) {
		rpc_set_error(g->t->rpc, "cannot write: %s", strerror(-error));
		return g->local_error = error;
	}
	g->offset += n;
	if (g->t->progress)
		progress_add(g->t->progress, n);
	return 0;
}

/* One request for what is missing.  An exit code, or -EAGAIN to try again. */
static int get_once(struct get_state *g)
{
	const struct transfer *t = g->t;
	CLEANUP_FREE char *encoded = path_encode(t->remote);
	CLEANUP_FREE char *target = encoded ? str_printf("/file?path=%s",
							 encoded) : NULL;
	char range[64];
	const char *headers[] = { NULL, NULL };
	struct http_call call = {
		.method = "GET",
		.target = target,
		.headers = headers,
		.sink = get_sink,
		.head = get_head,
		.arg = g,
		.deadline_ns = t->deadline_ns,
		.cancel = interrupt_flag(),
	};
	int error;

	if (!target)
		return VAC_ERROR;
	if (g->offset) {
		snprintf(range, sizeof(range), "Range: bytes=%" PRIu64 "-",
			 g->offset);
		headers[0] = range;
	}
	g->local_error = 0;
	buf_reset(&g->error);
	error = http_client_perform(rpc_http(t->rpc), &call);
	if (g->local_error || error == -EINTR)
		return interrupt_seen() ? interrupt_status() : VAC_ERROR;
	if (!error && g->offset && call.status == 416)
		return VAC_OK; /* nothing is missing */
	if (!error && (call.status == 200 || call.status == 206))
		return VAC_OK;
	if (!error)
		return status_exit(t, call.status, &g->error);
	rpc_set_error(t->rpc, "%s", *call.error ? call.error : strerror(-error));
	if (error == -ETIMEDOUT)
		return VAC_TIMEOUT;
	if (call.progress == HTTP_NOT_CONNECTED)
		return VAC_NOT_CONNECTED;
	return -EAGAIN;
}

static int get_all(struct get_state *g)
{
	int code = -EAGAIN;

	for (int tries = 0; code == -EAGAIN && tries < TRANSFER_TRIES; tries++) {
		uint64_t before = g->offset;

		if (tries && !still_there(g->t))
			break;
		code = get_once(g);
		/* A step forward earns new tries: only standing still ends. */
		if (code == -EAGAIN && g->offset > before)
			tries = 0;
	}
	if (code == -EAGAIN) {
		rpc_set_error(g->t->rpc, "the connection broke after %" PRIu64
					 " bytes", g->offset);
		return VAC_ERROR;
	}
	if (!code && g->size && g->offset < g->size) {
		rpc_set_error(g->t->rpc, "only %" PRIu64 " of %" PRIu64
					 " bytes came", g->offset, g->size);
		return VAC_ERROR;
	}
	return code;
}

/* Do the first n bytes of the guest's file and of fd agree? */
static bool same_beginning(const struct transfer *t, int fd, uint64_t n)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params = rpc_params(t->remote, NULL);
	char hex[DIGEST_HEX];
	uint64_t done = 0;
	int error = digest_fd(fd, 0, n, -1, hex, &done);

	if (error || !n || done != n) {
		va_value_free(params);
		return false;
	}
	if (va_append(params, va_int(0)) || va_append(params, va_int((int64_t)n)))
		va_value_free(take_ptr(params));
	if (rpc_try(t->rpc, "guest.checksum", RPC_IDEMPOTENT, params, &v))
		return false;
	return member_int(v, "bytes", -1) == (int64_t)n &&
	       strcmp(member_text(v, "sha256"), hex) == 0;
}

int transfer_get(const struct transfer *t, struct local_file *to, uint64_t have)
{
	struct get_state g = { .t = t, .fd = to->fd,
			       .seekable = *to->temp != '\0',
			       .error = BUF_INIT(TRANSFER_ERROR_MAX) };
	unsigned long mode;
	double mtime = -1;
	int code, error;

	if (have && same_beginning(t, to->fd, have))
		g.offset = have;
	if (*to->temp && (ftruncate(to->fd, (off_t)g.offset) ||
			  lseek(to->fd, (off_t)g.offset, SEEK_SET) < 0)) {
		rpc_set_error(t->rpc, "%s: %s", to->name, strerror(errno));
		return VAC_ERROR;
	}
	code = get_all(&g);
	buf_done(&g.error);
	if (code)
		return code;
	mode = strtoul(header(t, "X-Va-Mode"), NULL, 8) & 0777;
	if (!mode)
		mode = 0644;
	if (t->preserve) {
		mtime = strtod(g.mtime, NULL);
	} else {
		mode_t mask = umask(077);

		umask(mask);
		mode &= ~(unsigned long)mask;
	}
	error = local_commit(to, (mode_t)mode, mtime);
	if (!error)
		return VAC_OK;
	rpc_set_error(t->rpc, "cannot finish %s: %s", to->name,
		      strerror(-error));
	return VAC_ERROR;
}

int transfer_get_fd(const struct transfer *t, int fd)
{
	struct get_state g = { .t = t, .fd = fd,
			       .error = BUF_INIT(TRANSFER_ERROR_MAX) };
	int code = get_all(&g);

	buf_done(&g.error);
	return code;
}

struct put_state {
	const struct transfer *t;
	int fd;
	bool pipe;	 /* cannot go back */
	uint64_t offset; /* of the next byte to be sent */
	int local_error;
};

static ssize_t put_source(void *arg, void *data, size_t max)
{
	struct put_state *p = arg;
	ssize_t n;

	if (interrupt_seen())
		return p->local_error = -EINTR;
	n = p->pipe ? read(p->fd, data, max) :
		      pread(p->fd, data, max, (off_t)p->offset);
	if (n < 0) {
		if (errno == EINTR && interrupt_seen())
			return p->local_error = -EINTR;
		rpc_set_error(p->t->rpc, "cannot read: %s", strerror(errno));
		return p->local_error = -errno;
	}
	p->offset += (uint64_t)n;
	if (p->t->progress)
		progress_add(p->t->progress, (uint64_t)n);
	return n;
}

static char *put_target(const struct transfer *t, uint64_t offset)
{
	CLEANUP_FREE char *encoded = path_encode(t->remote);
	CLEANUP_BUF struct buf b = BUF_INIT(32768);

	if (!encoded)
		return NULL;
	buf_printf(&b, "/file?path=%s", encoded);
	if (t->mode >= 0)
		buf_printf(&b, "&mode=%04o", (unsigned)t->mode & 07777);
	if (t->uid >= 0)
		buf_printf(&b, "&uid=%" PRId64, t->uid);
	if (t->gid >= 0)
		buf_printf(&b, "&gid=%" PRId64, t->gid);
	if (offset)
		buf_printf(&b, "&offset=%" PRIu64, offset);
	return buf_cstr(&b) ? strdup(buf_cstr(&b)) : NULL;
}

static int put_once(struct put_state *p, int64_t total, uint64_t from)
{
	const struct transfer *t = p->t;
	CLEANUP_FREE char *target = put_target(t, from);
	CLEANUP_BUF struct buf reply = BUF_INIT(TRANSFER_ERROR_MAX * 8);
	struct http_call call = {
		.method = "PUT",
		.target = target,
		.source = put_source,
		.body_total = total < 0 ? -1 : total - (int64_t)from,
		.reply = &reply,
		.arg = p,
		.deadline_ns = t->deadline_ns,
		.cancel = interrupt_flag(),
	};
	int error;

	if (!target)
		return VAC_ERROR;
	p->offset = from;
	p->local_error = 0;
	error = http_client_perform(rpc_http(t->rpc), &call);
	if (p->local_error || error == -EINTR)
		return interrupt_seen() ? interrupt_status() : VAC_ERROR;
	if (!error && call.status >= 200 && call.status < 300)
		return VAC_OK;
	if (!error)
		return status_exit(t, call.status, &reply);
	rpc_set_error(t->rpc, "%s", *call.error ? call.error : strerror(-error));
	if (error == -ETIMEDOUT)
		return VAC_TIMEOUT;
	if (call.progress == HTTP_NOT_CONNECTED)
		return VAC_NOT_CONNECTED;
	return -EAGAIN;
}

/* How much of an earlier try lies in the guest and is the same as ours. */
static uint64_t put_have(const struct transfer *t, int fd, uint64_t size)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char hex[DIGEST_HEX];
	uint64_t done = 0;
	int64_t have;

	if (rpc_try(t->rpc, "guest.putstatus", RPC_IDEMPOTENT,
		    rpc_params(t->remote, NULL), &v))
		return 0;
	have = member_int(v, "size", 0);
	if (have <= 0 || (uint64_t)have > size ||
	    digest_fd(fd, 0, (uint64_t)have, -1, hex, &done) ||
	    done != (uint64_t)have || strcmp(member_text(v, "sha256"), hex) != 0)
		return 0;
	return (uint64_t)have;
}

/* A put that failed for good leaves nothing in the guest. */
static void put_forget(const struct transfer *t)
{
	CLEANUP_RPC struct rpc *r = rpc_open(rpc_client(t->rpc),
					     rpc_target(t->rpc));
	CLEANUP_VALUE struct va_value *v = NULL;

	if (!r)
		return;
	rpc_ignore_interrupt(r);
	rpc_set_deadline(r, clock_now() + PUT_FORGET_NS);
	rpc_try(r, "guest.putforget", RPC_IDEMPOTENT,
		rpc_params(t->remote, NULL), &v);
}

static int put_all(struct put_state *p, int64_t total)
{
	const struct transfer *t = p->t;
	uint64_t from = 0;
	int code = -EAGAIN;

	if (t->resume && !p->pipe)
		from = put_have(t, p->fd, (uint64_t)total);
	if (t->progress)
		progress_file(t->progress, t->remote,
			      total > 0 ? (uint64_t)total : 0, from);
	for (int tries = 0; code == -EAGAIN && tries < TRANSFER_TRIES; tries++) {
		uint64_t before = from;

		if (tries && (p->pipe || !still_there(t)))
			break;
		if (tries) {
			from = put_have(t, p->fd, (uint64_t)total);
			if (t->progress && p->offset > from)
				progress_back(t->progress, p->offset - from);
		}
		/* A step forward earns new tries. */
		if (from > before)
			tries = 0;
		code = put_once(p, total, from);
	}
	return code;
}

int transfer_put(const struct transfer *t, int fd)
{
	struct put_state p = { .t = t, .fd = fd };
	struct stat st;
	int code;

	if (fstat(fd, &st)) {
		rpc_set_error(t->rpc, "cannot read: %s", strerror(errno));
		return VAC_ERROR;
	}
	p.pipe = !S_ISREG(st.st_mode);
	code = put_all(&p, p.pipe ? -1 : (int64_t)st.st_size);
	if (code && (!t->resume || p.pipe) && code != VAC_NOT_CONNECTED)
		put_forget(t);
	if (code != -EAGAIN)
		return code;
	rpc_set_error(t->rpc, "the connection broke after %" PRIu64 " bytes",
		      p.offset);
	return VAC_ERROR;
}
