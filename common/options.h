/*
 * options.h - command lines as tables
 *
 * One table row per option drives getopt_long(), --help and the test that
 * compares both with the man page.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_OPTIONS_H
#define VA_COMMON_OPTIONS_H

#include <stddef.h>
#include <stdio.h>

struct option_row {
	int short_name;	      /* a character, or 0 */
	const char *long_name; /* without dashes, or NULL */
	const char *arg;      /* the argument's name in help, NULL = none;
				 "[NAME]" = optional, glued on */
	const char *help;     /* one line; NULL = accepted, not shown */
	/* 0, or a negative errno after a message was written to err (size
	 * err_size); value is NULL without an argument. */
	int (*set)(void *ctx, const char *value, char *err, size_t err_size);
};

struct options {
	const char *program;  /* "va-client call" */
	const char *usage;    /* "METHOD [ARG...]" */
	const char *about;    /* a paragraph, or NULL */
	const struct option_row *rows;
	size_t nrows;
	const char *epilog;   /* examples, or NULL */
};

/*
 * Parses argv[1..].  -h/--help and --version are understood without a row: they
 * print to stdout and return 1 (the caller exits 0).  Options end at the first
 * operand when stop_at_operand, or at "--".  Returns 0 with *first_operand set,
 * 1, or -EINVAL after the error and a hint went to stderr (the caller exits 3
 * for va-client, 2 or 1 for daemons as its page says).
 */
int options_parse(const struct options *o, void *ctx, int argc, char **argv,
		  int stop_at_operand, int *first_operand);
void options_help(const struct options *o, FILE *to);
/* "PROGRAM (virtagent) VERSION" and the configure summary. */
void options_version(const char *program, FILE *to);

#endif
