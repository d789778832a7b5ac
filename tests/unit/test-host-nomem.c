/*
 * test-host-nomem.c - every allocation of va-hostd's store, keys and events fails
 * once, SQLite's and those of the store's thread too (tests/lib/nomem.h)
 *
 * What was answered as kept is there afterwards, in memory and in the file; what
 * was refused is not; an error has a text.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/str.h"
#include "tests/lib/nomem.h"
#include "tests/lib/unit.h"
#include "virtagent/host/events.h"
#include "virtagent/host/keys.h"

static uint64_t soon(void)
{
	return clock_now() + 20 * NSEC_PER_SEC;
}

/* A thousand databases: where there is a disk in memory, on that. */
static char dir[64];

static void begin(void)
{
	snprintf(dir, sizeof(dir), "/dev/shm/va-nomem-XXXXXX");
	if (!mkdtemp(dir))
		snprintf(dir, sizeof(dir), "%s", unit_tmpdir());
}

static const char *path_of_db(void)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/db", dir);
	return path;
}

/* Each run begins with nothing. */
static void remove_db(void)
{
	static const char *const ends[] = { "", "-wal", "-shm" };
	char name[300];

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		snprintf(name, sizeof(name), "%s%s", path_of_db(), ends[i]);
		unlink(name);
	}
}

static void end(void)
{
	remove_db();
	rmdir(dir); /* the unit's own goes later */
}

/* --- keys ------------------------------------------------------------------ */

#define VALUE_SIZE 5000u /* more than a page of the file's */

struct host {
	struct loop *loop;
	struct store *store;
	struct keys *keys;
};

static void close_host(struct host *h)
{
	/* What was told of changes; keys_free() wants the loop at rest. */
	if (h->loop && h->keys)
		loop_run_once(h->loop, false);
	keys_free(h->keys);
	store_close(h->store);
	loop_free(h->loop);
}

static int open_host(struct host *h)
{
	*h = (struct host){ .loop = loop_new() };
	if (h->loop)
		h->store = store_open(path_of_db());
	if (h->store)
		h->keys = keys_new(h->loop, h->store);
	if (h->keys)
		return 0;
	close_host(h);
	return -ENOMEM;
}

static int set_two(struct host *h, const char *a, const char *b)
{
	const struct key_change changes[] = {
		{ .name = "user.a", .value = a, .size = strlen(a),
		  .owner = KEY_OF_USER },
		{ .name = "user.b", .value = b, .size = strlen(b),
		  .owner = KEY_OF_USER },
	};
	const struct keys_set set = { .guest = "g", .who = KEYS_ADMIN,
				      .changes = changes, .n = 2,
				      .if_revision = -1 };
	struct keys_result result = { 0 };
	int r = keys_set(h->keys, &set, soon(), &result);

	CHECK(r == 0 || result.text[0]);
	return r;
}

/* The key's value, by its first byte; 0 = it is not there; negative errno. */
static int value_of(struct host *h, const char *name)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	const void *data;
	size_t size;
	int r = keys_get(h->keys, "g", name, KEYS_ADMIN, soon(), &v);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	CHECK_INT(va_get_bytes(va_member(v, "value"), &data, &size), 0);
	CHECK_INT(size, VALUE_SIZE);
	return ((const unsigned char *)data)[0];
}

/* Both keys were changed, or none. */
static int look(struct host *h, int want)
{
	int a = value_of(h, "user.a"), b = value_of(h, "user.b");

	if (a < 0 || b < 0)
		return a < 0 ? a : b;
	CHECK_INT(a, b);
	CHECK_INT(a, want);
	return 0;
}

static int reads(struct host *h)
{
	CLEANUP_VALUE struct va_value *list = NULL, *changes = NULL;
	int r = keys_list(h->keys, "g", "*", "", KEYS_ADMIN, soon(), &list);

	if (r == 0)
		r = keys_changes(h->keys, "g", 0, "*", KEYS_GUEST, soon(),
				 &changes);
	return r;
}

static void fill(char to[VALUE_SIZE + 1], char with)
{
	memset(to, with, VALUE_SIZE);
	to[VALUE_SIZE] = 0;
}

