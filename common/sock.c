/*
 * sock.c - see sock.h
 *
 * A listening unix socket is made in a private directory beside its final
 * place and renamed there: bind() creates the name with the process's umask,
 * and a chmod() afterwards would leave a moment in which anybody may connect.
 * Whether an existing socket is stale is asked with connect(): only a refused
 * connection is proof that nobody listens.
 *
 * Limit: the temporary name adds 9 bytes to the directory's, so a path whose
 * last part is shorter than that must leave the difference of its 107 bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/seal.h"
#include "common/str.h"

#define SOCK_FDS_MAX 4

int sock_peer_cred(int fd, struct peer_cred *ret)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	*ret = PEER_CRED_UNKNOWN;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	if (len != sizeof(cred) || cred.pid == 0)
		return -ENODATA;
	ret->uid = cred.uid;
	ret->gid = cred.gid;
	ret->pid = cred.pid;
	return 0;
}

static int unix_address(struct sockaddr_un *sun, const char *path)
{
	size_t n = strlen(path);

	if (n == 0)
		return -EINVAL;
	if (n >= sizeof(sun->sun_path))
		return -ENAMETOOLONG;
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	memcpy(sun->sun_path, path, n + 1);
	return 0;
}

static int unix_socket(int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* May the name be taken over?  0, -EADDRINUSE or -EEXIST. */
static int check_stale(const char *path, int type)
{
	CLEANUP_CLOSE int fd = -1;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = sock_unix_connect_type(path, type);
	if (fd == -ECONNREFUSED || fd == -ENOENT)
		return 0;
	/* Connected, queue full, not ours to ask, another type: it lives. */
	return -EADDRINUSE;
}

/* Binds fd to tmp with its final mode, then renames it to path. */
static int bind_and_rename(int fd, const char *tmp, const char *path, gid_t gid)
{
	struct sockaddr_un sun;
	int r = unix_address(&sun, tmp);

	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return -errno;
	if ((gid != (gid_t)-1 && lchown(tmp, (uid_t)-1, gid) < 0) ||
	    chmod(tmp, gid == (gid_t)-1 ? 0600 : 0660) < 0 ||
	    listen(fd, SOCK_BACKLOG) < 0 || rename(tmp, path) < 0) {
		r = -errno;
		unlink(tmp);
		return r;
	}
	return 0;
}

int sock_unix_listen_type(const char *path, gid_t gid, int type)
{
	CLEANUP_FREE char *dir = NULL, *tmp = NULL;
	CLEANUP_CLOSE int fd = -1;
	const char *slash = strrchr(path, '/');
	struct sockaddr_un sun;
	int r = unix_address(&sun, path);

	if (r == 0)
		r = check_stale(path, type);
	if (r < 0)
		return r;
	dir = str_printf("%.*s.XXXXXX", slash ? (int)(slash - path) + 1 : 0, path);
	if (!dir)
		return -ENOMEM;
	if (!mkdtemp(dir))
		return -errno;
	tmp = str_printf("%s/s", dir);
	fd = tmp ? unix_socket(type) : -ENOMEM;
	r = fd < 0 ? fd : bind_and_rename(fd, tmp, path, gid);
	rmdir(dir);
	return r < 0 ? r : take_fd(fd);
}

int sock_unix_listen(const char *path, gid_t gid)
{
	return sock_unix_listen_type(path, gid, SOCK_STREAM);
}

