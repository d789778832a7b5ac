/*
 * test-guest-keys.c - the guest's keys: files, what a new server finds of them,
 * other hosts and other machines
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/str.h"
#include "tests/lib/unit.h"
#include "virtagent/guest/keys.h"

#define VM_1 "11111111-2222-3333-4444-555555555555"
#define VM_2 "66666666-2222-3333-4444-555555555555"

/* A server's; each one is a new process in life. */
static struct keyring *begin(void)
{
	CLEANUP_FREE char *dir = str_printf("%s/run/kv", unit_tmpdir());
	CLEANUP_FREE char *run = str_printf("%s/run", unit_tmpdir());
	struct keyring *k;

	setenv("VA_RUNTIME_DIR", run, 1);
	k = keyring_open(dir);
	CHECK(k != NULL);
	return k;
}

static void set(struct keyring *k, const char *name, const char *value)
{
	struct key_change c = { .name = name, .value = value,
				.size = value ? strlen(value) : 0,
				.owner = KEY_OF_GUEST };
	uint64_t seq;
	char why[256];

	CHECK_INT(keyring_set(k, &c, 1, -1, &seq, why, sizeof(why)), 0);
}

/* A batch of one key, or of none. */
static void push_vm(struct keyring *k, const char *store, int64_t since,
		    int64_t revision, const char *vm, const char *name,
		    const char *value, bool secret)
{
	CLEANUP_VALUE struct va_value *batch = va_struct();
	struct va_value *keys = va_array(), *key = va_struct();
	char why[256] = "";
	int64_t got;

	va_set(batch, "store", va_string(store));
	va_set(batch, "since", va_int(since));
	va_set(batch, "revision", va_int(revision));
	va_set(batch, "full", va_bool(since == 0));
	if (vm)
		va_set(batch, "vm", va_string(vm));
	if (name) {
		va_set(key, "name", va_string(name));
		va_set(key, "revision", va_int(revision));
		va_set(key, "value", va_bytes(value, strlen(value)));
		va_set(key, "read", va_bool(true));
		va_set(key, "secret", va_bool(secret));
		va_append(keys, key);
	} else {
		va_value_free(key);
	}
	va_set(batch, "keys", keys);
	CHECK_INT(keyring_push(k, batch, &got, why, sizeof(why)), 0);
	CHECK_INT(got, revision);
}

static void push(struct keyring *k, const char *store, int64_t since,
		 int64_t revision, const char *name, const char *value)
{
	push_vm(k, store, since, revision, NULL, name, value, false);
}

static bool there(struct keyring *k, const char *name, bool root)
{
	CLEANUP_VALUE struct va_value *v = NULL;

	return keyring_get(k, name, root, &v) == 0;
}

static mode_t mode_of(const char *name)
{
	CLEANUP_FREE char *path = str_printf("%s/run/%s", unit_tmpdir(), name);
	struct stat st;

	return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static struct keyring_dirty dirty(struct keyring *k)
{
	struct keyring_dirty d;

	CHECK_INT(keyring_dirty(k, &d), 0);
	return d;
}

static void dirty_done(struct keyring_dirty *d)
{
	va_value_free(d->set);
	va_value_free(d->unset);
	va_value_free(d->options);
}

TEST(files_are_for_who_may_read_and_names_are_not_listed)
{
	struct keyring *k = begin();

	push(k, "s", 0, 1, "user.open", "1");
	push_vm(k, "s", 1, 2, NULL, "user.secret", "1", true);
	CHECK_INT(mode_of("kv/user.open"), 0644);
	CHECK_INT(mode_of("kv/user.secret"), 0600);
	/* Everybody gets through to a file he knows, and lists nothing. */
	CHECK_INT(mode_of("kv"), 0711);
	CHECK_INT(mode_of(".") & 0055, 0011);
	CHECK(there(k, "user.secret", true));
	CHECK(!there(k, "user.secret", false));
	CHECK(there(k, "user.open", false));
	keyring_free(k);
}

TEST(a_removal_that_the_host_was_not_told_of_outlives_the_server)
{
	struct keyring *k = begin();
	struct keyring_dirty d;
	const char *name = "";

	set(k, "guest.a", "1");
	set(k, "guest.b", "1");
	d = dirty(k);
	keyring_sent(k, d.seq, NULL);
	dirty_done(&d);
	set(k, "guest.a", NULL);
	/* The server is killed here. */
	keyring_free(k);
	k = begin();
	d = dirty(k);
	CHECK_INT(va_count(d.unset), 1);
	CHECK_INT(va_get_string(va_item(d.unset, 0), &name), 0);
	CHECK_STR(name, "guest.a");
	CHECK_INT(va_count(d.set), 1);
	dirty_done(&d);
	/* What the host still has of it does not come back. */
	push(k, "s", 0, 7, "guest.a", "1");
	CHECK(!there(k, "guest.a", true));
	/* Told, it is forgotten. */
	d = dirty(k);
	keyring_sent(k, d.seq, NULL);
	dirty_done(&d);
	keyring_free(k);
	k = begin();
	d = dirty(k);
	CHECK_INT(va_count(d.unset), 0);
	dirty_done(&d);
	keyring_free(k);
}

TEST(a_key_that_was_set_again_is_no_removal)
{
	struct keyring *k = begin();
	struct keyring_dirty d;

	set(k, "guest.a", "1");
	set(k, "guest.a", NULL);
	set(k, "guest.a", "2");
	keyring_free(k);
	k = begin();
	d = dirty(k);
	CHECK_INT(va_count(d.unset), 0);
	CHECK_INT(va_count(d.set), 1);
	CHECK(there(k, "guest.a", false));
	dirty_done(&d);
	keyring_free(k);
}

static int64_t watch(struct keyring *k, int64_t since, size_t *n, bool *full)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	int64_t upto = -1;

	CHECK_INT(keyring_watch(k, "*", since, true, -1, clock_now(), &v), 0);
	CHECK_INT(va_get_int(va_member(v, "revision"), &upto), 0);
	CHECK_INT(va_get_bool(va_member(v, "full"), full), 0);
	*n = va_count(va_member(v, "keys"));
	return upto;
}

