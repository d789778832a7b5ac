/*
 * test-common-loop.c - descriptors, timers, and calls from other threads
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/loop.h"
#include "tests/lib/unit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/sock.h"

struct seen {
	struct loop *loop;
	struct loop_fd *src;
	struct loop_timer *timer;
	int reads, writes, ticks, calls;
	uint64_t at;
	int order[8];
};

static void on_readable(int fd, unsigned events, void *arg)
{
	struct seen *s = arg;
	char c;

	if (events & LOOP_WRITE)
		s->writes++;
	if (events & LOOP_READ) {
		s->reads++;
		if (read(fd, &c, 1) <= 0) {
			loop_fd_free(s->src);
			s->src = NULL;
			loop_stop(s->loop);
		}
	}
}

TEST(a_descriptor_reports_bytes_and_the_hang_up)
{
	struct seen s = { .loop = loop_new() };
	int fds[2];

	CHECK(s.loop);
	CHECK_INT(sock_pair(SOCK_STREAM, fds), 0);
	s.src = loop_fd_new(s.loop, fds[0], LOOP_READ, on_readable, &s);
	CHECK(s.src);
	CHECK_INT(write(fds[1], "ab", 2), 2);
	close(fds[1]);
	CHECK_INT(loop_run(s.loop), 0);
	CHECK_INT(s.reads, 3); /* two bytes, then the end, freed in its callback */
	close(fds[0]);
	loop_free(s.loop);
}

TEST(events_are_switched_one_by_one)
{
	struct seen s = { .loop = loop_new() };
	int fds[2];

	CHECK_INT(sock_pair(SOCK_STREAM, fds), 0);
	s.src = loop_fd_new(s.loop, fds[0], 0, on_readable, &s);
	CHECK_INT(write(fds[1], "a", 1), 1);
	loop_run_once(s.loop, false);
	CHECK(s.reads == 0 && s.writes == 0);
	CHECK_INT(loop_fd_set(s.src, LOOP_WRITE), 0);
	loop_run_once(s.loop, true);
	CHECK(s.reads == 0 && s.writes == 1);
	CHECK_INT(loop_fd_set(s.src, LOOP_READ), 0);
	CHECK_INT(loop_fd_events(s.src), LOOP_READ);
	loop_run_once(s.loop, true);
	CHECK(s.reads == 1 && s.writes == 1);
	loop_fd_free(s.src);
	close(fds[0]);
	close(fds[1]);
	loop_free(s.loop);
}

TEST(a_regular_file_is_refused)
{
	struct loop *loop = loop_new();
	FILE *f = tmpfile();

	CHECK(!loop_fd_new(loop, fileno(f), LOOP_READ, on_readable, NULL));
	CHECK_INT(errno, EPERM);
	fclose(f);
	loop_free(loop);
}

static void on_tick(void *arg)
{
	struct seen *s = arg;

	s->ticks++;
	s->at = clock_now();
	loop_stop(s->loop);
}

TEST(a_timer_is_never_early)
{
	struct seen s = { .loop = loop_new() };

	s.timer = loop_timer_new(s.loop, on_tick, &s);
	CHECK(!loop_timer_armed(s.timer));
	for (int i = 0; i < 20; i++) {
		uint64_t deadline = clock_now() + (uint64_t)i * 300 * NSEC_PER_USEC;

		CHECK_INT(loop_timer_at(s.timer, deadline), 0);
		CHECK(loop_timer_armed(s.timer));
		CHECK_INT(loop_run(s.loop), 0);
		CHECK(s.at >= deadline);
		CHECK(!loop_timer_armed(s.timer));
	}
	CHECK_INT(s.ticks, 20);
	loop_timer_in(s.timer, 0);
	loop_timer_stop(s.timer);
	loop_run_once(s.loop, false);
	CHECK_INT(s.ticks, 20);
	loop_timer_in(s.timer, UINT64_MAX); /* no overflow: never */
	CHECK(!loop_timer_armed(s.timer));
	loop_timer_free(s.timer);
	loop_free(s.loop);
}

static void on_sig(int signo, void *arg)
{
	struct seen *s = arg;

	s->calls = signo;
	loop_stop(s->loop);
}

TEST(a_signal_arrives_on_the_loop)
{
	struct seen s = { .loop = loop_new() };
	struct loop_signal *sig = loop_signal_new(s.loop, SIGUSR1, on_sig, &s);

	CHECK(sig);
	kill(getpid(), SIGUSR1);
	CHECK_INT(loop_run(s.loop), 0);
	CHECK_INT(s.calls, SIGUSR1);
	loop_signal_free(sig);
	loop_free(s.loop);
}

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void do_stop(void *arg)
{
	loop_stop(arg);
}

static void do_count(void *arg)
{
	struct seen *s = arg;

	s->calls++; /* only ever on the loop's thread */
}


static void *call_often(void *arg)
{
	struct seen *s = arg;

	for (int i = 0; i < 2000; i++) {
		if (i % 2)
			CHECK_INT(loop_call(s->loop, do_count, s, CLOCK_NEVER), 0);
		else
			CHECK_INT(loop_post(s->loop, do_count, s), 0);
	}
	return NULL;
}

