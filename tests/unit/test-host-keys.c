/*
 * test-host-keys.c - the host's keys: all or none, revisions, limits, lifetimes
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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

/* --- groups ----------------------------------------------------------------- */

#define GROUP(pattern) "\001" pattern

static int set_for(struct fixture *f, const char *guest,
		   const struct key_change *c, unsigned flags,
		   struct keys_result *r)
{
	const struct keys_set s = { .guest = guest, .who = KEYS_ADMIN,
				    .changes = c, .n = 1, .if_revision = -1,
				    .set_flags = true, .flags = flags };

	return keys_set(f->keys, &s, CLOCK_NEVER, r);
}

/* The value a guest has, and the group that gives it; "" and "" without one. */
static void check_value(struct fixture *f, const char *guest, const char *name,
			const char *value, const char *group)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	const void *data = "";
	const char *from = "";
	size_t n = 0;
	int err = keys_get(f->keys, guest, name, KEYS_GUEST, CLOCK_NEVER, &v);

	CHECK_INT(err, value ? 0 : -ENOENT);
	if (!value)
		return;
	CHECK_INT(va_get_bytes(va_member(v, "value"), &data, &n), 0);
	CHECK_INT(n, strlen(value));
	CHECK(n == 0 || memcmp(data, value, n) == 0);
	va_get_string(va_member(v, "group"), &from);
	CHECK_STR(from, group);
}

TEST(a_guests_own_key_wins_over_groups_and_the_longest_pattern_among_those)
{
	struct fixture f;
	struct keys_result r;
	struct key_change c = change("user.a", "all");

	begin(&f);
	CHECK_INT(keys_add_guest(f.keys, "web1"), 0);
	CHECK_INT(keys_add_guest(f.keys, "db1"), 0);
	CHECK_INT(set_for(&f, GROUP("*"), &c, KEY_READ, &r), 0);
	CHECK_INT(r.guests, 2);
	c = change("user.a", "web");
	CHECK_INT(set_for(&f, GROUP("web*"), &c, KEY_READ, &r), 0);
	CHECK_INT(r.guests, 1);
	check_value(&f, "web1", "user.a", "web", "web*");
	check_value(&f, "db1", "user.a", "all", "*");
	c = change("user.a", "own");
	CHECK_INT(set_for(&f, "web1", &c, KEY_READ, &r), 0);
	check_value(&f, "web1", "user.a", "own", "");
	/* What its groups say does not touch it now. */
	c = change("user.a", "web 2");
	CHECK_INT(set_for(&f, GROUP("web*"), &c, KEY_READ, &r), 0);
	CHECK_INT(r.guests, 0);
	check_value(&f, "web1", "user.a", "own", "");
	c = change("user.a", NULL);
	CHECK_INT(set_for(&f, "web1", &c, KEY_READ, &r), 0);
	check_value(&f, "web1", "user.a", "web 2", "web*");
	/* A group's key is unset at the group. */
	CHECK_INT(set_for(&f, "web1", &c, KEY_READ, &r), -EACCES);
	CHECK(strstr(r.text, "web*"));
	CHECK_INT(set_for(&f, GROUP("web*"), &c, KEY_READ, &r), 0);
	check_value(&f, "web1", "user.a", "all", "*");
	CHECK_INT(set_for(&f, GROUP("*"), &c, KEY_READ, &r), 0);
	CHECK_INT(r.guests, 2);
	check_value(&f, "web1", "user.a", NULL, "");
	end(&f);
}

