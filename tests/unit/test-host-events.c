/*
 * test-host-events.c - events reach everyone, once and in order; floods are cut
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/loop.h"
#include "common/str.h"
#include "tests/lib/unit.h"
#include "virtagent/host/events.h"
#include "virtagent/host/rate.h"
#include "virtagent/limits.h"

#define BURST (VA_GUEST_EVENTS_MAX * VA_GUEST_EVENTS_BURST)

/* The wall's clock, set on by so many seconds; the libraries under test use this one. */
static atomic_long set_on;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, id, ts);

	if (r == 0 && id == CLOCK_REALTIME)
		ts->tv_sec += atomic_load(&set_on);
	return r;
}

struct fixture {
	struct loop *loop;
	struct events *e;
	char *path;
	unsigned told;
	struct buf lines;
};

static void set_up(struct fixture *f)
{
	struct events_config cfg = { .max_age_ns = UINT64_C(3600) * NSEC_PER_SEC,
				     .max_count = 1000 };

	*f = (struct fixture){ .loop = loop_new() };
	f->path = str_printf("%s/db", unit_tmpdir());
	cfg.loop = f->loop;
	cfg.path = f->path;
	f->e = events_new(&cfg);
	CHECK(f->e);
	buf_init(&f->lines, 1 << 20);
}

static void tear_down(struct fixture *f)
{
	events_free(f->e);
	loop_free(f->loop);
	free(f->path);
	buf_done(&f->lines);
}

static uint64_t soon(void)
{
	return clock_now() + 5 * NSEC_PER_SEC;
}

static int send_one(struct events *e, const char *guest, const char *name,
		    const char *agent, int64_t number, uint64_t *seq)
{
	const struct event_sent sent = { .guest = guest, .name = name,
					 .agent = agent, .agent_seq = number };
	char text[256];
	bool again;
	int err = events_send(e, &sent, soon(), seq, &again, text, sizeof(text));

	if (err == 0 && again)
		return 1;
	return err;
}

TEST(an_event_is_a_line_of_json)
{
	struct event_batch batch;
	struct fixture f;
	uint64_t seq;
	const char *line;

	set_up(&f);
	CHECK_INT(send_one(f.e, "we\"b", "disk-full", NULL, 0, &seq), 0);
	CHECK_INT(seq, 1);
	CHECK_INT(events_read(f.e, 0, NULL, 10, soon(), &batch), 0);
	line = buf_cstr(&batch.lines);
	CHECK(str_starts(line, "{\"seq\":1,\"time\":\"20"));
	CHECK(strstr(line, "Z\",\"guest\":\"we\\\"b\",\"event\":\"disk-full\","
			   "\"data\":{}}\n"));
	buf_done(&batch.lines);
	tear_down(&f);
}

TEST(names_and_sizes_are_checked)
{
	struct fixture f;
	uint64_t seq;

	CHECK(events_name_ok("a-b9"));
	CHECK(!events_name_ok(""));
	CHECK(!events_name_ok("Agent"));
	CHECK(!events_name_ok("a b"));
	CHECK(!events_name_ok("a\nb"));
	set_up(&f);
	CHECK_INT(send_one(f.e, "g", "No", NULL, 0, &seq), -EINVAL);
	CHECK_INT(events_last(f.e), 0);
	tear_down(&f);
}

TEST(a_resend_is_the_same_event)
{
	struct fixture f;
	uint64_t first, second;

	set_up(&f);
	CHECK_INT(send_one(f.e, "g", "x", "agent", 1, &first), 0);
	CHECK_INT(send_one(f.e, "g", "x", "agent", 1, &second), 1);
	CHECK_INT(second, first);
	CHECK_INT(events_last(f.e), 1);
	tear_down(&f);
}

TEST(a_flood_is_refused_counted_and_told_once)
{
	struct event_batch batch;
	struct fixture f;
	unsigned ok = 0, refused = 0;
	uint64_t seq, start;

	set_up(&f);
	start = clock_now();
	for (unsigned i = 0; i < BURST + 100; i++) {
		int err = send_one(f.e, "g", "x", NULL, 0, &seq);

		CHECK(err == 0 || err == -EBUSY);
		ok += err == 0;
		refused += err == -EBUSY;
	}
	CHECK(ok >= BURST);
	CHECK(refused > 0 || clock_now() - start > NSEC_PER_SEC);
	/* Another guest is not touched. */
	CHECK_INT(send_one(f.e, "h", "x", NULL, 0, &seq), 0);
	while (send_one(f.e, "g", "last", NULL, 0, &seq) == -EBUSY)
		usleep(5000);
	CHECK_INT(events_read(f.e, ok, NULL, 50, soon(), &batch), 0);
	CHECK(strstr(buf_cstr(&batch.lines), "\"events-refused\",\"data\":"
					     "{\"count\":"));
	buf_done(&batch.lines);
	tear_down(&f);
}

static void on_events(void *arg)
{
	struct fixture *f = arg;

	f->told++;
	loop_stop(f->loop);
}

TEST(watches_are_told_of_posts)
{
	struct events_watch *w;
	struct fixture f;

	set_up(&f);
	w = events_watch_new(f.e, on_events, &f);
	CHECK(w);
	events_post(f.e, "g", "agent-up", NULL);
	loop_run(f.loop);
	CHECK(f.told >= 1);
	CHECK_INT(events_last(f.e), 1);
	events_watch_free(w);
	tear_down(&f);
}

