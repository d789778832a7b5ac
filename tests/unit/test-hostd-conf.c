/*
 * test-hostd-conf.c - va-hostd's configuration: guests, names, errors
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/str.h"
#include "tests/lib/unit.h"
#include "virtagent/hostd_conf.h"
#include "virtagent/hostd_pattern.h"

static char *path_of(const char *name)
{
	return str_printf("%s/%s", unit_tmpdir(), name);
}

static void put(const char *name, const char *text)
{
	CLEANUP_FREE char *path = path_of(name);
	FILE *f = fopen(path, "w");

	CHECK(f);
	CHECK(fputs(text, f) >= 0);
	CHECK(fclose(f) == 0);
	CHECK(chmod(path, 0600) == 0);
}

static void put_guests(void)
{
	CLEANUP_FREE char *dir = path_of("guests.d");

	CHECK(mkdir(dir, 0700) == 0);
}

static int load(struct hostd_conf *c, const char *const *words, size_t nwords,
		char err[512])
{
	CLEANUP_FREE char *file = path_of("hostd.conf");
	CLEANUP_FREE char *dir = path_of("guests.d");

	return hostd_conf_load(c, file, false, dir, words, nwords, err, 512);
}

/* The configuration is refused, and the message says all of these. */
static void check_refused(const char *const *words, size_t nwords,
			  const char *a, const char *b, const char *c)
{
	struct hostd_conf conf;
	char err[512];

	CHECK(load(&conf, words, nwords, err) < 0);
	if (!strstr(err, a) || !strstr(err, b) || !strstr(err, c))
		unit_fail(__FILE__, __LINE__, "message \"%s\" lacks \"%s\", "
			  "\"%s\" or \"%s\"", err, a, b, c);
	CHECK_INT(conf.nguests, 0);
}

TEST(limits_of_virtproxies_are_times_from_a_second_to_a_day)
{
	struct hostd_conf c;
	char err[512];

	put_guests();
	put("hostd.conf", "[hostd]\n");
	CHECK_INT(load(&c, NULL, 0, err), 0);
	CHECK_INT(c.watch.hang_ns, 60 * NSEC_PER_SEC);
	CHECK_INT(c.watch.spin_ns, 60 * NSEC_PER_SEC);
	hostd_conf_done(&c);
	put("hostd.conf", "[hostd]\nhang-limit = 5m\nspin-limit = 0s\n");
	CHECK_INT(load(&c, NULL, 0, err), 0);
	CHECK_INT(c.watch.hang_ns, 300 * NSEC_PER_SEC);
	CHECK_INT(c.watch.spin_ns, 0);
	hostd_conf_done(&c);
	put("hostd.conf", "[hostd]\nhang-limit = 500ms\n");
	check_refused(NULL, 0, "hostd.conf:2: ", "hang-limit = 500ms", "less than a second");
	put("hostd.conf", "[hostd]\nspin-limit = 25h\n");
	check_refused(NULL, 0, "hostd.conf:2: ", "spin-limit = 25h", "86400 seconds");
	put("hostd.conf", "[hostd]\nspin-limit = soon\n");
	check_refused(NULL, 0, "hostd.conf:2: ", "spin-limit = soon", "not a time");
}

TEST(nothing_is_no_error)
{
	struct hostd_conf c;
	char err[512];

	CHECK_INT(load(&c, NULL, 0, err), 0);
	CHECK_INT(c.nguests, 0);
	CHECK(c.gid == (gid_t)-1);
	CHECK_INT(c.event_count, 100000);
	hostd_conf_done(&c);
}

TEST(a_named_file_must_exist)
{
	CLEANUP_FREE char *file = path_of("nothing.conf");
	CLEANUP_FREE char *dir = path_of("guests.d");
	struct hostd_conf c;
	char err[512];

	CHECK(hostd_conf_load(&c, file, true, dir, NULL, 0, err, 512) < 0);
	CHECK(strstr(err, "nothing.conf"));
}

