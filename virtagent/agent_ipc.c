/*
 * agent_ipc.c - see agent_ipc.h
 *
 * The length of the next packet is asked for with FIONREAD, which on a unix
 * SEQPACKET socket is the sum over the queue: an upper bound, good enough to
 * size the buffer (MSG_TRUNC tells the true length only from Linux 3.4 on).
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_ipc.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define IPC_HEAD 2u

void ipc_msg_done(struct ipc_msg *m)
{
	buf_done(&m->body);
	for (size_t i = 0; i < IPC_FDS_MAX; i++) {
		if (m->fds[i] >= 0)
			close(m->fds[i]);
		m->fds[i] = -1;
	}
	m->nfds = 0;
}

int ipc_pair(int fds[2])
{
	int r = sock_pair(SOCK_SEQPACKET, fds);

	/* A packet is charged with its bookkeeping: twice its size is safe. */
	for (int i = 0; r == 0 && i < 2; i++)
		sock_set_room(fds[i], 2 * IPC_MAX);
	return r;
}

int ipc_send(int fd, enum ipc_type type, const struct buf *body,
	     const int *fds, size_t nfds)
{
	CLEANUP_BUF struct buf out = BUF_INIT(IPC_MAX);
	int r;

	if (nfds > IPC_FDS_MAX)
		return -EINVAL;
	r = buf_put_u8(&out, IPC_VERSION);
	if (r == 0)
		r = buf_put_u8(&out, (uint8_t)type);
	if (r == 0 && body)
		r = buf_put(&out, buf_data(body), buf_len(body));
	if (r < 0)
		return r;
	return sock_send_fds(fd, buf_data(&out), buf_len(&out), fds, nfds);
}

int ipc_send_u64(int fd, enum ipc_type type, uint64_t value)
{
	CLEANUP_BUF struct buf b = BUF_INIT(8);
	int r = buf_put_u64(&b, value);

	return r < 0 ? r : ipc_send(fd, type, &b, NULL, 0);
}

static int ipc_check(struct ipc_msg *m)
{
	uint8_t version;

	if (buf_get_u8(&m->body, &version) < 0 || version != IPC_VERSION ||
	    buf_get_u8(&m->body, &m->type) < 0)
		return -EBADMSG;
	return 1;
}

int ipc_recv(int fd, struct ipc_msg *m)
{
	int pending = 0;
	size_t room;
	uint8_t *to;
	ssize_t n;
	int r;

	*m = IPC_MSG_INIT;
	if (ioctl(fd, FIONREAD, &pending) < 0)
		return -errno;
	/* One byte more than allowed, so that an over-long packet shows. */
	m->body.cap = IPC_MAX + 1;
	room = pending <= 0 ? IPC_HEAD : (size_t)pending;
	if (room > IPC_MAX + 1)
		room = IPC_MAX + 1;
	to = buf_reserve(&m->body, room);
	if (!to)
		return -errno;
	m->nfds = IPC_FDS_MAX;
	n = sock_recv_fds(fd, to, room, m->fds, &m->nfds);
	if (n <= 0) {
		m->nfds = 0;
		ipc_msg_done(m);
		return (int)n;
	}
	buf_commit(&m->body, (size_t)n);
	r = (size_t)n > IPC_MAX ? -EBADMSG : ipc_check(m);
	if (r < 0)
		ipc_msg_done(m);
	return r;
}

int ipc_put_stream(struct buf *b, const struct ipc_stream *s)
{
	int r = buf_put_u32(b, s->ticket);

	if (r == 0)
		r = buf_put_u32(b, s->stream);
	if (r == 0)
		r = buf_put_u32(b, (uint32_t)s->cred.uid);
	if (r == 0)
		r = buf_put_u32(b, (uint32_t)s->cred.gid);
	if (r == 0)
		r = buf_put_u32(b, (uint32_t)s->cred.pid);
	if (r == 0)
		r = buf_put_u8(b, s->remote);
	return r;
}

int ipc_get_stream(struct buf *b, struct ipc_stream *s)
{
	uint32_t uid, gid, pid;
	uint8_t remote;

	if (buf_get_u32(b, &s->ticket) < 0 || buf_get_u32(b, &s->stream) < 0 ||
	    buf_get_u32(b, &uid) < 0 || buf_get_u32(b, &gid) < 0 ||
	    buf_get_u32(b, &pid) < 0 || buf_get_u8(b, &remote) < 0 ||
	    remote > 1 || buf_len(b) != 0)
		return -EBADMSG;
	s->cred = (struct peer_cred){ uid, gid, (pid_t)pid };
	s->remote = remote;
	return 0;
}
