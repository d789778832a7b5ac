/*
 * test-host-keys.c - the host's keys: all or none, revisions, limits, lifetimes
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/str.h"
#include "tests/lib/unit.h"
#include "virtagent/host/keys.h"

struct fixture {
	struct loop *loop;
	struct store *store;
	struct keys *keys;
};

static void begin(struct fixture *f)
{
	CLEANUP_FREE char *path = str_printf("%s/db", unit_tmpdir());

	f->loop = loop_new();
	f->store = store_open(path);
	f->keys = keys_new(f->loop, f->store);
	CHECK(f->loop && f->store && f->keys);
}

static void end(struct fixture *f)
{
	/* What was told of changes; keys_free() wants the loop at rest. */
	loop_run_once(f->loop, false);
	keys_free(f->keys);
	store_close(f->store);
	loop_free(f->loop);
}

static struct key_change change(const char *name, const char *value)
{
	struct key_change c = { .name = name, .value = value,
				.size = value ? strlen(value) : 0 };
	char why[256];

	CHECK_INT(key_name_check(name, &c.owner, why, sizeof(why)), 0);
	return c;
}

static int set(struct fixture *f, enum keys_who who,
	       const struct key_change *c, size_t n, int64_t if_revision,
	       struct keys_result *result)
{
	const struct keys_set s = { .guest = "g", .who = who, .changes = c,
				    .n = n, .if_revision = if_revision };

	return keys_set(f->keys, &s, CLOCK_NEVER, result);
}

static int64_t revision_of(struct fixture *f, const char *name)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	int64_t revision = 0;

	if (keys_get(f->keys, "g", name, KEYS_ADMIN, CLOCK_NEVER, &v) == 0)
		va_get_int(va_member(v, "revision"), &revision);
	return revision;
}

TEST(empty_is_not_absent_and_all_or_none)
{
	struct fixture f;
	struct keys_result r;
	struct key_change two[2] = { change("user.a", ""),
				     change("user.b", "1") };
	struct key_change bad[2] = { change("user.a", "2"),
				     change("host.name", "x") };
	CLEANUP_VALUE struct va_value *v = NULL;
	const void *data;
	size_t n = 1;

	begin(&f);
	CHECK_INT(set(&f, KEYS_ADMIN, two, 2, -1, &r), 0);
	CHECK_INT(r.revision, 1);
	CHECK_INT(revision_of(&f, "user.a"), 1);
	CHECK_INT(revision_of(&f, "user.b"), 1);
	CHECK_INT(revision_of(&f, "user.c"), 0);
	CHECK_INT(set(&f, KEYS_ADMIN, bad, 2, -1, &r), -EACCES);
	CHECK(strstr(r.text, "host.name"));
	CHECK_INT(keys_get(f.keys, "g", "user.a", KEYS_ADMIN, CLOCK_NEVER, &v),
		  0);
	CHECK_INT(va_get_bytes(va_member(v, "value"), &data, &n), 0);
	CHECK_INT(n, 0);
	end(&f);
}

TEST(if_revision_and_no_change)
{
	struct fixture f;
	struct keys_result r;
	struct key_change one = change("user.a", "1");
	struct key_change other = change("user.a", "2");

	begin(&f);
	CHECK_INT(set(&f, KEYS_ADMIN, &one, 1, 5, &r), -EAGAIN);
	CHECK_INT(set(&f, KEYS_ADMIN, &one, 1, 0, &r), 0);
	CHECK_INT(set(&f, KEYS_ADMIN, &other, 1, 0, &r), -EAGAIN);
	CHECK_INT(set(&f, KEYS_ADMIN, &one, 1, -1, &r), 0);
	CHECK_INT(r.changed, 0);
	CHECK_INT(r.revision, 1);
	CHECK_INT(set(&f, KEYS_ADMIN, &other, 1, 1, &r), 0);
	CHECK_INT(revision_of(&f, "user.a"), 2);
	end(&f);
}

TEST(owners_write_their_own)
{
	struct fixture f;
	struct keys_result r;
	struct key_change user = change("user.a", "1");
	struct key_change guest = change("guest.a", "1");

	begin(&f);
	CHECK_INT(set(&f, KEYS_GUEST, &user, 1, -1, &r), -EACCES);
	CHECK_INT(set(&f, KEYS_ADMIN, &guest, 1, -1, &r), -EACCES);
	CHECK_INT(set(&f, KEYS_GUEST, &guest, 1, -1, &r), 0);
	CHECK_INT(set(&f, KEYS_ADMIN, &user, 1, -1, &r), 0);
	end(&f);
}

TEST(changes_tell_removals_and_survive_a_restart)
{
	struct fixture f;
	struct keys_result r;
	struct key_change two[2] = { change("user.a", "1"),
				     change("user.b", "1") };
	struct key_change gone = change("user.a", NULL);
	CLEANUP_VALUE struct va_value *v = NULL;
	const struct va_value *keys;
	bool removed = false;

	begin(&f);
	CHECK_INT(set(&f, KEYS_ADMIN, two, 2, -1, &r), 0);
	CHECK_INT(set(&f, KEYS_ADMIN, &gone, 1, -1, &r), 0);
	end(&f);
	begin(&f);
	CHECK_INT(keys_changes(f.keys, "g", 1, "*", KEYS_GUEST, CLOCK_NEVER,
			       &v), 0);
	keys = va_member(v, "keys");
	CHECK_INT(va_count(keys), 1);
	CHECK_INT(va_get_bool(va_member(va_item(keys, 0), "removed"), &removed),
		  0);
	CHECK(removed);
	CHECK_INT(keys_revision(f.keys, "g"), 2);
	CHECK_INT(keys_wait(f.keys, "g", 1, false, -1, CLOCK_NEVER), 0);
	CHECK_INT(keys_wait(f.keys, "g", 2, false, -1, clock_now()),
		  -ETIMEDOUT);
	end(&f);
}

TEST(a_lifetime_ends_with_the_boot)
{
	struct fixture f;
	struct keys_result r;
	struct key_change c = change("user.r", "1"), p = change("user.p", "1");
	struct keys_set s = { .guest = "g", .who = KEYS_ADMIN, .changes = &c,
			      .n = 1, .if_revision = -1, .set_flags = true,
			      .flags = KEY_READ | KEY_RESET };

	begin(&f);
	CHECK_INT(keys_set(f.keys, &s, CLOCK_NEVER, &r), 0);
	s.changes = &p;
	s.flags = KEY_READ | KEY_POWEROFF;
	CHECK_INT(keys_set(f.keys, &s, CLOCK_NEVER, &r), 0);
	CHECK_INT(keys_booted(f.keys, "g", "boot-1", false), 0);
	CHECK(revision_of(&f, "user.r") && revision_of(&f, "user.p"));
	CHECK_INT(keys_booted(f.keys, "g", "boot-1", true), 0);
	CHECK(revision_of(&f, "user.r") && revision_of(&f, "user.p"));
	CHECK_INT(keys_booted(f.keys, "g", "boot-2", false), 0);
	CHECK(!revision_of(&f, "user.r") && revision_of(&f, "user.p"));
	CHECK_INT(keys_booted(f.keys, "g", "boot-3", true), 0);
	CHECK(!revision_of(&f, "user.p"));
	end(&f);
}

UNIT_MAIN(CASE(empty_is_not_absent_and_all_or_none),
	  CASE(if_revision_and_no_change), CASE(owners_write_their_own),
	  CASE(changes_tell_removals_and_survive_a_restart),
	  CASE(a_lifetime_ends_with_the_boot))
