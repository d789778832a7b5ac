/*
 * agent_ipc.h - messages between the three processes of va-agent
 *
 * One message is one packet of a SOCK_SEQPACKET pair: a byte of version, a byte
 * of type, then the body (little-endian, see each pack function), with up to
 * IPC_FDS_MAX descriptors riding along.  The processes are one binary, so the
 * version only catches a binary that was exchanged under a running agent.
 *
 *	endpoint -> server	PING, STREAM (+1 fd), SPAWNER (+1 fd), RELOAD, LOG,
 *				STOPPING, ENDED, SESSION
 *	server -> endpoint	PONG, TAKEN, BUSY, STOPPED
 *	endpoint -> spawner	PING, SERVER (+1 fd)
 *	spawner -> endpoint	PONG
 *	server -> spawner	START (+0..3 fds), KILL (agent_spawn.h)
 *	spawner -> server	STARTED, FAILED, EXITED
 *
 * Sending never blocks: a full queue is -EAGAIN and the sender's problem.  A
 * message that is too long, too short or of another version is dropped with
 * its descriptors and reported as -EBADMSG; the pair goes on working.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_IPC_H
#define VA_AGENT_IPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/sock.h"

#define IPC_VERSION 1u
#define IPC_FDS_MAX 3u
/* Bytes of a message: arguments and environment of a program are the longest
 * thing sent, and a pair's queue must hold one on kernels that allow 110 KB. */
#define IPC_MAX (96u << 10)

enum ipc_type {
	IPC_PING = 1,	/* u64 number */
	IPC_PONG = 2,	/* u64 the same number; server: u8 it waits for programs */
	IPC_STREAM = 3, /* struct ipc_stream */
	IPC_TAKEN = 4,	/* u32 ticket: the server serves that stream now */
	IPC_SPAWNER = 5,
	IPC_SERVER = 6,
	IPC_RELOAD = 7,
	IPC_LOG = 8, /* u8 level, text */
	IPC_STOPPING = 9, /* u32 pid who wants it, text why (agent_farewell.h) */
	IPC_STOPPED = 10, /* text: why, as the host is to be told */
	IPC_ENDED = 11,	  /* a process of the agent (agent_end.h) */
	IPC_BUSY = 12, /* the server begins to wait for a program */
	IPC_SESSION = 13, /* u8 there is a session with the host */
	IPC_START = 16,
	IPC_KILL = 17,
	IPC_STARTED = 18,
	IPC_FAILED = 19,
	IPC_EXITED = 20,
};

struct ipc_msg {
	uint8_t type;
	struct buf body;
	int fds[IPC_FDS_MAX];
	size_t nfds;
};

#define IPC_MSG_INIT                                                           \
	((struct ipc_msg){ .body = BUF_INIT(IPC_MAX), .fds = { -1, -1, -1 } })

/* Frees the body and closes the descriptors still in fds[] (take_fd() those
 * that are kept). */
void ipc_msg_done(struct ipc_msg *m);
#define CLEANUP_IPC_MSG CLEANUP(ipc_msg_done)

/* A pair with room for one longest message; close-on-exec, non-blocking. */
int ipc_pair(int fds[2]);
/* body may be NULL.  0, -EAGAIN (queue full), -EMSGSIZE, -EPIPE, ... */
int ipc_send(int fd, enum ipc_type type, const struct buf *body,
	     const int *fds, size_t nfds);
int ipc_send_u64(int fd, enum ipc_type type, uint64_t value);
/* 1 = a message is in m (to be released), 0 = the other side is gone,
 * -EAGAIN = none now, -EBADMSG = one was dropped. */
int ipc_recv(int fd, struct ipc_msg *m);

/* A connection for the server. */
struct ipc_stream {
	uint32_t ticket; /* for IPC_TAKEN */
	uint32_t stream; /* virtproxy's number; 0 = a local connection */
	struct peer_cred cred;
	bool remote;
};

int ipc_put_stream(struct buf *b, const struct ipc_stream *s);
int ipc_get_stream(struct buf *b, struct ipc_stream *s);

#endif