TEST(a_guest_that_comes_later_gets_its_groups_keys_after_a_restart_too)
{
	struct fixture f;
	struct keys_result r;
	struct key_change c = change("user.a", "1");
	CLEANUP_VALUE struct va_value *v = NULL;
	int64_t before;

	begin(&f);
	CHECK_INT(set_for(&f, GROUP("w?b"), &c, KEY_READ | KEY_SECRET, &r), 0);
	CHECK_INT(r.guests, 0);
	CHECK_INT(keys_add_guest(f.keys, "web"), 0);
	check_value(&f, "web", "user.a", "1", "w?b");
	end(&f);
	/* Not configured while the group changed. */
	begin(&f);
	c = change("user.a", "2");
	CHECK_INT(set_for(&f, GROUP("w?b"), &c, KEY_READ, &r), 0);
	CHECK_INT(keys_add_guest(f.keys, "web"), 0);
	check_value(&f, "web", "user.a", "2", "w?b");
	before = keys_revision(f.keys, "web");
	CHECK_INT(keys_booted(f.keys, "web", "boot", false), 0);
	check_value(&f, "web", "user.a", "2", "w?b");
	CHECK_INT(keys_revision(f.keys, "web"), before);
	CHECK_INT(keys_groups(f.keys, CLOCK_NEVER, &v), 0);
	CHECK_INT(va_count(v), 1);
	end(&f);
}

TEST(a_groups_change_is_one_a_guest_can_ask_for)
{
	struct fixture f;
	struct keys_result r;
	struct key_change c = change("user.a", "1");
	CLEANUP_VALUE struct va_value *v = NULL;
	const struct va_value *keys;
	bool removed = false;

	begin(&f);
	CHECK_INT(keys_add_guest(f.keys, "g"), 0);
	CHECK_INT(set_for(&f, GROUP("*"), &c, KEY_READ, &r), 0);
	CHECK_INT(keys_revision(f.keys, "g"), 1);
	CHECK_INT(set_for(&f, GROUP("*"), &c, KEY_READ, &r), 0);
	CHECK_INT(r.changed, 0);
	CHECK_INT(keys_revision(f.keys, "g"), 1);
	c = change("user.a", NULL);
	CHECK_INT(set_for(&f, GROUP("*"), &c, KEY_READ, &r), 0);
	CHECK_INT(keys_changes(f.keys, "g", 1, "*", KEYS_GUEST, CLOCK_NEVER,
			       &v), 0);
	keys = va_member(v, "keys");
	CHECK_INT(va_count(keys), 1);
	CHECK_INT(va_get_bool(va_member(va_item(keys, 0), "removed"), &removed),
		  0);
	CHECK(removed);
	end(&f);
}

TEST(a_group_waits_for_all_its_guests)
{
	struct fixture f;
	struct keys_result r;
	struct key_change c = change("user.a", "1");
	char name[80];
	size_t missing;

	begin(&f);
	CHECK_INT(keys_add_guest(f.keys, "a1"), 0);
	CHECK_INT(keys_add_guest(f.keys, "a2"), 0);
	CHECK_INT(keys_add_guest(f.keys, "b"), 0);
	CHECK_INT(set_for(&f, GROUP("a*"), &c, KEY_READ, &r), 0);
	keys_set_acked(f.keys, "a1", keys_revision(f.keys, "a1"));
	CHECK_INT(keys_wait_group(f.keys, "a*", -1, clock_now(), &missing, name,
				  sizeof(name)), -ETIMEDOUT);
	CHECK_INT(missing, 1);
	CHECK_STR(name, "a2");
	/* One that is configured no more is not waited for. */
	keys_drop_guest(f.keys, "a2");
	CHECK_INT(keys_wait_group(f.keys, "a*", -1, clock_now(), &missing, name,
				  sizeof(name)), 0);
	end(&f);
}

TEST(groups_have_user_keys_only_and_a_limit)
{
	struct fixture f;
	struct keys_result r;
	struct key_change c = change("guest.a", "1");
	CLEANUP_FREE char *big = calloc(1, KEY_VALUE_MAX);
	char name[32];
	int err = 0, i;

	begin(&f);
	CHECK_INT(set_for(&f, GROUP("*"), &c, KEY_READ, &r), -EACCES);
	for (i = 0; err == 0 && i < 20; i++) {
		snprintf(name, sizeof(name), "user.%d", i);
		c = (struct key_change){ .name = name, .value = big,
					 .size = KEY_VALUE_MAX,
					 .owner = KEY_OF_USER };
		err = set_for(&f, i % 2 ? GROUP("*") : GROUP("a*"), &c, KEY_READ,
			      &r);
	}
	CHECK_INT(err, -EDQUOT);
	CHECK_INT(i, 16);
	CHECK(strstr(r.text, "user.15") && strstr(r.text, "16777216"));
	/* They are not counted as the guests' own. */
	CHECK_INT(keys_add_guest(f.keys, "a"), 0);
	c.name = "user.own";
	CHECK_INT(set_for(&f, "a", &c, KEY_READ, &r), 0);
	end(&f);
}

