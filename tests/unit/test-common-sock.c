/*
 * test-common-sock.c - sockets are private, named, and passed on whole
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/sock.h"
#include "tests/lib/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"

static char *in_tmp(const char *name)
{
	return str_printf("%s/%s", unit_tmpdir(), name);
}

TEST(a_listener_is_private_and_replaces_a_stale_one)
{
	CLEANUP_FREE char *path = in_tmp("long-enough.sock");
	CLEANUP_CLOSE int again = -1;
	struct stat st;
	int fd = sock_unix_listen(path, (gid_t)-1);

	CHECK(fd >= 0);
	CHECK_INT(stat(path, &st), 0);
	CHECK_INT(st.st_mode & 07777, 0600);
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK_INT(sock_unix_listen(path, (gid_t)-1), -EADDRINUSE);
	close(fd);
	again = sock_unix_listen(path, getgid());
	CHECK(again >= 0);
	CHECK_INT(stat(path, &st), 0);
	CHECK_INT(st.st_mode & 07777, 0660);
	CHECK_INT(rmdir(unit_tmpdir()), -1); /* no temporary directory is left */
	CHECK_INT(unlink(path), 0);
	CHECK_INT(rmdir(unit_tmpdir()), 0);
	CHECK_INT(mkdir(unit_tmpdir(), 0700), 0);
}

TEST(a_file_is_not_taken_for_a_socket)
{
	CLEANUP_FREE char *path = in_tmp("plain");
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	close(fd);
	CHECK_INT(sock_unix_listen(path, (gid_t)-1), -EEXIST);
	CHECK_INT(access(path, F_OK), 0);
}

TEST(a_path_too_long_is_named_as_such)
{
	char path[200];

	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[108] = 0;
	CHECK_INT(sock_unix_connect(path), -ENAMETOOLONG);
	CHECK_INT(sock_unix_listen(path, (gid_t)-1), -ENAMETOOLONG);
	CHECK_INT(sock_unix_connect(""), -EINVAL);
}

TEST(the_acceptor_sees_name_and_credentials)
{
	CLEANUP_FREE char *path = in_tmp("named.sock");
	CLEANUP_CLOSE int l = sock_unix_listen(path, (gid_t)-1);
	CLEANUP_CLOSE int c = -1, a = -1, plain = -1, b = -1;
	CLEANUP_FREE char *name = str_printf("va-test/%d", (int)getpid());
	struct peer_cred cred;
	char got[64], small[4];

	c = sock_unix_connect_as(path, name);
	CHECK(c >= 0);
	a = sock_accept(l);
	CHECK(a >= 0);
	CHECK_INT(sock_peer_name(a, got, sizeof(got)), 0);
	CHECK_STR(got, name);
	CHECK_INT(sock_peer_name(a, small, sizeof(small)), -ENAMETOOLONG);
	CHECK_INT(sock_peer_cred(a, &cred), 0);
	CHECK_INT(cred.pid, getpid());
	CHECK_INT(cred.uid, geteuid());
	CHECK_INT(sock_unix_connect_as(path, name), -EADDRINUSE);
	plain = sock_unix_connect(path);
	b = sock_accept(l);
	CHECK_INT(sock_peer_name(b, got, sizeof(got)), -ENOENT);
	CHECK_INT(sock_accept(l), -EAGAIN);
}

TEST(tcp_connects_to_what_listens)
{
	CLEANUP_CLOSE int l = sock_tcp_listen("127.0.0.1", "0"), c = -1, a = -1;
	union {
		struct sockaddr sa;
		struct sockaddr_storage ss;
		unsigned char raw[16];
	} addr;
	socklen_t len = sizeof(addr);
	struct peer_cred cred;
	char port[8], name[64];

	CHECK(l >= 0);
	CHECK_INT(getsockname(l, &addr.sa, &len), 0);
	snprintf(port, sizeof(port), "%d", addr.raw[2] << 8 | addr.raw[3]);
	c = sock_tcp_connect("127.0.0.1", port);
	CHECK(c >= 0);
	CHECK_INT(poll(&(struct pollfd){ c, POLLOUT, 0 }, 1, 5000), 1);
	CHECK_INT(sock_error(c), 0);
	a = sock_accept(l);
	CHECK(a >= 0);
	CHECK(sock_peer_cred(a, &cred) < 0);
	CHECK(cred.uid == (uid_t)-1);
	CHECK(sock_tcp_connect("127.0.0.1", "no-such-service") < 0);
	CHECK_INT(sock_tcp_resolve("127.0.0.1", "80", name, sizeof(name)), 0);
	CHECK_STR(name, "127.0.0.1");
	CHECK_INT(sock_tcp_resolve("", "80", name, sizeof(name)), 0);
	CHECK_STR(name, "");
	CHECK(sock_tcp_resolve("::1", "80", name, 3) < 0);
}