TEST(numbers_of_a_watch_are_small_and_only_grow)
{
	struct keyring *k = begin();
	int64_t before, after;
	bool full;
	size_t n;

	set(k, "guest.a", "1");
	before = watch(k, -1, &n, &full);
	CHECK_INT(n, 1);
	CHECK(before > 0 && before < 10000);
	watch(k, before, &n, &full);
	CHECK(n == 0 && !full);
	/* A new server; who watched gets all there is, and later numbers. */
	keyring_free(k);
	k = begin();
	after = watch(k, before, &n, &full);
	CHECK(full);
	CHECK_INT(n, 1);
	CHECK(after > before && after < 10000);
	/* A number of another place, also one beyond 32 bits. */
	watch(k, (INT64_C(1) << 31) + 5, &n, &full);
	CHECK(full);
	CHECK_INT(n, 1);
	watch(k, INT64_MAX, &n, &full);
	CHECK(full);
	keyring_free(k);
}

TEST(another_host_is_shown_what_the_guest_set_with_its_revisions)
{
	struct keyring *k = begin();
	struct keyring_dirty d;
	int64_t revision = 0;

	push(k, "one", 0, 5, "guest.a", "1");
	d = dirty(k);
	CHECK_INT(va_count(d.set), 0);
	dirty_done(&d);
	push(k, "two", 0, 2, "host.name", "h2");
	CHECK(there(k, "guest.a", false));
	d = dirty(k);
	CHECK_INT(va_count(d.set), 1);
	CHECK_INT(va_get_int(va_member(va_member(d.options, "revisions"),
				       "guest.a"), &revision), 0);
	CHECK_INT(revision, 5);
	dirty_done(&d);
	/* What is changed here is the new host's to number. */
	set(k, "guest.a", "2");
	d = dirty(k);
	CHECK_INT(va_count(va_member(d.options, "revisions")), 0);
	dirty_done(&d);
	keyring_free(k);
}

TEST(a_clone_has_none_of_the_keys_that_the_other_machine_set)
{
	struct keyring *k = begin();
	char store[64], vm[40];
	int64_t revision;
	struct keyring_dirty d;

	push_vm(k, "one", 0, 1, VM_1, "host.name", "h", false);
	set(k, "guest.a", "1");
	set(k, "guest.b", "1");
	d = dirty(k);
	keyring_sent(k, d.seq, NULL);
	dirty_done(&d);
	set(k, "guest.c", "unsent");
	set(k, "guest.b", NULL);
	/* The same machine on another host keeps them. */
	push_vm(k, "two", 0, 1, VM_1, "host.name", "h2", false);
	CHECK(there(k, "guest.a", false));
	keyring_state(k, store, vm, &revision);
	CHECK_STR(vm, VM_1);
	keyring_free(k);
	k = begin();
	push_vm(k, "three", 0, 1, VM_2, "user.a", "1", false);
	CHECK(!there(k, "guest.a", false) && !there(k, "guest.c", false));
	CHECK(there(k, "user.a", false));
	d = dirty(k);
	CHECK_INT(va_count(d.set) + va_count(d.unset), 0);
	dirty_done(&d);
	CHECK_INT(mode_of("kv/guest.a"), 0);
	/* Also for a server to come. */
	keyring_free(k);
	k = begin();
	keyring_state(k, store, vm, &revision);
	CHECK_STR(vm, VM_2);
	CHECK(!there(k, "guest.a", false));
	keyring_free(k);
}

UNIT_MAIN(CASE(files_are_for_who_may_read_and_names_are_not_listed),
	  CASE(a_removal_that_the_host_was_not_told_of_outlives_the_server),
	  CASE(a_key_that_was_set_again_is_no_removal),
	  CASE(numbers_of_a_watch_are_small_and_only_grow),
	  CASE(another_host_is_shown_what_the_guest_set_with_its_revisions),
	  CASE(a_clone_has_none_of_the_keys_that_the_other_machine_set))
