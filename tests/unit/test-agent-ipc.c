/*
 * test-agent-ipc.c - messages between va-agent's processes are bounded and
 * checked, and descriptors never leak
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tests/lib/unit.h"
#include "virtagent/agent_ipc.h"
#include "virtagent/agent_spawn_wire.h"

TEST(a_message_arrives_with_its_descriptors)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	CLEANUP_IPC_MSG struct ipc_msg m = IPC_MSG_INIT;
	struct ipc_stream in = { 7, 9, { 1000, 100, 4242 }, true }, out;
	int pair[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct stat a, c;

	CHECK_INT(ipc_pair(pair), 0);
	CHECK_INT(ipc_recv(pair[1], &m), -EAGAIN);
	CHECK_INT(ipc_put_stream(&b, &in), 0);
	CHECK_INT(ipc_send(pair[0], IPC_STREAM, &b, &null, 1), 0);
	CHECK_INT(ipc_recv(pair[1], &m), 1);
	CHECK_INT(m.type, IPC_STREAM);
	CHECK_INT(m.nfds, 1);
	CHECK_INT(fstat(m.fds[0], &a), 0);
	CHECK_INT(fstat(null, &c), 0);
	CHECK(a.st_rdev == c.st_rdev);
	CHECK(fcntl(m.fds[0], F_GETFD) & FD_CLOEXEC);
	CHECK_INT(ipc_get_stream(&m.body, &out), 0);
	CHECK_INT(out.ticket, 7);
	CHECK_INT(out.stream, 9);
	CHECK_INT(out.cred.uid, 1000);
	CHECK_INT(out.cred.gid, 100);
	CHECK_INT(out.cred.pid, 4242);
	CHECK(out.remote);
	close(null);
	close(pair[0]);
	ipc_msg_done(&m);
	CHECK_INT(ipc_recv(pair[1], &m), 0);
	close(pair[1]);
}

TEST(every_shorter_stream_message_is_refused)
{
	CLEANUP_BUF struct buf whole = BUF_INIT(64);
	struct ipc_stream s = { 1, 2, { 3, 4, 5 }, false };

	CHECK_INT(ipc_put_stream(&whole, &s), 0);
	for (size_t n = 0; n < buf_len(&whole); n++) {
		CLEANUP_BUF struct buf part = BUF_INIT(64);

		CHECK_INT(buf_put(&part, buf_data(&whole), n), 0);
		CHECK_INT(ipc_get_stream(&part, &s), -EBADMSG);
	}
	CHECK_INT(buf_put_u8(&whole, 0), 0);
	CHECK_INT(ipc_get_stream(&whole, &s), -EBADMSG);
}

TEST(too_long_and_foreign_messages_are_dropped)
{
	static uint8_t junk[IPC_MAX + 100];
	CLEANUP_IPC_MSG struct ipc_msg m = IPC_MSG_INIT;
	CLEANUP_BUF struct buf big = BUF_INIT(sizeof(junk));
	int pair[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	CHECK_INT(ipc_pair(pair), 0);
	CHECK_INT(buf_put(&big, junk, IPC_MAX), 0);
	CHECK_INT(ipc_send(pair[0], IPC_LOG, &big, NULL, 0), -EMSGSIZE);
	CHECK_INT(buf_truncate(&big, IPC_MAX - 2), 0);
	CHECK_INT(ipc_send(pair[0], IPC_LOG, &big, NULL, 0), 0);
	CHECK_INT(ipc_recv(pair[1], &m), 1);
	CHECK_INT(buf_len(&m.body), IPC_MAX - 2);
	ipc_msg_done(&m);

	junk[0] = IPC_VERSION;
	CHECK_INT(sock_send_fds(pair[0], junk, sizeof(junk), &null, 1), 0);
	CHECK_INT(ipc_recv(pair[1], &m), -EBADMSG);
	junk[0] = IPC_VERSION + 1;
	CHECK_INT(sock_send_fds(pair[0], junk, 10, &null, 1), 0);
	CHECK_INT(ipc_recv(pair[1], &m), -EBADMSG);
	CHECK_INT(sock_send_fds(pair[0], junk, 1, &null, 1), 0);
	CHECK_INT(ipc_recv(pair[1], &m), -EBADMSG);
	/* ... and the pair goes on working. */
	CHECK_INT(ipc_send_u64(pair[0], IPC_PING, 5), 0);
	CHECK_INT(ipc_recv(pair[1], &m), 1);
	CHECK_INT(m.type, IPC_PING);
	close(null);
	close(pair[0]);
	close(pair[1]);
}

