/*
 * test-common-log.c - a hostile text cannot forge or hide a log line
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/log.h"
#include "tests/lib/unit.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"

static char text[65536];

static const char *slurp(const char *path)
{
	CLEANUP_FCLOSE FILE *f = fopen(path, "r");

	CHECK(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	return text;
}

static size_t count(const char *hay, const char *needle)
{
	size_t n = 0;

	for (; (hay = strstr(hay, needle)); hay++)
		n++;
	return n;
}

TEST(escape_leaves_letters_and_spells_the_rest)
{
	char out[64];
	static const char in[] = "a\n\x1b[1m\xc3\xa4\xff\\\x7f\0z";

	CHECK_STR(log_escape(out, sizeof(out), in, sizeof(in) - 1),
		  "a\\x0a\\x1b[1m\xc3\xa4\\xff\\x5c\\x7f\\x00z");
	/* Right-to-left override, zero-width joiner, C1 control. */
	CHECK_STR(log_escape(out, sizeof(out), "\xe2\x80\xae\xe2\x80\x8d\xc2\x9b", 8),
		  "\\xe2\\x80\\xae\\xe2\\x80\\x8d\\xc2\\x9b");
}

TEST(escape_is_cut_visibly_and_never_overruns)
{
	char out[16];

	for (size_t size = 1; size <= sizeof(out); size++) {
		memset(out, '#', sizeof(out));
		log_escape(out, size, "\x01\x02\x03\x04\x05", 5);
		CHECK(strlen(out) < size);
		for (size_t i = size; i < sizeof(out); i++)
			CHECK(out[i] == '#');
	}
	CHECK_STR(log_escape(out, 8, "abcdefghij", 10), "abcd...");
	CHECK_STR(log_escape(out, 8, "abcdefg", 7), "abcdefg");
}

TEST(a_record_is_one_line_with_its_level)
{
	CLEANUP_FREE char *path = str_printf("%s/log", unit_tmpdir());
	struct stat st;

	log_init("prog");
	log_set_context("web\n1");
	CHECK_INT(log_set_target(path), 0);
	log_warning("two\nlines");
	log_debug("not shown");
	CHECK_INT(count(slurp(path), "\n"), 1);
	CHECK(strstr(text, "prog["));
	CHECK(strstr(text, "web\\x0a1: warning: two lines\n"));
	CHECK_INT(stat(path, &st), 0);
	CHECK_INT(st.st_mode & 0777, 0600);
	CHECK_INT(log_set_target("stderr"), 0);
}

TEST(a_long_record_is_cut)
{
	CLEANUP_FREE char *path = str_printf("%s/log", unit_tmpdir());
	CLEANUP_FREE char *big = malloc(10000);

	memset(big, 'x', 9999);
	big[9999] = 0;
	CHECK_INT(log_set_target(path), 0);
	log_error("%s", big);
	slurp(path);
	CHECK(strlen(text) <= 2048 && strlen(text) > 2000);
	CHECK_STR(text + strlen(text) - 5, "x...\n");
	CHECK_INT(log_set_target("stderr"), 0);
}

TEST(reopen_follows_a_rotated_file)
{
	CLEANUP_FREE char *path = str_printf("%s/log", unit_tmpdir());
	CLEANUP_FREE char *old = str_printf("%s/log.1", unit_tmpdir());

	CHECK_INT(log_set_target(path), 0);
	log_info("first");
	CHECK_INT(rename(path, old), 0);
	log_info("second");
	CHECK_INT(log_reopen(), 0);
	log_info("third");
	CHECK_INT(count(slurp(old), "\n"), 2);
	CHECK_INT(count(slurp(path), "third"), 1);
	CHECK_INT(log_set_target("stderr"), 0);
}

TEST(a_target_that_fails_leaves_the_old_one)
{
	CLEANUP_FREE char *path = str_printf("%s/log", unit_tmpdir());
	CLEANUP_FREE char *link = str_printf("%s/link", unit_tmpdir());

	CHECK_INT(symlink("/etc/passwd", link), 0);
	CHECK_INT(log_set_target(path), 0);
	CHECK_INT(log_set_target(link), -ELOOP);
	CHECK_INT(log_set_target("/nonexistent/log"), -ENOENT);
	log_info("still here");
	CHECK_INT(count(slurp(path), "still here"), 1);
	CHECK_INT(log_set_target("stderr"), 0);
}

TEST(the_limit_counts_what_it_leaves_out)
{
	CLEANUP_FREE char *path = str_printf("%s/log", unit_tmpdir());
	struct log_limit limit = LOG_LIMIT_INIT;

	CHECK_INT(log_set_target(path), 0);
	for (int i = 0; i < 25; i++)
		log_ratelimited(&limit, LOG_LVL_WARNING, "noise %d", i);
	CHECK_INT(count(slurp(path), "noise"), 10);
	limit.interval_ns = 0; /* as if the window had passed */
	log_ratelimited(&limit, LOG_LVL_WARNING, "noise again");
	slurp(path);
	CHECK_INT(count(text, "15 similar messages were left out"), 1);
	CHECK_INT(count(text, "noise again"), 1);
	CHECK_INT(log_set_target("stderr"), 0);
}

static char sunk[256];

static void sink(enum log_level level, const char *line)
{
	snprintf(sunk, sizeof(sunk), "%d %s", (int)level, line);
}

TEST(a_sink_takes_lines_until_it_is_gone)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/log", unit_tmpdir());
	CHECK_INT(log_set_target(path), 0);
	log_set_sink(sink);
	log_warning("number %d", 5);
	CHECK_STR(sunk, "1 number 5");
	CHECK_STR(slurp(path), "");
	log_write(LOG_LVL_ERROR, "written %s");
	CHECK_INT(count(slurp(path), "error: written %s\n"), 1);
	log_set_sink(NULL);
	log_info("again");
	CHECK_INT(count(slurp(path), "info: again\n"), 1);
	CHECK_INT(log_set_target("stderr"), 0);
}

UNIT_MAIN(CASE(escape_leaves_letters_and_spells_the_rest),
	  CASE(escape_is_cut_visibly_and_never_overruns),
	  CASE(a_record_is_one_line_with_its_level), CASE(a_long_record_is_cut),
	  CASE(reopen_follows_a_rotated_file),
	  CASE(a_target_that_fails_leaves_the_old_one),
	  CASE(the_limit_counts_what_it_leaves_out),
	  CASE(a_sink_takes_lines_until_it_is_gone))