TEST(secrets_are_not_for_other_users_of_the_host)
{
	struct fixture f;
	struct keys_result r;
	struct key_change c = change("user.a", "hush");
	struct keys_set s = { .guest = "g", .who = KEYS_MEMBER, .changes = &c,
			      .n = 1, .if_revision = -1 };
	CLEANUP_VALUE struct va_value *v = NULL;

	begin(&f);
	CHECK_INT(set_for(&f, "g", &c, KEY_READ | KEY_SECRET, &r), 0);
	CHECK_INT(keys_get(f.keys, "g", "user.a", KEYS_MEMBER, CLOCK_NEVER, &v),
		  -ENOENT);
	CHECK_INT(keys_changes(f.keys, "g", 0, "*", KEYS_MEMBER, CLOCK_NEVER,
			       &v), 0);
	CHECK_INT(va_count(va_member(v, "keys")), 0);
	c = change("user.a", "other");
	CHECK_INT(keys_set(f.keys, &s, CLOCK_NEVER, &r), -EACCES);
	c = change("user.b", "1");
	CHECK_INT(keys_set(f.keys, &s, CLOCK_NEVER, &r), 0);
	end(&f);
}

TEST(host_keys_that_nothing_gives_go)
{
	struct fixture f;
	struct key_change two[2] = { change("host.a", "1"),
				     change("host.b", "1") };
	struct key_change user = change("user.a", "1");
	struct keys_result r;
	const char *keep[] = { "host.b" };

	begin(&f);
	CHECK_INT(keys_post(f.keys, "g", two, 2), 0);
	CHECK_INT(set(&f, KEYS_ADMIN, &user, 1, -1, &r), 0);
	CHECK_INT(keys_keep_host(f.keys, "g", keep, 1), 0);
	CHECK_INT(revision_of(&f, "host.a"), 0);
	CHECK(revision_of(&f, "host.b") && revision_of(&f, "user.a"));
	end(&f);
}

TEST(another_machine_of_that_name_has_none_of_the_guests_keys)
{
	struct fixture f;
	struct key_change guest = change("guest.a", "1");
	struct key_change user = change("user.a", "1");
	struct keys_result r;
	char vm[40];

	begin(&f);
	CHECK_INT(set(&f, KEYS_GUEST, &guest, 1, -1, &r), 0);
	CHECK_INT(set(&f, KEYS_ADMIN, &user, 1, -1, &r), 0);
	/* The first time that it is known at all, and again. */
	CHECK_INT(keys_set_vm(f.keys, "g", "uuid-1"), 0);
	CHECK_INT(keys_set_vm(f.keys, "g", "uuid-1"), 0);
	CHECK(revision_of(&f, "guest.a") != 0);
	end(&f);
	begin(&f);
	CHECK_INT(keys_set_vm(f.keys, "g", "uuid-2"), 0);
	CHECK_INT(revision_of(&f, "guest.a"), 0);
	CHECK(revision_of(&f, "user.a") != 0);
	keys_vm(f.keys, "g", vm);
	CHECK_STR(vm, "uuid-2");
	end(&f);
}