TEST(a_full_queue_never_blocks)
{
	int pair[2], r = 0;

	CHECK_INT(ipc_pair(pair), 0);
	for (int i = 0; i < 1000000 && r == 0; i++)
		r = ipc_send_u64(pair[0], IPC_PING, 1);
	CHECK_INT(r, -EAGAIN);
	close(pair[0]);
	close(pair[1]);
}

static void put_start(struct buf *b)
{
	static const char *const argv[] = { "prog", "", "a b", NULL };
	static const char *const env[] = { "A=1", "B=", NULL };
	static const gid_t groups[] = { 5, 6 };
	struct spawn_request rq = {
		.argv = argv, .env = env, .cwd = "/tmp", .fds = { 0, -1, 1 },
		.flags = SPAWN_IDS, .uid = 10, .gid = 20, .groups = groups,
		.ngroups = 2, .timeout_ns = 99,
	};

	CHECK_INT(spawn_put_start(b, 3, &rq), 0);
}

TEST(a_start_request_survives_packing)
{
	CLEANUP_BUF struct buf b = BUF_INIT(IPC_MAX);
	CLEANUP(spawn_start_free_p) struct spawn_start *s = NULL;

	put_start(&b);
	CHECK_INT(spawn_get_start(&b, &s), 0);
	CHECK_INT(s->job, 3);
	CHECK_INT(s->fd_mask, 5);
	CHECK_STR(s->rq.argv[0], "prog");
	CHECK_STR(s->rq.argv[1], "");
	CHECK_STR(s->rq.argv[2], "a b");
	CHECK(!s->rq.argv[3]);
	CHECK_STR(s->rq.env[0], "A=1");
	CHECK_STR(s->rq.env[1], "B=");
	CHECK(!s->rq.env[2]);
	CHECK_STR(s->rq.cwd, "/tmp");
	CHECK_INT(s->rq.ngroups, 2);
	CHECK_INT(s->rq.groups[1], 6);
	CHECK_INT(s->rq.timeout_ns, 99);
}

TEST(a_cut_start_request_is_refused_at_every_byte)
{
	CLEANUP_BUF struct buf whole = BUF_INIT(IPC_MAX);

	put_start(&whole);
	for (size_t n = 0; n < buf_len(&whole); n++) {
		CLEANUP_BUF struct buf part = BUF_INIT(IPC_MAX);
		struct spawn_start *s = NULL;

		CHECK_INT(buf_put(&part, buf_data(&whole), n), 0);
		CHECK_INT(spawn_get_start(&part, &s), -EBADMSG);
	}
}

TEST(hostile_counts_allocate_nothing_big)
{
	CLEANUP_BUF struct buf b = BUF_INIT(IPC_MAX);
	struct spawn_start *s = NULL;

	put_start(&b);
	/* The first string's length (cwd) lies behind the fixed part. */
	for (size_t at = 0; at + 4 <= buf_len(&b); at++) {
		CLEANUP_BUF struct buf bad = BUF_INIT(IPC_MAX);
		int r;

		CHECK_INT(buf_put(&bad, buf_data(&b), buf_len(&b)), 0);
		memset(bad.mem + bad.off + at, 0xff, 4);
		r = spawn_get_start(&bad, &s);
		CHECK(r == 0 || r == -EBADMSG);
		if (r == 0)
			spawn_start_free(s);
	}
}

TEST(an_over_long_argv_is_refused_by_name)
{
	static char big[IPC_MAX];
	const char *argv[] = { "prog", big, NULL };
	struct spawn_request rq = { .argv = argv, .fds = { -1, -1, -1 } };
	CLEANUP_BUF struct buf b = BUF_INIT(IPC_MAX);

	memset(big, 'x', sizeof(big) - 1);
	CHECK_INT(spawn_put_start(&b, 1, &rq), -E2BIG);
	argv[0] = NULL;
	CHECK_INT(spawn_put_start(&b, 1, &rq), -EINVAL);
}

UNIT_MAIN(CASE(a_message_arrives_with_its_descriptors),
	  CASE(every_shorter_stream_message_is_refused),
	  CASE(too_long_and_foreign_messages_are_dropped),
	  CASE(a_full_queue_never_blocks),
	  CASE(a_start_request_survives_packing),
	  CASE(a_cut_start_request_is_refused_at_every_byte),
	  CASE(hostile_counts_allocate_nothing_big),
	  CASE(an_over_long_argv_is_refused_by_name))