int sock_unix_listen_named(const char *path)
{
	CLEANUP_CLOSE int fd = -1;
	struct sockaddr_un sun;
	int r = unix_address(&sun, path);

	if (r == 0)
		r = check_stale(path, SOCK_STREAM);
	if (r < 0)
		return r;
	fd = unix_socket(SOCK_STREAM);
	if (fd < 0)
		return fd;
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	/* Linux makes the file with the mode of the descriptor's own inode. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    listen(fd, SOCK_BACKLOG) < 0)
		return -errno;
	return take_fd(fd);
}

static int connect_fd(int fd, const char *path)
{
	struct sockaddr_un sun;
	int r = unix_address(&sun, path);

	if (r < 0)
		return r;
	return connect(fd, seal_data(&sun, sizeof(sun)), sizeof(sun)) < 0 ? -errno : 0;
}

int sock_unix_connect_type(const char *path, int type)
{
	CLEANUP_CLOSE int fd = unix_socket(type);
	int r = fd < 0 ? fd : connect_fd(fd, path);

	return r < 0 ? r : take_fd(fd);
}

int sock_unix_connect(const char *path)
{
	return sock_unix_connect_type(path, SOCK_STREAM);
}

int sock_unix_connect_as(const char *path, const char *name)
{
	CLEANUP_CLOSE int fd = unix_socket(SOCK_STREAM);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t n = strlen(name);
	int r;

	if (fd < 0)
		return fd;
	if (n == 0 || n >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path + 1, name, n);
	if (bind(fd, (struct sockaddr *)&sun,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)) < 0)
		return -errno;
	r = connect_fd(fd, path);
	return r < 0 ? r : take_fd(fd);
}

int sock_peer_name(int fd, char *name, size_t size)
{
	struct sockaddr_un sun;
	socklen_t len = sizeof(sun);
	size_t n;

	if (getpeername(fd, (struct sockaddr *)&sun, &len) < 0)
		return -errno;
	if (sun.sun_family != AF_UNIX ||
	    len <= offsetof(struct sockaddr_un, sun_path) + 1 || sun.sun_path[0])
		return -ENOENT;
	n = len - offsetof(struct sockaddr_un, sun_path) - 1;
	if (n >= size)
		return -ENAMETOOLONG;
	memcpy(name, sun.sun_path + 1, n);
	name[n] = 0;
	return 0;
}

int sock_peer_stream(int fd, struct peer_stream *ret)
{
	unsigned proxy, stream, uid, gid, pid;
	struct peer_cred cred;
	char name[108], end;
	int r = sock_peer_cred(fd, &cred);

	if (r < 0)
		return r;
	/* Anybody may bind such a name. */
	if (cred.uid != 0 && cred.uid != geteuid())
		return -EPERM;
	r = sock_peer_name(fd, name, sizeof(name));
	if (r < 0)
		return r;
	if (sscanf(name, "virtproxy/%u/%u/%u/%u/%u%c", &proxy, &stream, &uid, &gid,
		   &pid, &end) != 5)
		return -EINVAL;
	ret->stream = stream;
	ret->cred = (struct peer_cred){ uid, gid, (pid_t)pid };
	return 0;
}

int sock_unix_seal(const char *path)
{
	struct sockaddr_un sun;
	int r = unix_address(&sun, path);

	return r < 0 ? r : seal_add(SEAL_CONNECT, &sun, sizeof(sun));
}

int sock_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return -errno;
	return -err;
}

int sock_accept(int listen_fd)
{
	int fd;

	do
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	return fd < 0 ? -errno : fd;
}

int sock_pair(int type, int fds[2])
{
	return socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0 ?
		       -errno : 0;
}

void sock_set_room(int fd, size_t bytes)
{
	int size = (int)bytes;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

union fd_control {
	char raw[CMSG_SPACE(sizeof(int) * SOCK_FDS_MAX)];
	struct cmsghdr align;
};

int sock_send_fds(int fd, const void *msg, size_t len, const int *fds,
		  size_t nfds)
{
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	union fd_control control;
	struct cmsghdr *c;
	ssize_t n;

	if (nfds > SOCK_FDS_MAX)
		return -EINVAL;
	if (nfds) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = control.raw;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	do
		n = sendmsg(fd, &mh, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EMSGSIZE;
}

/* Takes the descriptors of one control message; what there is no room for is
 * closed. */
static void take_fds(struct cmsghdr *c, int *fds, size_t room, size_t *got)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
		if (*got < room)
			fds[(*got)++] = fd;
		else
			close(fd);
	}
}

ssize_t sock_recv_fds(int fd, void *msg, size_t size, int *fds, size_t *nfds)
{
	struct iovec iov = { .iov_base = msg, .iov_len = size };
	union fd_control control;
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
			     .msg_control = control.raw,
			     .msg_controllen = sizeof(control.raw) };
	size_t room = nfds ? *nfds : 0, got = 0;
	ssize_t n;

	if (nfds)
		*nfds = 0;
	do
		n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			take_fds(c, fds, room, &got);
	if (nfds)
		*nfds = got;
	return n;
}

int fd_set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int fd_set_cloexec(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFD);

	if (flags < 0)
		return -errno;
	flags = on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC;
	return fcntl(fd, F_SETFD, flags) < 0 ? -errno : 0;
}

ssize_t fd_unsent(int fd)
{
	int n = 0;

	/* SIOCOUTQ and TIOCOUTQ are one number. */
	if (ioctl(fd, TIOCOUTQ, &n) < 0)
		return -errno;
	return n;
}
