/*
 * exec_wire.c - see exec_wire.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/exec_wire.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

void exec_frame_head(uint8_t head[EXEC_HEAD], enum exec_frame type, size_t n)
{
	head[0] = (uint8_t)type;
	put_le32(head + 1, (uint32_t)n);
}

int exec_frame_put(struct buf *b, enum exec_frame type, const void *data, size_t n)
{
	uint8_t head[EXEC_HEAD];

	if (n > EXEC_FRAME_MAX || buf_room(b) < n + EXEC_HEAD)
		return -EMSGSIZE;
	exec_frame_head(head, type, n);
	if (buf_put(b, head, sizeof(head)) < 0)
		return -ENOMEM;
	return buf_put(b, data, n);
}

int exec_frame_peek(const struct buf *b, uint8_t *type, const uint8_t **data,
		    size_t *n)
{
	const uint8_t *head = buf_data(b);
	uint32_t len;

	if (buf_len(b) < EXEC_HEAD)
		return 0;
	len = get_le32(head + 1);
	if (len > EXEC_FRAME_MAX)
		return -EMSGSIZE;
	if (buf_len(b) < EXEC_HEAD + (size_t)len)
		return 0;
	*type = head[0];
	*data = head + EXEC_HEAD;
	*n = len;
	return 1;
}

void exec_frame_next(struct buf *b)
{
	uint8_t type;
	const uint8_t *data;
	size_t n;

	if (exec_frame_peek(b, &type, &data, &n) == 1)
		buf_consume(b, EXEC_HEAD + n);
}

int exec_send_all(int fd, const void *data, size_t n, int cancel_fd)
{
	const uint8_t *from = data;

	while (n > 0) {
		struct pollfd fds[2] = { { .fd = fd, .events = POLLOUT },
					 { .fd = cancel_fd, .events = POLLIN } };
		ssize_t w = send(fd, from, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (w >= 0) {
			from += w;
			n -= (size_t)w;
		} else if (errno != EAGAIN && errno != EINTR) {
			return -errno;
		} else if (poll(fds, 2, -1) > 0 && fds[1].revents) {
			return -ECANCELED;
		}
	}
	return 0;
}
