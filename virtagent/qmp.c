/*
 * qmp.c - see qmp.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/qmp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/sock.h"

#define QMP_COMMAND_MAX 4096u /* bytes of a command of ours */

struct qmp {
	int fd;
	struct buf in;
	size_t looked; /* bytes at the front of in without a newline */
};

struct qmp *qmp_on_fd(int fd)
{
	struct qmp *q = calloc(1, sizeof(*q));

	if (!q) {
		close(fd);
		return NULL;
	}
	buf_init(&q->in, QMP_LINE_MAX);
	q->fd = fd;
	return q;
}

struct qmp *qmp_open(const char *path)
{
	int fd = sock_unix_connect(path);

	errno = fd < 0 ? -fd : ENOMEM;
	return fd < 0 ? NULL : qmp_on_fd(fd);
}

void qmp_close(struct qmp *q)
{
	if (!q)
		return;
	close(q->fd);
	buf_done(&q->in);
	free(q);
}

int qmp_fd(const struct qmp *q)
{
	return q->fd;
}

static int put_command(struct buf *out, const char *command,
		       struct va_value *arguments)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	int r = va_set(v, "execute", va_string(command));

	if (r == 0 && arguments)
		r = va_set(v, "arguments", arguments);
	else
		va_value_free(arguments);
	if (r == 0)
		r = va_to_json(v, false, out);
	return r == 0 ? buf_puts(out, "\n") : r;
}

int qmp_send(struct qmp *q, const char *command, struct va_value *arguments, int fd)
{
	CLEANUP_BUF struct buf out = BUF_INIT(QMP_COMMAND_MAX);
	ssize_t n;
	int r = put_command(&out, command, arguments);

	if (r < 0)
		return r;
	if (fd >= 0)
		return sock_send_fds(q->fd, buf_data(&out), buf_len(&out), &fd, 1);
	n = send(q->fd, buf_data(&out), buf_len(&out), MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	return (size_t)n == buf_len(&out) ? 0 : -EAGAIN;
}

/* Takes the first line; -EAGAIN when it is not whole. */
static int take_line(struct qmp *q, struct va_value **ret)
{
	const uint8_t *data = buf_data(&q->in);
	size_t n = buf_len(&q->in);
	const uint8_t *end = memchr(data + q->looked, '\n', n - q->looked);
	CLEANUP_VALUE struct va_value *v = NULL;
	char why[128];
	int r;

	if (!end) {
		q->looked = n;
		return -EAGAIN;
	}
	r = va_from_json((const char *)data, (size_t)(end - data), &v, why, sizeof(why));
	buf_consume(&q->in, (size_t)(end - data) + 1);
	q->looked = 0;
	if (r < 0 || va_typeof(v) != VA_STRUCT)
		return r == -ENOMEM ? r : -EBADMSG;
	*ret = take_ptr(v);
	return 0;
}

int qmp_next(struct qmp *q, struct va_value **ret)
{
	for (;;) {
		int r = take_line(q, ret);
		ssize_t n;

		if (r != -EAGAIN)
			return r;
		n = buf_read_fd(&q->in, q->fd, QMP_LINE_MAX);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0)
			return (int)n;
	}
}

enum qmp_kind qmp_kind(const struct va_value *message)
{
	static const char *const members[] = {
		[QMP_GREETING] = "QMP", [QMP_RETURN] = "return",
		[QMP_ERROR] = "error", [QMP_EVENT] = "event",
	};
	int kind = 0;

	while (kind < QMP_OTHER && !va_member(message, members[kind]))
		kind++;
	return (enum qmp_kind)kind;
}

const char *qmp_error(const struct va_value *message)
{
	const char *text = "";

	va_get_string(va_member(va_member(message, "error"), "desc"), &text);
	return text;
}

struct va_value *qmp_arguments(const char *name, ...)
{
	struct va_value *v = va_struct();
	va_list ap;

	va_start(ap, name);
	for (; v && name; name = va_arg(ap, const char *)) {
		if (va_set(v, name, va_string(va_arg(ap, const char *))) < 0) {
			va_value_free(v);
			v = NULL;
		}
	}
	va_end(ap);
	return v;
}