TEST(calls_from_many_threads_all_run)
{
	struct seen s = { .loop = loop_new() };
	pthread_t runner, callers[4];

	pthread_create(&runner, NULL, run_loop, s.loop);
	for (int i = 0; i < 4; i++)
		pthread_create(&callers[i], NULL, call_often, &s);
	for (int i = 0; i < 4; i++)
		pthread_join(callers[i], NULL);
	CHECK_INT(loop_post(s.loop, do_stop, s.loop), 0);
	pthread_join(runner, NULL);
	CHECK_INT(s.calls, 8000);
	loop_free(s.loop);
}

static void *call_late(void *arg)
{
	struct seen *s = arg;
	uint64_t deadline = clock_now() + 20 * NSEC_PER_MSEC;

	CHECK_INT(loop_call(s->loop, do_count, s, deadline), -ETIMEDOUT);
	CHECK(clock_now() >= deadline);
	return NULL;
}

TEST(a_call_that_timed_out_never_runs)
{
	struct seen s = { .loop = loop_new() };
	pthread_t caller;

	pthread_create(&caller, NULL, call_late, &s); /* the loop does not run */
	pthread_join(caller, NULL);
	CHECK_INT(loop_post(s.loop, do_count, &s), 0); /* the queue is intact */
	loop_run_once(s.loop, false);
	CHECK_INT(s.calls, 1);
	loop_free(s.loop);
}

static void note_order(void *arg)
{
	struct seen *s = arg;

	s->order[s->calls] = s->calls;
	s->calls++;
	if (s->calls == 1)
		CHECK_INT(loop_call(s->loop, note_order, s, 0), 0); /* own thread */
}

TEST(a_call_on_the_own_thread_runs_at_once)
{
	struct seen s = { .loop = loop_new() };

	CHECK_INT(loop_post(s.loop, note_order, &s), 0);
	loop_run_once(s.loop, true);
	CHECK_INT(s.calls, 2);
	loop_free(s.loop);
}

TEST(what_was_posted_to_a_loop_that_ends_is_freed)
{
	struct seen s = { .loop = loop_new() };

	CHECK_INT(loop_post(s.loop, do_count, &s), 0);
	loop_free(s.loop);
	CHECK_INT(s.calls, 0);
}

static void count_wakeups(int fd, unsigned events, void *arg)
{
	unsigned *n = arg;

	++*n;
}

TEST(a_paused_source_sleeps_and_wakes)
{
	struct loop *l = loop_new();
	unsigned n = 0;
	uint64_t began = clock_now();
	struct loop_fd *src;
	int fds[2];

	CHECK_INT(sock_pair(SOCK_STREAM, fds), 0);
	CHECK(write(fds[1], "x", 1) == 1);
	src = loop_fd_new(l, fds[0], LOOP_READ, count_wakeups, &n);
	CHECK(src);
	loop_fd_pause(src, 50 * NSEC_PER_MSEC);
	/* The timer's turns, of which one may come early and sleep again; then the read. */
	for (unsigned i = 0; i < 10 && !n; i++)
		CHECK_INT(loop_run_once(l, true), 0);
	CHECK_INT(n, 1);
	CHECK(clock_now() - began >= 50 * NSEC_PER_MSEC);
	loop_fd_pause(src, 60 * NSEC_PER_SEC);
	CHECK_INT(loop_run_once(l, false), 0);
	CHECK_INT(n, 1);
	loop_fd_free(src); /* with its pause */
	loop_free(l);
	close(fds[0]);
	close(fds[1]);
}

/* As a virtio port does whose host is away. */
TEST(an_edge_is_told_once_and_each_change_anew)
{
	struct loop *l = loop_new();
	unsigned n = 0;
	struct loop_fd *src;
	int fds[2];

	CHECK_INT(sock_pair(SOCK_STREAM, fds), 0);
	CHECK(write(fds[1], "x", 1) == 1);
	src = loop_fd_new(l, fds[0], LOOP_READ | LOOP_EDGE, count_wakeups, &n);
	CHECK(src);
	for (int i = 0; i < 3; i++)
		CHECK_INT(loop_run_once(l, false), 0);
	CHECK_INT(n, 1); /* nobody read it */
	close(fds[1]);
	for (int i = 0; i < 3; i++)
		CHECK_INT(loop_run_once(l, false), 0);
	CHECK_INT(n, 2); /* the hang-up */
	loop_fd_free(src);
	loop_free(l);
	close(fds[0]);
}

UNIT_MAIN(CASE(an_edge_is_told_once_and_each_change_anew), CASE(a_paused_source_sleeps_and_wakes),
	  CASE(a_descriptor_reports_bytes_and_the_hang_up),
	  CASE(events_are_switched_one_by_one), CASE(a_regular_file_is_refused),
	  CASE(a_timer_is_never_early), CASE(a_signal_arrives_on_the_loop),
	  CASE(calls_from_many_threads_all_run),
	  CASE(a_call_that_timed_out_never_runs),
	  CASE(a_call_on_the_own_thread_runs_at_once),
	  CASE(what_was_posted_to_a_loop_that_ends_is_freed))
