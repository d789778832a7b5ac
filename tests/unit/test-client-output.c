/*
 * test-client-output.c - nothing raw reaches a terminal, nothing is changed on
 * a pipe; tables and sizes
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <pty.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "tests/lib/unit.h"
#include "virtagent/client/output.h"
#include "virtagent/client/path.h"
#include "virtagent/client/progress.h"
#include "virtagent/client/table.h"
#include "common/clock.h"

/* A stream that escapes, into memory, fed in pieces of the given size. */
static char *escaped(const char *text, size_t n, size_t piece)
{
	char *mem = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&mem, &size);
	struct out_stream s = { .to = f, .escape = true, .newline = true };

	CHECK(f != NULL);
	for (size_t at = 0; at < n; at += piece)
		CHECK_INT(out_stream_write(&s, text + at,
					   n - at < piece ? n - at : piece), 0);
	CHECK_INT(out_stream_end(&s), 0);
	fclose(f);
	return mem;
}

TEST(a_stream_is_escaped_the_same_however_it_is_cut)
{
	static const char text[] = "a\tb\n\033[2J\\red\x7f\x9b \xc3\xa4\xe2\x82\xac"
				   "\xf0\x9f\x98\x80 \xe2\x80\xae!\xff\xc3\r\nz\xe2";
	char *whole = escaped(text, sizeof(text) - 1, sizeof(text));

	CHECK(!strchr(whole, '\033'));
	CHECK(!strchr(whole, '\r'));
	CHECK(!strchr(whole, '\x7f'));
	CHECK(strstr(whole, "a\tb\n\\x1b[2J\\red\\x7f\\x9b \xc3\xa4\xe2\x82\xac"
			    "\xf0\x9f\x98\x80 \\xe2\\x80\\xae!\\xff\\xc3\\x0d\n"
			    "z\\xe2\n") == whole);
	for (size_t piece = 1; piece < 9; piece++) {
		char *cut = escaped(text, sizeof(text) - 1, piece);

		CHECK_STR(cut, whole);
		free(cut);
	}
	free(whole);
}

TEST(long_runs_keep_their_characters)
{
	char text[4000], *out;

	/* Two-byte letters, so that an odd limit falls within one. */
	for (size_t i = 0; i < sizeof(text); i += 2)
		memcpy(text + i, "\xc3\xa4", 2);
	text[0] = 'x';
	text[1] = 'y';
	out = escaped(text + 1, sizeof(text) - 1, sizeof(text));
	CHECK_INT(strlen(out), sizeof(text)); /* and the newline */
	CHECK(!strchr(out, '\\'));
	free(out);
}

TEST(a_pipe_gets_the_bytes_as_they_are)
{
	static const char text[] = "\0\033[2J\xff";
	struct client cl = { 0 };
	struct out_stream s;
	char got[16];
	int fds[2];
	FILE *f;

	CHECK_INT(pipe(fds), 0);
	f = fdopen(fds[1], "w");
	CHECK(f != NULL);
	out_stream_init(&s, &cl, f);
	CHECK(!s.escape);
	CHECK_INT(out_stream_write(&s, text, 6), 0);
	CHECK_INT(out_stream_end(&s), 0);
	CHECK_INT(read(fds[0], got, sizeof(got)), 6);
	CHECK_MEM(got, text, 6);
	fclose(f);
	close(fds[0]);
}

TEST(a_terminal_is_recognised_unless_raw)
{
	struct client cl = { 0 };
	int master, slave;
	FILE *f;

	CHECK_INT(openpty(&master, &slave, NULL, NULL, NULL), 0);
	f = fdopen(slave, "w");
	CHECK(out_is_terminal(&cl, f));
	cl.raw = true;
	CHECK(!out_is_terminal(&cl, f));
	fclose(f);
	close(master);
}

TEST(a_table_is_aligned_and_escaped)
{
	struct table *t = table_new("NAME,>SIZE,WHAT");
	char *mem = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&mem, &size);

	CHECK(t && f);
	CHECK_INT(table_cell(t, "a"), 0);
	CHECK_INT(table_cellf(t, "%d", 7), 0);
	CHECK_INT(table_cell(t, "x\033[31m"), 0);
	CHECK_INT(table_cell(t, "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"), 0);
	CHECK_INT(table_cell(t, "12345"), 0);
	CHECK_INT(table_cell(t, "y\nz"), 0);
	CHECK_INT(table_print(t, f, true), 0);
	fclose(f);
	CHECK_STR(mem, "NAME    SIZE  WHAT\n"
		       "a          7  x\\x1b[31m\n"
		       "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4  12345  y\\x0az\n");
	free(mem);
	table_free(t);
}