TEST(guests_come_from_all_places)
{
	const char *words[] = { "third=tcp-connect:localhost:4444" };
	struct hostd_conf c;
	char err[512];

	put_guests();
	put("hostd.conf", "[hostd]\nvirtproxy = /opt/virtproxy\n"
	    "[events]\nmax-age = 2h\nmax-count = 7\nhook-timeout = 500ms\n"
	    "[guest first]\nchannel = unix-connect:/a.sock:-\n"
	    "qmp = /q.sock\nuuid = 12345678-1234-1234-1234-123456789abc\n");
	put("guests.d/two.conf", "# a comment\n[guest with space]\n"
	    "channel = unix-listen:/b.sock:-\n");
	if (load(&c, words, 1, err) < 0)
		unit_fail(__FILE__, __LINE__, "%s", err);
	CHECK_INT(c.nguests, 3);
	CHECK_STR(c.guests[0].name, "first");
	CHECK_STR(c.guests[0].id, "first");
	CHECK_STR(c.guests[0].channel, "unix-connect:/a.sock:-");
	CHECK_STR(c.guests[0].qmp, "/q.sock");
	CHECK_INT(c.guests[0].line, 8);
	CHECK_STR(c.guests[1].name, "with space");
	CHECK(strcmp(c.guests[1].id, "with space") != 0);
	CHECK(strstr(c.guests[1].file, "two.conf"));
	CHECK_STR(c.guests[2].name, "third");
	CHECK_STR(c.virtproxy, "/opt/virtproxy");
	CHECK_INT(c.event_age_ns, 7200 * NSEC_PER_SEC);
	CHECK_INT(c.event_count, 7);
	CHECK_INT(c.hook_timeout_ns, NSEC_PER_SEC / 2);
	hostd_conf_done(&c);
}

TEST(two_guests_of_one_name)
{
	const char *words[] = { "web=unix-connect:/x:-" };

	put_guests();
	put("guests.d/one.conf", "[guest web]\nchannel = unix-connect:/a:-\n");
	put("guests.d/two.conf", "\n\n[guest web]\nchannel = unix-connect:/b:-\n");
	check_refused(NULL, 0, "two.conf:4", "one.conf:2", "web");
	put("guests.d/two.conf", "");
	check_refused(words, 1, "--guest:1", "one.conf:2", "web");
	put("guests.d/one.conf", "[guest web]\nchannel = unix-connect:/a:-\n"
	    "[guest web]\nchannel = unix-connect:/b:-\n");
	check_refused(NULL, 0, "one.conf:4", "one.conf:2", "web");
}

TEST(two_names_of_one_directory)
{
	char id[STR_ID_MAX];
	CLEANUP_FREE char *text = NULL;

	put_guests();
	/* A guest that is called what another guest's directory is called. */
	str_path_id("with space", id);
	text = str_printf("[guest with space]\nchannel = unix-connect:/a:-\n"
			  "[guest %s]\nchannel = unix-connect:/b:-\n", id);
	put("guests.d/one.conf", text);
	check_refused(NULL, 0, id, "with space", "one.conf:2");
}

TEST(errors_name_file_line_and_value)
{
	put_guests();
	put("guests.d/a.conf", "[guest x]\nchanel = unix-connect:/a:-\n");
	check_refused(NULL, 0, "a.conf:2", "chanel", "guest");
	put("guests.d/a.conf", "[guest x]\nchannel = smoke-signal:/a:-\n");
	check_refused(NULL, 0, "a.conf:2", "x", "smoke-signal");
	put("guests.d/a.conf", "[guest x]\nqmp = /a\n");
	check_refused(NULL, 0, "a.conf:2", "x", "no channel");
	put("guests.d/a.conf", "[guest x]\nqmp = a.sock\n");
	check_refused(NULL, 0, "a.conf:2", "a.sock", "absolute");
	put("guests.d/a.conf", "[guest]\nchannel = unix-connect:/a:-\n");
	check_refused(NULL, 0, "a.conf:2", "needs a name", "guest");
	put("guests.d/a.conf", "[hostd]\ngroup = no-such-group-here\n");
	check_refused(NULL, 0, "a.conf:2", "no-such-group-here", "group");
	put("guests.d/a.conf", "[events]\nmax-age = soon\n");
	check_refused(NULL, 0, "a.conf:2", "soon", "max-age");
	put("guests.d/a.conf", "[events]\nmax-count = 99999999999\n");
	check_refused(NULL, 0, "a.conf:2", "99999999999", "max-count");
	put("guests.d/a.conf", "[guest x]\nchannel = unix-connect:/a:-\n"
	    "uuid = none\n");
	check_refused(NULL, 0, "a.conf:3", "none", "UUID");
}

