/*
 * test-common-conf.c - an error names file, line and reason
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/conf.h"
#include "tests/lib/unit.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"

static struct conf c;
static char err[256];

static int parse(const char *text)
{
	err[0] = 0;
	return conf_parse(&c, "f.conf", text, strlen(text), err, sizeof(err));
}

TEST(sections_names_and_keys)
{
	CHECK_INT(parse("top=1\n# note\n; note\n[agent]\r\n log = /x y \r\n"
			"[guest  web 1 ]\nchannel = unix-connect:/s:-:0\n"
			"empty =\nlog=a\nlog = b=c\nlast=end"), 0);
	CHECK_INT(c.count, 7);
	CHECK_STR(conf_get(&c, "", "", "top"), "1");
	CHECK_STR(conf_get(&c, "agent", "", "log"), "/x y");
	CHECK_STR(conf_get(&c, "guest", "web 1", "channel"), "unix-connect:/s:-:0");
	CHECK_STR(conf_get(&c, "guest", "web 1", "empty"), "");
	CHECK_STR(conf_get(&c, "guest", "web 1", "log"), "b=c");
	CHECK_STR(conf_get(&c, "guest", "web 1", "last"), "end");
	CHECK(!conf_get(&c, "guest", "", "log"));
	CHECK_INT(c.entries[5].line, 10);
	CHECK_STR(c.entries[5].file, "f.conf");
	conf_done(&c);
}

TEST(errors_name_the_line)
{
	static const char *const rows[][2] = {
		{ "a=1\n[agent\n", "f.conf:2: \"]\" is missing" },
		{ "[]\n", "f.conf:1: the section has no name" },
		{ "\n\nword\n", "f.conf:3: neither" },
		{ "=x\n", "f.conf:1: the key is missing" },
		{ "a=\x01\n", "f.conf:1: control characters" },
		{ "a=\xff\n", "f.conf:1: control characters" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_INT(parse(rows[i][0]), -EINVAL);
		if (!str_starts(err, rows[i][1]))
			unit_fail(__FILE__, __LINE__, "row %zu: %s", i, err);
		conf_done(&c);
	}
	CHECK_INT(conf_parse(&c, "f", "a=\0b\n", 5, err, sizeof(err)), -EINVAL);
	CHECK_STR(err, "f:1: a NUL byte");
	conf_done(&c);
}

TEST(limits_hold)
{
	CLEANUP_FREE char *text = malloc(2 << 20);
	char *to = text;

	memset(text, 'a', 2 << 20);
	CHECK_INT(conf_parse(&c, "f", text, (1 << 20) + 1, err, sizeof(err)), -EINVAL);
	CHECK_INT(conf_parse(&c, "f", text, 5000, err, sizeof(err)), -EINVAL);
	CHECK_STR(err, "f:1: longer than 4096 bytes");
	conf_done(&c);
	for (int i = 0; i < 4097; i++)
		to += sprintf(to, "k=%d\n", i);
	CHECK_INT(conf_parse(&c, "f", text, (size_t)(to - text), err, sizeof(err)),
		  -EINVAL);
	CHECK_STR(err, "f:4097: more than 4096 entries");
	CHECK_STR(conf_get(&c, "", "", "k"), "4095");
	conf_done(&c);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	CHECK(f);
	fputs(text, f);
	fclose(f);
	CHECK_INT(chmod(path, mode), 0);
}

TEST(a_file_that_others_may_write_is_refused)
{
	CLEANUP_FREE char *path = str_printf("%s/a.conf", unit_tmpdir());

	write_file(path, "k=v\n", 0620);
	CHECK_INT(conf_read_file(&c, path, err, sizeof(err)), -EPERM);
	CHECK(strstr(err, "a.conf: writable by group or others"));
	CHECK_INT(conf_read_file(&c, unit_tmpdir(), err, sizeof(err)), -EPERM);
	CHECK(strstr(err, "not a regular file"));
	CHECK_INT(unlink(path), 0);
	CHECK_INT(mkfifo(path, 0600), 0);
	CHECK_INT(conf_read_file(&c, path, err, sizeof(err)), -EPERM);
	CHECK_INT(unlink(path), 0);
	CHECK_INT(conf_read_file(&c, path, err, sizeof(err)), -ENOENT);
	CHECK(strstr(err, "a.conf: No such file"));
	CHECK_INT(c.count, 0);
}

TEST(a_directory_is_read_in_name_order)
{
	CLEANUP_FREE char *a = str_printf("%s/a.conf", unit_tmpdir());
	CLEANUP_FREE char *b = str_printf("%s/b.conf", unit_tmpdir());
	CLEANUP_FREE char *other = str_printf("%s/c.conf~", unit_tmpdir());

	write_file(b, "[s]\nk=from b\n", 0600);
	write_file(a, "[s]\nk=from a\n", 0644);
	write_file(other, "junk\n", 0644);
	CHECK_INT(conf_read_dir(&c, unit_tmpdir(), err, sizeof(err)), 0);
	CHECK_INT(c.count, 2);
	CHECK_STR(conf_get(&c, "s", "", "k"), "from b");
	conf_done(&c);
	write_file(a, "junk\n", 0600);
	CHECK_INT(conf_read_dir(&c, unit_tmpdir(), err, sizeof(err)), -EINVAL);
	CHECK(strstr(err, "a.conf:1: "));
	conf_done(&c);
	CHECK_INT(conf_read_dir(&c, "/nonexistent", err, sizeof(err)), 0);
}

UNIT_MAIN(CASE(sections_names_and_keys), CASE(errors_name_the_line),
	  CASE(limits_hold), CASE(a_file_that_others_may_write_is_refused),
	  CASE(a_directory_is_read_in_name_order))