TEST(members_become_cells)
{
	CLEANUP_VALUE struct va_value *v = va_struct(), *list = va_array();
	struct table *t = table_new("A,B,C,D,E");
	char *mem = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&mem, &size);

	CHECK_INT(va_append(list, va_string("10.0.0.1")), 0);
	CHECK_INT(va_append(list, va_int(5)), 0);
	CHECK_INT(va_set(v, "list", take_ptr(list)), 0);
	CHECK_INT(va_set(v, "yes", va_bool(true)), 0);
	CHECK_INT(va_set(v, "bytes", va_bytes("a\033", 2)), 0);
	CHECK_INT(va_set(v, "nil", va_nil()), 0);
	table_member(t, v, "list");
	table_member(t, v, "yes");
	table_member(t, v, "bytes");
	table_member(t, v, "nil");
	table_member(t, v, "missing");
	CHECK_INT(table_print(t, f, false), 0);
	fclose(f);
	CHECK_STR(mem, "10.0.0.1,5  yes  a\\x1b  -  -\n");
	free(mem);
	table_free(t);
}

TEST(sizes_and_progress_are_readable)
{
	struct progress p = { .done = 512u << 20, .total = 1u << 30,
			      .start_ns = 0 };
	char text[160];

	out_size(text, sizeof(text), 0);
	CHECK_STR(text, "0 B");
	out_size(text, sizeof(text), 1536);
	CHECK_STR(text, "1.5 KiB");
	out_size(text, sizeof(text), 5e15);
	CHECK(strstr(text, "TiB"));
	progress_text(&p, 8 * NSEC_PER_SEC, text, sizeof(text));
	CHECK(strstr(text, " 50%"));
	CHECK(strstr(text, "64.0 MiB/s"));
	CHECK(strstr(text, "00:00:08"));
	p.total = 0;
	progress_text(&p, 8 * NSEC_PER_SEC, text, sizeof(text));
	CHECK(!strchr(text, '%'));
}

TEST(paths_are_split_and_encoded)
{
	char buf[16], *s;
	const char *guest, *path;

	CHECK_INT(path_split("vm1:/etc", buf, sizeof(buf), &guest, &path), 0);
	CHECK_STR(guest, "vm1");
	CHECK_STR(path, "/etc");
	CHECK_INT(path_split("/a:b", buf, sizeof(buf), &guest, &path), 0);
	CHECK(!guest);
	CHECK_INT(path_split("./a:b", buf, sizeof(buf), &guest, &path), 0);
	CHECK(!guest);
	CHECK_INT(path_split("d/a:b", buf, sizeof(buf), &guest, &path), 0);
	CHECK(!guest);
	CHECK_INT(path_split(":/x", buf, sizeof(buf), &guest, &path), 0);
	CHECK_STR(guest, "");
	CHECK_INT(path_split("unix:/s:/x", buf, sizeof(buf), &guest, &path), 0);
	CHECK_STR(guest, "unix:/s");
	CHECK_STR(path, "/x");
	CHECK_INT(path_split("a-name-that-is-too-long:/x", buf, sizeof(buf),
			     &guest, &path), -E2BIG);
	s = path_encode("/a b&\xff%");
	CHECK_STR(s, "/a%20b%26%FF%25");
	free(s);
	s = path_base("/a/b//");
	CHECK_STR(s, "b");
	free(s);
	s = path_base("/");
	CHECK_STR(s, "");
	free(s);
	CHECK(path_name_ok("a..b") && path_name_ok("..."));
	CHECK(!path_name_ok("") && !path_name_ok(".") && !path_name_ok("..") &&
	      !path_name_ok("a/b"));
}

UNIT_MAIN(CASE(a_stream_is_escaped_the_same_however_it_is_cut),
	  CASE(long_runs_keep_their_characters),
	  CASE(a_pipe_gets_the_bytes_as_they_are),
	  CASE(a_terminal_is_recognised_unless_raw),
	  CASE(a_table_is_aligned_and_escaped), CASE(members_become_cells),
	  CASE(sizes_and_progress_are_readable),
	  CASE(paths_are_split_and_encoded))