/* On a store that is open: all, or nothing of it, in memory and in the file. */
static int keys_once(void)
{
	char one[VALUE_SIZE + 1], two[VALUE_SIZE + 1];
	int first, second = -ENOMEM, now = 0, seen;
	struct host h;

	nomem_hold(true);
	remove_db();
	CHECK_INT(open_host(&h), 0);
	nomem_hold(false);
	fill(one, '1');
	fill(two, '2');
	first = set_two(&h, one, one);
	if (first == 0)
		second = set_two(&h, two, two);
	now = second == 0 ? '2' : first == 0 ? '1' : 0;
	seen = look(&h, now);
	if (seen == 0)
		seen = reads(&h);
	nomem_hold(true);
	/* It works again, and the next va-hostd finds the same. */
	CHECK_INT(look(&h, now), 0);
	close_host(&h);
	CHECK_INT(open_host(&h), 0);
	CHECK_INT(look(&h, now), 0);
	close_host(&h);
	return first < 0 ? first : second < 0 ? second : seen;
}

TEST(keys_are_kept_or_refused)
{
	begin();
	nomem_each(keys_once, 0);
	end();
}

/* A store that cannot be opened for want of memory is not taken for a damaged or an
 * empty one. */
static int open_once(void)
{
	struct host h;
	int r = open_host(&h);

	if (r == 0) {
		r = look(&h, '1');
		close_host(&h);
	}
	if (r == 0)
		return 0;
	nomem_hold(true);
	CHECK_INT(open_host(&h), 0);
	CHECK_INT(look(&h, '1'), 0);
	close_host(&h);
	return r;
}

TEST(a_store_is_opened_or_is_not)
{
	char one[VALUE_SIZE + 1];
	struct host h;

	begin();
	CHECK_INT(open_host(&h), 0);
	fill(one, '1');
	CHECK_INT(set_two(&h, one, one), 0);
	close_host(&h);
	nomem_some(open_once, 0, 5);
	end();
}

/* --- events ---------------------------------------------------------------- */

#define SENDS 3
#define DATA "{\"key\":\"value\"}"

static int times(const char *text, const char *what)
{
	int n = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		n++;
	}
	return n;
}

/* A batch may end early, and the next one goes on there; no line is less than the
 * event. */
static int count_of(struct events *e, unsigned *ret)
{
	struct event_batch batch = { 0 };
	uint64_t since = 0;
	int r;

	*ret = 0;
	do {
		r = events_read(e, since, "g", 100, soon(), &batch);
		if (r == 0 && batch.count) {
			CHECK_INT(times(buf_cstr(&batch.lines), "\"event\":\"n\""),
				  batch.count);
			CHECK_INT(times(buf_cstr(&batch.lines), DATA), batch.count);
		}
		*ret += batch.count;
		since = batch.last;
		buf_done(&batch.lines);
	} while (r == 0 && batch.count);
	return r;
}

static int events_once(void)
{
	struct events_config cfg = { .max_age_ns = UINT64_C(3600) * NSEC_PER_SEC,
				     .max_count = 1000 };
	CLEANUP_VALUE struct va_value *data = NULL;
	struct event_sent sent = { .guest = "g", .name = "n", .agent = "a" };
	struct events *e;
	unsigned kept = 0, have = 0;
	int r = 0, seen;

	nomem_hold(true);
	sent.data = data = va_struct();
	CHECK_INT(va_set(data, "key", va_string("value")), 0);
	remove_db();
	cfg.path = path_of_db();
	cfg.loop = loop_new();
	CHECK(cfg.loop);
	e = events_new(&cfg);
	CHECK(e);
	nomem_hold(false);
	for (unsigned i = 0; i < SENDS; i++) {
		char text[256] = "";
		uint64_t seq;
		bool again;
		int err;

		sent.agent_seq = i + 1;
		err = events_send(e, &sent, soon(), &seq, &again, text,
				  sizeof(text));
		CHECK(err == 0 || text[0]);
		kept += err == 0;
		r = err < 0 ? err : r;
	}
	seen = count_of(e, &have);
	if (seen == 0)
		CHECK_INT(have, kept);
	nomem_hold(true);
	CHECK_INT(count_of(e, &have), 0);
	CHECK_INT(have, kept);
	events_free(e);
	e = events_new(&cfg);
	CHECK(e);
	CHECK_INT(count_of(e, &have), 0);
	CHECK_INT(have, kept);
	events_free(e);
	loop_free(cfg.loop);
	return r < 0 ? r : seen;
}

TEST(events_are_kept_or_refused)
{
	begin();
	nomem_each(events_once, 0);
	end();
}

UNIT_MAIN(CASE_SLOW(keys_are_kept_or_refused, 120),
	  CASE_SLOW(a_store_is_opened_or_is_not, 120),
	  CASE_SLOW(events_are_kept_or_refused, 120))
