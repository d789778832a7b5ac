/*
 * table.h - tables for people
 *
 * Cells are text from anywhere; they are escaped when printed.  A column is as
 * wide as its widest cell; the last one is not padded.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_TABLE_H
#define VA_CLIENT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "virtagent/value.h"

struct table;

/* titles: comma-separated; one that starts with '>' is right-aligned. */
struct table *table_new(const char *titles);
void table_free(struct table *t);
DEFINE_CLEANUP(struct table, table_free);
#define CLEANUP_TABLE CLEANUP(table_free_p)

/* Adds the next cell, row by row. */
int table_cell(struct table *t, const char *text);
int table_cell_n(struct table *t, const void *text, size_t n);
int table_cellf(struct table *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* A member of a struct as a cell: text, bytes, number or bool; "-" when it is
 * missing, several items of an array behind commas. */
int table_member(struct table *t, const struct va_value *strct,
		 const char *name);
/* How it is printed on a terminal; all zero: as it is. */
struct table_form {
	size_t width; /* columns of a line, the rest is cut off */
	size_t lines; /* in all; the last one then says how many rows are missing */
	/* The colour of a cell, as digits of SGR, or NULL. */
	const char *(*colour)(size_t column, const char *cell);
};
void table_form(struct table *t, const struct table_form *form);
/* Prints the titles and the rows; nothing printed when it has no rows and
 * empty_too is false. */
int table_print(struct table *t, FILE *to, bool titles);

#endif