TEST(descriptors_travel_and_surplus_ones_are_closed)
{
	int fds[2], pipes[2], got[1] = { -1 };
	CLEANUP_CLOSE int received = -1;
	size_t n = 1;
	char msg[16] = "";

	CHECK_INT(sock_pair(SOCK_SEQPACKET, fds), 0);
	CHECK_INT(pipe(pipes), 0);
	CHECK_INT(sock_send_fds(fds[0], "hello", 5, pipes, 2), 0);
	CHECK_INT(sock_recv_fds(fds[1], msg, sizeof(msg), got, &n), 5);
	CHECK_STR(msg, "hello");
	CHECK_INT(n, 1);
	received = got[0];
	CHECK(fcntl(received, F_GETFD) & FD_CLOEXEC);
	close(pipes[0]);
	close(pipes[1]);
	CHECK_INT(sock_recv_fds(fds[1], msg, sizeof(msg), NULL, NULL), -EAGAIN);
	close(fds[0]);
	n = 1;
	CHECK_INT(sock_recv_fds(fds[1], msg, sizeof(msg), got, &n), 0);
	CHECK_INT(n, 0);
	close(fds[1]);
	CHECK_INT(sock_send_fds(0, "x", 1, pipes, 5), -EINVAL);
}

TEST(unsent_bytes_are_counted)
{
	int fds[2];
	char byte[100];

	CHECK_INT(sock_pair(SOCK_STREAM, fds), 0);
	CHECK_INT(fd_unsent(fds[0]), 0);
	CHECK_INT(write(fds[0], "abc", 3), 3);
	CHECK(fd_unsent(fds[0]) > 0);
	CHECK_INT(read(fds[1], byte, sizeof(byte)), 3);
	CHECK_INT(fd_unsent(fds[0]), 0);
	close(fds[0]);
	close(fds[1]);
	CHECK_INT(fd_unsent(-1), -EBADF);
}

TEST(only_a_name_of_virtproxys_form_tells_a_stream)
{
	static const struct {
		const char *first, *rest;
		int want;
	} table[] = {
		{ "virtproxy", "7/1000/1001/42", 0 },
		{ "virtproxy", "7/1000/1001", -EINVAL },
		{ "virtproxy", "7/1000/1001/42x", -EINVAL },
		{ "another", "7/1000/1001/42", -EINVAL },
	};
	CLEANUP_FREE char *path = in_tmp("streams.sock");
	CLEANUP_CLOSE int listener = sock_unix_listen(path, (gid_t)-1);
	struct peer_stream peer;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		CLEANUP_FREE char *name = str_printf("%s/%d/%s", table[i].first,
						     (int)getpid(), table[i].rest);
		CLEANUP_CLOSE int from = sock_unix_connect_as(path, name);
		CLEANUP_CLOSE int to = sock_accept(listener);

		CHECK(from >= 0 && to >= 0);
		CHECK_INT(sock_peer_stream(to, &peer), table[i].want);
		if (table[i].want == 0) {
			CHECK_INT(peer.stream, 7);
			CHECK_INT(peer.cred.uid, 1000);
			CHECK_INT(peer.cred.gid, 1001);
			CHECK_INT(peer.cred.pid, 42);
		}
	}
}

TEST(hosts_and_ports_are_told_apart)
{
	static const struct {
		const char *text, *host, *port; /* host NULL = refused */
	} table[] = {
		{ "80", "", "80" },
		{ "web:80", "web", "80" },
		{ "[::1]:80", "::1", "80" },
		{ "::1:80", NULL, NULL },
		{ "[::1:80", NULL, NULL },
		{ "web:", NULL, NULL },
		{ "", NULL, NULL },
		{ "a-name-that-is-too-long:1", NULL, NULL },
	};
	char host[16], addr[64];
	const char *port;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int r = sock_host_port(table[i].text, host, sizeof(host), &port);

		CHECK_INT(r, table[i].host ? 0 : -EINVAL);
		if (r == 0) {
			CHECK_STR(host, table[i].host);
			CHECK_STR(port, table[i].port);
		}
	}
	CHECK_INT(sock_tcp_numeric("10.1.2.3", addr, sizeof(addr)), 0);
	CHECK_STR(addr, "10.1.2.3");
	CHECK_INT(sock_tcp_numeric("localhost", addr, sizeof(addr)), 0);
	CHECK(!strcmp(addr, "127.0.0.1") || !strcmp(addr, "::1"));
	CHECK_INT(sock_tcp_numeric("no-such-host.invalid", addr, sizeof(addr)), -ENOENT);
	/* Forms that inet_aton() would take are no addresses here. */
	CHECK_INT(sock_tcp_numeric("0x7f.1", addr, sizeof(addr)), -ENOENT);
	CHECK_INT(sock_tcp_numeric("10.1.2.3", addr, 4), -ENAMETOOLONG);
}

UNIT_MAIN(CASE(a_listener_is_private_and_replaces_a_stale_one),
	  CASE(a_file_is_not_taken_for_a_socket),
	  CASE(a_path_too_long_is_named_as_such),
	  CASE(the_acceptor_sees_name_and_credentials),
	  CASE(tcp_connects_to_what_listens),
	  CASE(descriptors_travel_and_surplus_ones_are_closed),
	  CASE(unsent_bytes_are_counted),
	  CASE(only_a_name_of_virtproxys_form_tells_a_stream),
	  CASE(hosts_and_ports_are_told_apart))
