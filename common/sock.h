/*
 * sock.h - sockets: make, name, pass on
 *
 * Every descriptor made here is close-on-exec and non-blocking.  One that was
 * received is close-on-exec only: O_NONBLOCK belongs to the open file, which the
 * sender still shares.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_SOCK_H
#define VA_COMMON_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Who is at the other end of a local socket; -1 where unknown. */
struct peer_cred {
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

#define PEER_CRED_UNKNOWN                                                      \
	((struct peer_cred){ (uid_t)-1, (gid_t)-1, (pid_t)-1 })

#define SOCK_BACKLOG 128 /* of every listener */

int sock_peer_cred(int fd, struct peer_cred *ret);

/*
 * Listens at a path, mode 0600 (0660 with a gid other than (gid_t)-1).  A stale
 * socket (nobody listens) is replaced; a live one gives -EADDRINUSE; something
 * else than a socket -EEXIST.  The socket is made under a temporary name and
 * renamed, so that it never exists with a wider mode.  Returns the fd.
 */
int sock_unix_listen(const char *path, gid_t gid);
/* The same, mode 0600, but bound to the path itself: for a socket that another
 * program is given, which may ask for its address and remove it. */
int sock_unix_listen_named(const char *path);
/* type: SOCK_STREAM or SOCK_SEQPACKET. */
int sock_unix_listen_type(const char *path, gid_t gid, int type);
/*
 * Starts to connect.  Returns the fd; unix sockets are connected on return, or
 * fail at once (-EAGAIN: the listener's queue is full).  -ENAMETOOLONG for a
 * path over 107 bytes.
 */
int sock_unix_connect(const char *path);
int sock_unix_connect_type(const char *path, int type);
/*
 * The same, with the connecting end bound to the abstract address NAME (no
 * leading NUL given; unique), which sock_peer_name() shows to the acceptor.
 */
int sock_unix_connect_as(const char *path, const char *name);
/* The abstract name the peer is bound to; -ENOENT without one. */
int sock_peer_name(int fd, char *name, size_t size);

/* The stream and the caller behind a connection of virtproxy's, from the name that
 * its end is bound to (virtproxy.h).  -EPERM: the peer is neither root nor this
 * user, so its name proves nothing; -ENOENT, -EINVAL: it is no such connection. */
struct peer_stream {
	uint32_t stream;
	struct peer_cred cred;
};

int sock_peer_stream(int fd, struct peer_stream *ret);

/* For a process that will be confined: it may still connect there (seal.h).
 * 0 or a negative errno. */
int sock_unix_seal(const char *path);
int sock_tcp_seal(const char *host, const char *port);

/* host may be "", an address or a name (numeric or /etc/hosts); port a number
 * or service name.  Connect returns with EINPROGRESS under way: wait for
 * writable, then sock_error(). */
int sock_tcp_listen(const char *host, const char *port);
int sock_tcp_connect(const char *host, const char *port);
/* The first address of a host and port, as a number; looks names up, which may
 * block.  addr may be host itself. */
int sock_tcp_resolve(const char *host, const char *port, char *addr, size_t size);
/* The numeric address of a host: an address, a name in /etc/hosts, or
 * "localhost"; asks no name server.  -ENOENT: no such name. */
int sock_tcp_numeric(const char *host, char *addr, size_t size);
/* "HOST:PORT", "[ADDR6]:PORT" or "PORT" (host "" then); port points into text.
 * -EINVAL for any other form. */
int sock_host_port(const char *text, char *host, size_t size, const char **port);
/* SO_ERROR, as 0 or a negative errno. */
int sock_error(int fd);

/* Accepts; the fd, -EAGAIN, or another negative errno. */
int sock_accept(int listen_fd);

int sock_pair(int type, int fds[2]);

/* Lets about that many bytes stand in fd's send buffer: as root whatever is
 * asked for, else up to the system's limit.  More bytes at a time are fewer
 * changes between the process that writes and the one that reads. */
void sock_set_room(int fd, size_t bytes);

/*
 * One message with up to 4 descriptors.  Send: 0 or a negative errno, fds stay
 * the caller's.  Receive: the length (0 at the end), or a negative errno; *nfds
 * in: room, out: how many came (surplus ones are closed).
 */
int sock_send_fds(int fd, const void *msg, size_t len, const int *fds,
		  size_t nfds);
ssize_t sock_recv_fds(int fd, void *msg, size_t size, int *fds, size_t *nfds);

int fd_set_nonblock(int fd, bool on);
int fd_set_cloexec(int fd, bool on);
/* Bytes written to fd that the peer has not taken yet (SIOCOUTQ/TIOCOUTQ), or
 * a negative errno. */
ssize_t fd_unsent(int fd);

#endif
