/*
 * test-host-store.c - the store keeps events, once, through trouble
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/str.h"
#include "tests/lib/unit.h"
#include "virtagent/host/store.h"

#define PATH_OF_DB CLEANUP_FREE char *path = str_printf("%s/db", unit_tmpdir())

/* One operation on the store's thread. */
struct op {
	struct store *s;
	struct store_event ev;
	bool must_last;
	int result;
	uint64_t since, last, count;
	int64_t before;
	unsigned limit;
	const char *guest;
	unsigned seen;
	uint64_t seqs[64];
	char names[64][16];
	char trouble[256];
};

static void run(struct op *op, loop_fn fn)
{
	CHECK_INT(loop_call(store_loop(op->s), fn, op, CLOCK_NEVER), 0);
}

static void do_add(void *arg)
{
	struct op *op = arg;

	op->result = store_event_add(op->s, &op->ev, op->must_last);
}

static int collect(void *arg, const struct store_event *ev)
{
	struct op *op = arg;

	op->seqs[op->seen] = ev->seq;
	snprintf(op->names[op->seen], sizeof(op->names[0]), "%s", ev->name);
	op->seen++;
	return 0;
}

static void do_read(void *arg)
{
	struct op *op = arg;

	op->seen = 0;
	op->result = store_event_read(op->s, op->since, op->guest, op->limit,
				      collect, op);
	op->last = store_event_last(op->s);
	snprintf(op->trouble, sizeof(op->trouble), "%s",
		 store_trouble(op->s) ? store_trouble(op->s) : "");
}

static void do_trim(void *arg)
{
	struct op *op = arg;

	op->result = store_event_trim(op->s, op->before, op->count);
}

static int add(struct store *s, const char *guest, const char *name,
	       int64_t time_ms, const char *agent, int64_t number, bool must,
	       uint64_t *seq)
{
	struct op op = { .s = s,
			 .must_last = must,
			 .ev = { .time_ms = time_ms, .guest = guest,
				 .name = name, .data = "{}", .agent = agent,
				 .agent_seq = number } };

	run(&op, do_add);
	if (seq)
		*seq = op.ev.seq;
	return op.result;
}

static struct op look(struct store *s, uint64_t since, const char *guest,
		      unsigned limit)
{
	struct op op = { .s = s, .since = since, .guest = guest,
			 .limit = limit };

	run(&op, do_read);
	CHECK_INT(op.result, 0);
	return op;
}

TEST(events_are_numbered_and_read_in_order)
{
	PATH_OF_DB;
	struct store *s = store_open(path);
	struct op op;

	CHECK(s);
	for (int i = 0; i < 10; i++)
		CHECK_INT(add(s, i % 2 ? "b" : "a", "x", i, NULL, 0, false, NULL),
			  0);
	op = look(s, 0, NULL, 100);
	CHECK_INT(op.seen, 10);
	for (unsigned i = 0; i < 10; i++)
		CHECK_INT(op.seqs[i], i + 1);
	op = look(s, 4, NULL, 3);
	CHECK_INT(op.seen, 3);
	CHECK_INT(op.seqs[0], 5);
	op = look(s, 0, "b", 100);
	CHECK_INT(op.seen, 5);
	CHECK_INT(op.seqs[0], 2);
	op = look(s, UINT64_MAX, NULL, 100);
	CHECK_INT(op.seen, 0);
	CHECK_STR(op.trouble, "");
	store_close(s);
}

TEST(numbers_go_on_after_reopen_and_trim)
{
	PATH_OF_DB;
	struct store *s = store_open(path);
	struct op op;
	uint64_t seq;

	for (int i = 0; i < 5; i++)
		CHECK_INT(add(s, "a", "x", 1000, NULL, 0, true, NULL), 0);
	store_close(s);
	s = store_open(path);
	op = (struct op){ .s = s, .before = 2000, .count = 100 };
	run(&op, do_trim); /* all are old */
	CHECK_INT(op.result, 0);
	op = look(s, 0, NULL, 10);
	CHECK_INT(op.seen, 0);
	store_close(s);
	s = store_open(path);
	CHECK_INT(add(s, "a", "x", 3000, NULL, 0, true, &seq), 0);
	CHECK_INT(seq, 6);
	store_close(s);
}

TEST(trim_keeps_the_newest)
{
	PATH_OF_DB;
	struct store *s = store_open(path);
	struct op op;

	for (int i = 0; i < 20; i++)
		CHECK_INT(add(s, "a", "x", 1000 + i, NULL, 0, false, NULL), 0);
	op = (struct op){ .s = s, .before = 1005, .count = 8 };
	run(&op, do_trim);
	op = look(s, 0, NULL, 64);
	CHECK_INT(op.seen, 8);
	CHECK_INT(op.seqs[0], 13);
	op = (struct op){ .s = s, .before = 1015, .count = 100 };
	run(&op, do_trim);
	op = look(s, 0, NULL, 64);
	CHECK_INT(op.seen, 5);
	store_close(s);
}

