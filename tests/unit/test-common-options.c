/*
 * test-common-options.c - rows, getopt and help agree
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/options.h"
#include "tests/lib/unit.h"

#include <stdlib.h>
#include <unistd.h>

struct seen {
	char log[256];
};

static void note(void *ctx, const char *what, const char *value)
{
	struct seen *s = ctx;
	size_t n = strlen(s->log);

	snprintf(s->log + n, sizeof(s->log) - n, "%s=%s ", what,
		 value ? value : "-");
}

static int set_channel(void *ctx, const char *value, char *err, size_t err_size)
{
	note(ctx, "c", value);
	if (strcmp(value, "bad") == 0) {
		snprintf(err, err_size, "%s is bad", value);
		return -EINVAL;
	}
	return 0;
}

static int set_guest(void *ctx, const char *value, char *err, size_t err_size)
{
	note(ctx, "g", value);
	return 0;
}

static int set_ctl(void *ctx, const char *value, char *err, size_t err_size)
{
	note(ctx, "ctl", value);
	return 0;
}

static const struct option_row rows[] = {
	{ 'c', "channel", "SPEC", "the channel", set_channel },
	{ 'g', "guest", "[ID]", "the guest's end", set_guest },
	{ 'V', NULL, NULL, NULL, set_guest },
	{ 0, "ctl", "PATH", "control socket", set_ctl },
};

static const struct options opts = {
	.program = "prog", .usage = "FILE", .about = "About.", .rows = rows,
	.nrows = sizeof(rows) / sizeof(rows[0]), .epilog = "Epilog.",
};

static struct seen seen;
static int operand;

/* Parses a command line that is split at blanks. */
static int parse(const char *line, int stop)
{
	static char copy[256], *argv[16];
	int argc = 0;

	seen.log[0] = 0;
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *p = strtok(copy, " "); p; p = strtok(NULL, " "))
		argv[argc++] = p;
	argv[argc] = NULL;
	return options_parse(&opts, &seen, argc, argv, stop, &operand);
}

TEST(short_and_long_forms)
{
	CHECK_INT(parse("prog -c a --channel b --channel=c -g -g7 --guest --guest=8 "
			"--ctl x -V rest", 0), 0);
	CHECK_STR(seen.log, "c=a c=b c=c g=- g=7 g=- g=8 ctl=x g=- ");
	CHECK_INT(operand, 13);
	CHECK_INT(parse("prog -cx f -g", 1), 0);
	CHECK_STR(seen.log, "c=x ");
	CHECK_INT(operand, 2);
	CHECK_INT(parse("prog -- -c", 1), 0);
	CHECK_INT(operand, 2);
}

/* What parse() writes to stdout or stderr. */
static const char *output_of(const char *line, int fd, int want)
{
	static char text[2048];
	FILE *f = tmpfile();
	int saved = dup(fd);

	fflush(NULL);
	dup2(fileno(f), fd);
	CHECK_INT(parse(line, 0), want);
	fflush(NULL);
	dup2(saved, fd);
	close(saved);
	rewind(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	return text;
}

TEST(errors_name_the_option_and_hint_at_help)
{
	static const char *const lines[][2] = {
		{ "prog -x", "prog: unknown option -x\n" },
		{ "prog --nope", "prog: unknown option --nope\n" },
		{ "prog -c", "prog: an argument is missing after -c\n" },
		{ "prog --ctl", "prog: an argument is missing after --ctl\n" },
		{ "prog --help=1", "prog: no argument is taken by --help=1\n" },
		{ "prog -c bad", "prog: --channel: bad is bad\n" },
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		const char *text = output_of(lines[i][0], 2, -EINVAL);

		if (strncmp(text, lines[i][1], strlen(lines[i][1])) != 0)
			unit_fail(__FILE__, __LINE__, "%s gave: %s", lines[i][0], text);
		CHECK(strstr(text, "Try \"prog --help\".\n"));
	}
}

TEST(help_lists_what_is_shown)
{
	const char *text = output_of("prog -h", 1, 1);

	CHECK(strstr(text, "Usage: prog [OPTION...] FILE\n\nAbout.\n"));
	CHECK(strstr(text, "  -c, --channel=SPEC"));
	CHECK(strstr(text, "  -g, --guest[=ID]"));
	CHECK(strstr(text, "      --ctl=PATH"));
	CHECK(strstr(text, "  -h, --help"));
	CHECK(strstr(text, "      --version"));
	CHECK(strstr(text, "Epilog.\n"));
	CHECK(!strstr(text, "-V"));
	text = output_of("prog --version", 1, 1);
	CHECK(strncmp(text, "prog (virtagent) " PACKAGE_VERSION "\n",
		      strlen("prog (virtagent) " PACKAGE_VERSION "\n")) == 0);
}

UNIT_MAIN(CASE(short_and_long_forms), CASE(errors_name_the_option_and_hint_at_help),
	  CASE(help_lists_what_is_shown))