/* QEMU tells the uuid later than the guest shows its keys. */
TEST(keys_of_another_machine_go_when_it_is_known_which_one_this_is)
{
	struct fixture f;
	struct key_change c = change("guest.a", "1");
	struct keys_result r;
	struct keys_set s = { .guest = "g", .who = KEYS_GUEST, .changes = &c,
			      .n = 1, .if_revision = -1, .vm = "uuid-1" };

	begin(&f);
	CHECK_INT(keys_set(f.keys, &s, CLOCK_NEVER, &r), 0);
	CHECK(revision_of(&f, "guest.a") != 0);
	CHECK_INT(keys_set_vm(f.keys, "g", "uuid-2"), 0);
	CHECK_INT(revision_of(&f, "guest.a"), 0);
	/* Under way while that became known. */
	CHECK_INT(keys_set(f.keys, &s, CLOCK_NEVER, &r), -EACCES);
	CHECK(strstr(r.text, "uuid-1") && strstr(r.text, "uuid-2"));
	s.vm = "uuid-2";
	CHECK_INT(keys_set(f.keys, &s, CLOCK_NEVER, &r), 0);
	CHECK(revision_of(&f, "guest.a") != 0);
	end(&f);
}

TEST(a_key_of_another_host_keeps_its_revision)
{
	struct fixture f;
	struct key_change c = change("guest.a", "1");
	struct keys_result r;

	begin(&f);
	c.revision = 41;
	CHECK_INT(set(&f, KEYS_GUEST, &c, 1, -1, &r), 0);
	CHECK_INT(revision_of(&f, "guest.a"), 41);
	c = change("guest.b", "1");
	c.revision = 7;
	CHECK_INT(set(&f, KEYS_GUEST, &c, 1, -1, &r), 0);
	CHECK_INT(revision_of(&f, "guest.b"), 42);
	end(&f);
}

/* On the loop's thread. */
static void take_fetch(void *arg, struct va_value *v)
{
	*(struct va_value **)arg = v;
}

TEST(everything_begins_with_what_the_host_says_of_itself)
{
	struct fixture f;
	struct key_change host = change("host.name", "h");
	struct key_change c = change("user.a", NULL);
	CLEANUP_FREE char *big = calloc(1, 300000);
	CLEANUP_VALUE struct va_value *v = NULL;
	const char *name = "";
	struct keys_result r;
	bool more = false;

	begin(&f);
	c.value = big;
	c.size = 300000;
	CHECK_INT(set(&f, KEYS_ADMIN, &c, 1, -1, &r), 0);
	c.name = "user.b";
	CHECK_INT(set(&f, KEYS_ADMIN, &c, 1, -1, &r), 0);
	CHECK_INT(keys_post(f.keys, "g", &host, 1), 0);
	CHECK_INT(keys_fetch(f.keys, "g", 0, take_fetch, &v), 0);
	while (!v)
		loop_run_once(f.loop, true);
	CHECK_INT(va_get_bool(va_member(v, "more"), &more), 0);
	CHECK(more);
	CHECK_INT(va_get_string(va_member(va_item(va_member(v, "keys"), 0),
					  "name"), &name), 0);
	CHECK_STR(name, "host.name");
	end(&f);
}

UNIT_MAIN(CASE(empty_is_not_absent_and_all_or_none),
	  CASE(if_revision_and_no_change), CASE(owners_write_their_own),
	  CASE(changes_tell_removals_and_survive_a_restart),
	  CASE(a_lifetime_ends_with_the_boot),
	  CASE(a_guests_own_key_wins_over_groups_and_the_longest_pattern_among_those),
	  CASE(a_guest_that_comes_later_gets_its_groups_keys_after_a_restart_too),
	  CASE(a_groups_change_is_one_a_guest_can_ask_for),
	  CASE(a_group_waits_for_all_its_guests),
	  CASE(groups_have_user_keys_only_and_a_limit),
	  CASE(secrets_are_not_for_other_users_of_the_host),
	  CASE(host_keys_that_nothing_gives_go),
	  CASE(another_machine_of_that_name_has_none_of_the_guests_keys),
	  CASE(keys_of_another_machine_go_when_it_is_known_which_one_this_is),
	  CASE(a_key_of_another_host_keeps_its_revision),
	  CASE(everything_begins_with_what_the_host_says_of_itself))