TEST(an_event_sent_twice_is_kept_once)
{
	PATH_OF_DB;
	struct store *s = store_open(path);
	uint64_t first, second;

	CHECK_INT(add(s, "a", "x", 1, "agent1", 7, true, &first), 0);
	CHECK_INT(add(s, "a", "x", 2, "agent1", 7, true, &second), -EEXIST);
	CHECK_INT(second, first);
	/* Others may number the same way. */
	CHECK_INT(add(s, "a", "x", 3, "agent2", 7, true, NULL), 0);
	CHECK_INT(add(s, "b", "x", 4, "agent1", 7, true, NULL), 0);
	CHECK_INT(add(s, "a", "x", 5, "agent1", 8, true, NULL), 0);
	CHECK_INT(look(s, 0, NULL, 64).seen, 4);
	store_close(s);
	s = store_open(path);
	CHECK_INT(add(s, "a", "x", 6, "agent1", 7, true, &second), -EEXIST);
	CHECK_INT(second, first);
	store_close(s);
}

TEST(a_damaged_file_is_said_and_served_from_memory)
{
	PATH_OF_DB;
	struct store *s;
	struct op op;
	FILE *f = fopen(path, "w");

	for (int i = 0; i < 1000; i++)
		fputs("this is not a database ", f);
	fclose(f);
	s = store_open(path);
	CHECK(s);
	CHECK_INT(add(s, "a", "x", 1, NULL, 0, false, NULL), 0);
	CHECK_INT(add(s, "a", "x", 1, NULL, 0, true, NULL), -EROFS);
	op = look(s, 0, NULL, 10);
	CHECK_INT(op.seen, 1);
	CHECK(strstr(op.trouble, path));
	store_close(s);
}

TEST(a_newer_schema_is_read_only)
{
	PATH_OF_DB;
	CLEANUP_FREE char *command = NULL;
	struct store *s = store_open(path);
	struct op op;

	CHECK_INT(add(s, "a", "old", 1, NULL, 0, true, NULL), 0);
	store_close(s);
	if (system("command -v sqlite3 >/dev/null") != 0)
		unit_skip("sqlite3");
	command = str_printf("sqlite3 '%s' 'PRAGMA user_version = 99'", path);
	CHECK_INT(system(command), 0);
	s = store_open(path);
	op = look(s, 0, NULL, 10);
	CHECK_INT(op.seen, 1);
	CHECK_STR(op.names[0], "old");
	CHECK(strstr(op.trouble, "99"));
	CHECK_INT(add(s, "a", "x", 1, NULL, 0, true, NULL), -EROFS);
	CHECK_INT(add(s, "a", "new", 1, NULL, 0, false, NULL), 0);
	op = look(s, 0, NULL, 10);
	CHECK_INT(op.seen, 2);
	CHECK_STR(op.names[1], "new");
	store_close(s);
}

/* A writer that is killed at any moment: what it said was kept is kept. */
TEST(kill_loses_nothing_acknowledged)
{
	PATH_OF_DB;

	for (unsigned round = 0; round < 10; round++) {
		uint64_t acked = 0, seq;
		struct store *s;
		int fds[2];
		pid_t pid;

		CHECK(pipe(fds) == 0);
		pid = fork();
		if (pid == 0) {
			close(fds[0]);
			s = store_open(path);
			for (;;) {
				if (add(s, "a", "x", 1, NULL, 0, true, &seq))
					_exit(1);
				if (write(fds[1], &seq, sizeof(seq)) < 0)
					_exit(2);
			}
		}
		close(fds[1]);
		for (unsigned i = 0; i < 5 + 3 * round; i++)
			CHECK(read(fds[0], &acked, sizeof(acked)) ==
			      sizeof(acked));
		kill(pid, SIGKILL);
		while (read(fds[0], &seq, sizeof(seq)) == sizeof(seq))
			acked = seq;
		close(fds[0]);
		waitpid(pid, NULL, 0);
		s = store_open(path);
		CHECK(s);
		CHECK(look(s, acked - 1, NULL, 1).seqs[0] == acked);
		CHECK_STR(look(s, 0, NULL, 1).trouble, "");
		store_close(s);
	}
}

UNIT_MAIN(CASE(events_are_numbered_and_read_in_order),
	  CASE(numbers_go_on_after_reopen_and_trim), CASE(trim_keeps_the_newest),
	  CASE(an_event_sent_twice_is_kept_once),
	  CASE(a_damaged_file_is_said_and_served_from_memory),
	  CASE(a_newer_schema_is_read_only),
	  CASE(kill_loses_nothing_acknowledged))
