/*
 * options.c - see options.h
 *
 * getopt_long() gets its tables from the rows: a row's value is its index plus
 * ROW_BASE, short options are found again by their letter.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

#define ROW_BASE 0x1000
#define VAL_HELP 0x101
#define VAL_VERSION 0x102
#define HELP_COLUMN 30

static int row_has_arg(const struct option_row *row)
{
	if (!row->arg)
		return no_argument;
	return row->arg[0] == '[' ? optional_argument : required_argument;
}

static bool has_short(const struct options *o, int letter)
{
	for (size_t i = 0; i < o->nrows; i++)
		if (o->rows[i].short_name == letter)
			return true;
	return false;
}

static bool has_long(const struct options *o, const char *name)
{
	for (size_t i = 0; i < o->nrows; i++)
		if (o->rows[i].long_name && strcmp(o->rows[i].long_name, name) == 0)
			return true;
	return false;
}

/* "+:ab:c::h" */
static char *short_table(const struct options *o, bool stop_at_operand)
{
	char *s = malloc(o->nrows * 3 + 4), *to = s;

	if (!s)
		return NULL;
	if (stop_at_operand)
		*to++ = '+';
	*to++ = ':';
	for (size_t i = 0; i < o->nrows; i++) {
		if (!o->rows[i].short_name)
			continue;
		*to++ = (char)o->rows[i].short_name;
		for (int n = row_has_arg(&o->rows[i]); n > 0; n--)
			*to++ = ':';
	}
	if (!has_short(o, 'h'))
		*to++ = 'h';
	*to = 0;
	return s;
}

static struct option *long_table(const struct options *o)
{
	struct option *t = calloc(o->nrows + 3, sizeof(*t)), *to = t;

	if (!t)
		return NULL;
	for (size_t i = 0; i < o->nrows; i++)
		if (o->rows[i].long_name)
			*to++ = (struct option){ o->rows[i].long_name,
						 row_has_arg(&o->rows[i]), NULL,
						 ROW_BASE + (int)i };
	if (!has_long(o, "help"))
		*to++ = (struct option){ "help", no_argument, NULL, VAL_HELP };
	if (!has_long(o, "version"))
		*to++ = (struct option){ "version", no_argument, NULL, VAL_VERSION };
	return t;
}

static const struct option_row *find_row(const struct options *o, int val)
{
	if (val >= ROW_BASE)
		return &o->rows[val - ROW_BASE];
	for (size_t i = 0; i < o->nrows; i++)
		if (o->rows[i].short_name == val)
			return &o->rows[i];
	return NULL;
}

static int complain(const struct options *o, const char *what, const char *option,
		    const char *why)
{
	fprintf(stderr, "%s: %s%s%s%s\nTry \"%s --help\".\n", o->program, what,
		option, *why ? ": " : "", why, o->program);
	return -EINVAL;
}

/* getopt's ':' and '?': which option was it? */
static int complain_getopt(const struct options *o, int c, char **argv)
{
	char letter[3] = { '-', (char)optopt, 0 };
	bool is_letter = optopt > 0 && optopt < 0x100;
	const char *option = is_letter ? letter : argv[optind - 1];

	if (c == ':')
		return complain(o, "an argument is missing after ", option, "");
	if (optopt >= 0x100)
		return complain(o, "no argument is taken by ", option, "");
	return complain(o, "unknown option ", option, "");
}

static int apply_row(const struct options *o, const struct option_row *row,
		     void *ctx)
{
	char err[512] = "", name[64];

	if (row->set(ctx, optarg, err, sizeof(err)) == 0)
		return 0;
	if (row->long_name)
		snprintf(name, sizeof(name), "--%s", row->long_name);
	else
		snprintf(name, sizeof(name), "-%c", row->short_name);
	return complain(o, name, "", err);
}

int options_parse(const struct options *o, void *ctx, int argc, char **argv,
		  int stop_at_operand, int *first_operand)
{
	CLEANUP_FREE char *shorts = short_table(o, stop_at_operand);
	CLEANUP_FREE struct option *longs = long_table(o);
	int c;

	if (!shorts || !longs)
		return complain(o, "out of memory", "", "");
	optind = 0; /* start over, in glibc and musl */
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_row *row = NULL;

		if (c != '?' && c != ':')
			row = find_row(o, c);
		if (!row && (c == 'h' || c == VAL_HELP)) {
			options_help(o, stdout);
			return 1;
		}
		if (c == VAL_VERSION) {
			options_version(o->program, stdout);
			return 1;
		}
		if (!row)
			return complain_getopt(o, c, argv);
		if (apply_row(o, row, ctx) < 0)
			return -EINVAL;
	}
	*first_operand = optind;
	return 0;
}

static void help_line(FILE *to, int letter, const char *name, const char *arg,
		      const char *help)
{
	bool optional = arg && arg[0] == '[';
	int n = 2;

	fputs("  ", to);
	if (letter)
		n += fprintf(to, "-%c%s", letter, name ? ", " : "");
	else
		n += fprintf(to, "    ");
	if (name)
		n += fprintf(to, "--%s", name);
	if (arg && name && optional) /* "[ID]" -> "[=ID]" */
		n += fprintf(to, "[=%s", arg + 1);
	else if (arg)
		n += fprintf(to, "%s%s", name ? "=" : optional ? "" : " ", arg);
	if (n >= HELP_COLUMN) {
		fputc('\n', to);
		n = 0;
	}
	fprintf(to, "%*s%s\n", HELP_COLUMN - n, "", help);
}

void options_help(const struct options *o, FILE *to)
{
	fprintf(to, "Usage: %s [OPTION...]%s%s\n", o->program,
		o->usage ? " " : "", o->usage ? o->usage : "");
	if (o->about)
		fprintf(to, "\n%s\n", o->about);
	fprintf(to, "\nOptions:\n");
	for (size_t i = 0; i < o->nrows; i++)
		if (o->rows[i].help)
			help_line(to, o->rows[i].short_name, o->rows[i].long_name,
				  o->rows[i].arg, o->rows[i].help);
	if (!has_long(o, "help"))
		help_line(to, has_short(o, 'h') ? 0 : 'h', "help", NULL,
			  "show this text and exit");
	if (!has_long(o, "version"))
		help_line(to, 0, "version", NULL, "show the version and exit");
	if (o->epilog)
		fprintf(to, "\n%s\n", o->epilog);
}

void options_version(const char *program, FILE *to)
{
	fprintf(to, "%s (virtagent) %s\n%s\n", program, PACKAGE_VERSION,
		VA_BUILD_SUMMARY);
}