static void on_batch(void *arg, const struct event_batch *batch)
{
	struct fixture *f = arg;

	CHECK_INT(batch->error, 0);
	CHECK_INT(buf_put(&f->lines, buf_data(&batch->lines),
			  buf_len(&batch->lines)), 0);
	f->told = batch->count;
	loop_stop(f->loop);
}

TEST(the_loop_fetches_one_guests_events)
{
	struct fixture f;
	uint64_t seq;

	set_up(&f);
	for (int i = 0; i < 6; i++)
		CHECK_INT(send_one(f.e, i % 2 ? "a" : "b", "x", NULL, 0, &seq), 0);
	CHECK_INT(events_fetch(f.e, 2, "a", 10, on_batch, &f), 0);
	loop_run(f.loop);
	CHECK_INT(f.told, 2);
	CHECK(strstr(buf_cstr(&f.lines), "\"seq\":4,"));
	CHECK(!strstr(buf_cstr(&f.lines), "\"guest\":\"b\""));
	tear_down(&f);
}

static void *post_late(void *arg)
{
	struct fixture *f = arg;

	usleep(20000);
	events_post(f->e, "g", "late", NULL);
	return NULL;
}

TEST(a_thread_waits_and_is_woken_or_cancelled)
{
	struct fixture f;
	pthread_t thread;
	int fds[2];

	set_up(&f);
	CHECK_INT(events_wait(f.e, 0, -1, clock_now() + 1000000), -ETIMEDOUT);
	CHECK(pthread_create(&thread, NULL, post_late, &f) == 0);
	CHECK_INT(events_wait(f.e, 0, -1, soon()), 0);
	pthread_join(thread, NULL);
	CHECK_INT(events_wait(f.e, 0, -1, soon()), 0);
	CHECK(pipe(fds) == 0);
	CHECK(write(fds[1], "x", 1) == 1);
	CHECK_INT(events_wait(f.e, 1, fds[0], soon()), -ECANCELED);
	close(fds[0]);
	close(fds[1]);
	tear_down(&f);
}

TEST(rates_refill)
{
	struct rate r = RATE_INIT(10, 3);
	uint64_t now = NSEC_PER_SEC, refused;

	for (int i = 0; i < 3; i++)
		CHECK(rate_take(&r, "a", now, &refused));
	CHECK(!rate_take(&r, "a", now, &refused));
	CHECK_INT(refused, 1);
	CHECK(!rate_take(&r, "a", now, &refused));
	CHECK_INT(refused, 2);
	CHECK(rate_take(&r, "b", now, &refused));
	CHECK_INT(refused, 0);
	now += NSEC_PER_SEC / 10;
	CHECK(rate_take(&r, "a", now, &refused));
	CHECK_INT(refused, 2);
	CHECK(!rate_take(&r, "a", now, &refused));
	now += 3600 * NSEC_PER_SEC;
	for (int i = 0; i < 3; i++)
		CHECK(rate_take(&r, "a", now, &refused));
	CHECK(!rate_take(&r, "a", now, &refused));
	rate_done(&r);
}

#define MANY 1200u /* after so many, it is looked at what is too old */

static void post_many(struct fixture *f)
{
	uint64_t before = events_last(f->e);

	for (unsigned i = 0; i < MANY; i++)
		events_post(f->e, "g", "many", NULL);
	while (events_last(f->e) < before + MANY)
		usleep(1000);
}

static unsigned all_kept(struct fixture *f)
{
	struct event_batch batch;
	uint64_t since = 0;
	unsigned n = 0;

	do {
		CHECK_INT(events_read(f->e, since, NULL, 1000, soon(), &batch), 0);
		since = batch.last;
		n += batch.count;
		buf_done(&batch.lines);
	} while (batch.count);
	return n;
}

TEST(a_clock_that_is_set_makes_no_event_old)
{
	static const long years[] = { 10, -10, 0, 30, 0 };
	const unsigned n = sizeof(years) / sizeof(years[0]);
	struct fixture f;
	uint64_t seq;

	set_up(&f);
	events_set_limits(f.e, UINT64_C(3600) * NSEC_PER_SEC, 100000, 50);
	CHECK_INT(send_one(f.e, "g", "first", NULL, 0, &seq), 0);
	for (unsigned i = 0; i < n; i++) {
		atomic_store(&set_on, years[i] * 365 * 86400);
		post_many(&f);
		CHECK_INT(all_kept(&f), 1 + (i + 1) * MANY);
	}
	tear_down(&f);
}

UNIT_MAIN(CASE_SLOW(a_clock_that_is_set_makes_no_event_old, 60),
	  CASE(an_event_is_a_line_of_json), CASE(names_and_sizes_are_checked),
	  CASE(a_resend_is_the_same_event),
	  CASE(a_flood_is_refused_counted_and_told_once),
	  CASE(watches_are_told_of_posts),
	  CASE(the_loop_fetches_one_guests_events),
	  CASE(a_thread_waits_and_is_woken_or_cancelled), CASE(rates_refill))
