/*
 * ctl.c - see ctl.h
 *
 * The socket is local and virtproxy answers from its event loop, so an answer
 * comes within milliseconds; a deadline guards against a stopped process.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/sock.h"
#include "common/str.h"
#include "virtagent/client/member.h"

#define CTL_ANSWER_MAX (256u << 10)

int wait_readable(int fd, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = clock_now();
	int ms, n;

	if (deadline_ns == CLOCK_NEVER)
		ms = -1;
	else if (deadline_ns <= now)
		return -ETIMEDOUT;
	else
		ms = (int)((deadline_ns - now) / NSEC_PER_MSEC) + 1;
	n = poll(&p, 1, ms);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return n ? 0 : -ETIMEDOUT;
}

/* The length of the answer in b once its empty line has come, or -EAGAIN. */
static ssize_t answer_length(const struct buf *b)
{
	const uint8_t *p = buf_data(b);
	size_t n = buf_len(b);

	if (n && p[0] == '\n')
		return 0;
	for (size_t i = 1; i < n; i++)
		if (p[i] == '\n' && p[i - 1] == '\n')
			return (ssize_t)i;
	return -EAGAIN;
}

static int read_answer(int fd, uint64_t deadline_ns, struct buf *answer)
{
	ssize_t n;

	for (;;) {
		int error = wait_readable(fd, deadline_ns);

		if (error)
			return error;
		n = buf_read_fd(answer, fd, 16384);
		if (n == -EAGAIN || n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -ECONNRESET;
		n = answer_length(answer);
		if (n >= 0)
			return buf_truncate(answer, (size_t)n);
	}
}

int ctl_ask(const char *path, const char *command, uint64_t deadline_ns,
	    struct buf *answer)
{
	CLEANUP_FREE char *line = str_printf("%s\n", command);
	CLEANUP_CLOSE int fd = -1;
	size_t n;

	if (!line)
		return -ENOMEM;
	fd = sock_unix_connect(path);
	if (fd < 0)
		return fd;
	n = strlen(line);
	if (send(fd, line, n, MSG_NOSIGNAL) != (ssize_t)n)
		return errno ? -errno : -EIO;
	return read_answer(fd, deadline_ns, answer);
}

int ctl_session(const char *path, uint64_t deadline_ns, struct ctl_session *ret)
{
	CLEANUP_BUF struct buf answer = BUF_INIT(CTL_ANSWER_MAX);
	CLEANUP_VALUE struct va_value *v = NULL;
	const struct va_value *session;
	char err[128] = "";
	int error;

	error = ctl_ask(path, "status json", deadline_ns, &answer);
	if (error)
		return error;
	error = va_from_json((const char *)buf_data(&answer), buf_len(&answer),
			     &v, err, sizeof(err));
	if (error || va_typeof(v) != VA_STRUCT)
		return -EBADMSG;

	*ret = (struct ctl_session){ 0 };
	session = va_member(v, "session");
	if (!session || va_get_bool(session, &ret->up))
		ret->up = strcmp(member_text(v, "session"), "up") == 0;
	ret->refused = (uint64_t)(member_int(v, "refused-absent", 0) +
				  member_int(v, "refused-here", 0) +
				  member_int(v, "refused-there", 0));
	if (!ret->up && strcmp(member_text(v, "channel"), "up") != 0)
		snprintf(ret->why, sizeof(ret->why), "the channel is %s",
			 *member_text(v, "channel") ? member_text(v, "channel")
						: "not open");
	else if (!ret->up)
		snprintf(ret->why, sizeof(ret->why),
			 "no agent answers on the channel");
	ret->status = take_ptr(v);
	return 0;
}

/* Lines are "NUMBER SERVICE REASON..."; the newest stands last. */
int ctl_refused(const char *path, const char *service, uint64_t deadline_ns,
		char *reason, size_t size)
{
	CLEANUP_BUF struct buf answer = BUF_INIT(CTL_ANSWER_MAX);
	char *text, *save = NULL, *line;
	int error = ctl_ask(path, "refused", deadline_ns, &answer);
	int found = -ENOENT;

	if (error)
		return error;
	text = (char *)(uintptr_t)buf_cstr(&answer);
	if (!text)
		return -ENOMEM;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char name[64];
		unsigned long number;
		int used = 0;

		if (sscanf(line, "%lu %63s %n", &number, name, &used) < 2 ||
		    !used || strcmp(name, service) != 0)
			continue;
		snprintf(reason, size, "%s", line + used);
		found = 0;
	}
	return found;
}