TEST(command_line_guests)
{
	const char *no_equals[] = { "web" };
	const char *no_name[] = { "=unix-connect:/a:-" };
	const char *bad[] = { "ok=unix-connect:/a:-", "web=nonsense" };
	const char *twice[] = { "w=unix-connect:/a:-", "w=unix-connect:/b:-" };

	check_refused(no_equals, 1, "--guest:1", "web", "NAME=");
	check_refused(no_name, 1, "--guest:1", "name", "");
	check_refused(bad, 2, "--guest:2", "web", "nonsense");
	check_refused(twice, 2, "--guest:2", "--guest:1", "w");
}

TEST(an_unsafe_file_is_refused)
{
	CLEANUP_FREE char *path = path_of("guests.d/a.conf");

	put_guests();
	put("guests.d/a.conf", "[guest x]\nchannel = unix-connect:/a:-\n");
	CHECK(chmod(path, 0666) == 0);
	check_refused(NULL, 0, "a.conf", "", "");
}

TEST(same_means_channel_and_qmp)
{
	struct guest_spec a = { .channel = (char *)"c", .qmp = NULL };
	struct guest_spec b = { .channel = (char *)"c", .qmp = (char *)"q" };

	CHECK(guest_spec_same(&a, &a));
	CHECK(guest_spec_same(&b, &b));
	CHECK(!guest_spec_same(&a, &b));
	b = a;
	b.channel = (char *)"d";
	CHECK(!guest_spec_same(&a, &b));
}

TEST(a_pattern_names_the_guest_of_a_path)
{
	static const struct {
		const char *pattern, *path, *name;
		uint64_t id;
	} rows[] = {
		{ "/d/domain-{id}-{name}/p", "/d/domain-12-web/p", "web", 12 },
		{ "/d/domain-{id}-{name}/p", "/d/domain-1-2-b/p", "2-b", 1 },
		{ "/d/domain-{id}-{name}/p", "/d/domain-x-web/p", NULL, 0 },
		{ "/d/domain-{id}-{name}/p", "/d/domain-1-/p", NULL, 0 },
		{ "/d/{name}.sock", "/d/a.sock", "a", 0 },
		{ "/d/{name}.sock", "/d/a.sock.sock", "a.sock", 0 },
		{ "/d/{name}.sock", "/d/a/b.sock", NULL, 0 },
		{ "/d/{name}.sock", "/d/.sock", NULL, 0 },
		{ "/d/*/{name}", "/d/any/x y", "x y", 0 },
		{ "/d/*/{name}", "/d//x", "x", 0 },
		{ "/d/{name}-*", "/d/a-b-c", "a-b", 0 },
	};
	char name[256];
	uint64_t id;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int r = pattern_match(rows[i].pattern, rows[i].path, name, sizeof(name),
				      &id);

		if (!rows[i].name) {
			CHECK_INT(r, -ENOENT);
			continue;
		}
		CHECK_INT(r, 0);
		CHECK_STR(name, rows[i].name);
		CHECK_INT(id, rows[i].id);
	}
	CHECK_INT(pattern_match("/{name}", "/abcdef", name, 6, &id), -ENOENT);
}

TEST(libvirts_channels_are_two_patterns)
{
	struct hostd_conf c;
	char err[512];

	put("hostd.conf", "[discover]\nlibvirt = yes\nchannels = /x/{name}\n");
	put_guests();
	CHECK_INT(load(&c, NULL, 0, err), 0);
	CHECK_INT(c.channels.n, 4);
	CHECK(strstr(c.channels.list[0], "/domain-{id}-{name}/org.virtagent.0"));
	CHECK(strstr(c.channels.list[1], "/serial/{name}.sock"));
	CHECK(strstr(c.channels.list[2], "/{id}-{name}/org.virtagent.0"));
	CHECK_STR(c.channels.list[3], "/x/{name}");
	CHECK_INT(c.monitors.n, 0);
	hostd_conf_done(&c);
}

UNIT_MAIN(CASE(limits_of_virtproxies_are_times_from_a_second_to_a_day),
	  CASE(a_pattern_names_the_guest_of_a_path),
	  CASE(libvirts_channels_are_two_patterns),
	  CASE(nothing_is_no_error), CASE(a_named_file_must_exist),
	  CASE(guests_come_from_all_places), CASE(two_guests_of_one_name),
	  CASE(two_names_of_one_directory),
	  CASE(errors_name_file_line_and_value), CASE(command_line_guests),
	  CASE(an_unsafe_file_is_refused), CASE(same_means_channel_and_qmp))
