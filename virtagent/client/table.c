/*
 * table.c - see table.h
 *
 * Cells are kept escaped, one string each; widths count characters (bytes that
 * do not continue a UTF-8 character), which is right for every script whose
 * letters are one column wide.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "virtagent/client/output.h"

#define TABLE_COLUMNS_MAX 16
#define TABLE_CELL_MAX 512
#define TABLE_WIDTH_MAX 60 /* of a column but the last */

struct table {
	char *titles;
	char *title[TABLE_COLUMNS_MAX];
	bool right[TABLE_COLUMNS_MAX];
	size_t width[TABLE_COLUMNS_MAX];
	size_t columns;
	char **cells;
	size_t count, room;
	struct table_form form;
};

static size_t columns_of(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

struct table *table_new(const char *titles)
{
	struct table *t = calloc(1, sizeof(*t));
	char *save = NULL, *part;

	if (!t)
		return NULL;
	t->titles = strdup(titles);
	if (!t->titles) {
		free(t);
		return NULL;
	}
	for (part = strtok_r(t->titles, ",", &save);
	     part && t->columns < TABLE_COLUMNS_MAX;
	     part = strtok_r(NULL, ",", &save)) {
		t->right[t->columns] = *part == '>';
		t->title[t->columns] = part + (*part == '>');
		t->width[t->columns] = columns_of(t->title[t->columns]);
		t->columns++;
	}
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t->titles);
	free(t);
}

int table_cell_n(struct table *t, const void *text, size_t n)
{
	char escaped[TABLE_CELL_MAX];
	size_t width, column = t->count % t->columns;

	if (t->count == t->room) {
		size_t room = t->room ? 2 * t->room : 64;
		char **cells = realloc(t->cells, room * sizeof(*cells));

		if (!cells)
			return -ENOMEM;
		t->cells = cells;
		t->room = room;
	}
	out_escape(escaped, sizeof(escaped), text, n);
	t->cells[t->count] = strdup(escaped);
	if (!t->cells[t->count])
		return -ENOMEM;
	t->count++;
	width = columns_of(escaped);
	if (width > TABLE_WIDTH_MAX)
		width = TABLE_WIDTH_MAX;
	if (t->width[column] < width)
		t->width[column] = width;
	return 0;
}

int table_cell(struct table *t, const char *text)
{
	return table_cell_n(t, text, strlen(text));
}

int table_cellf(struct table *t, const char *fmt, ...)
{
	char text[TABLE_CELL_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return table_cell(t, text);
}

/* A plain value as text, the part that fits; its length. */
static size_t plain_text(const struct va_value *v, char *ret, size_t size)
{
	const void *data;
	const char *s;
	size_t n;
	int64_t i;
	double d;
	bool b;

	if (v && (va_typeof(v) == VA_BYTES || va_typeof(v) == VA_STRING) &&
	    !va_get_bytes(v, &data, &n) && n) {
		n = n < size ? n : size;
		memcpy(ret, data, n);
		return n;
	}
	if (v && va_typeof(v) == VA_BOOL && !va_get_bool(v, &b))
		n = (size_t)snprintf(ret, size, "%s", b ? "yes" : "no");
	else if (v && va_typeof(v) == VA_INT && !va_get_int(v, &i))
		n = (size_t)snprintf(ret, size, "%" PRId64, i);
	else if (v && va_typeof(v) == VA_DOUBLE && !va_get_double(v, &d))
		n = (size_t)snprintf(ret, size, "%.15g", d);
	else if (v && va_typeof(v) == VA_DATETIME && !va_get_string(v, &s))
		n = (size_t)snprintf(ret, size, "%s", s);
	else if (v && (va_typeof(v) == VA_STRUCT || va_typeof(v) == VA_ARRAY))
		n = (size_t)snprintf(ret, size, "{%zu}", va_count(v));
	else
		n = (size_t)snprintf(ret, size, "-");
	return n < size ? n : size ? size - 1 : 0;
}

int table_member(struct table *t, const struct va_value *strct,
		 const char *name)
{
	const struct va_value *v = va_member(strct, name);
	char text[TABLE_CELL_MAX];
	size_t used = 0;

	if (!v || va_typeof(v) != VA_ARRAY) {
		used = plain_text(v, text, sizeof(text));
		return table_cell_n(t, text, used);
	}
	for (size_t i = 0; i < va_count(v) && used + 2 < sizeof(text); i++) {
		if (i)
			text[used++] = ',';
		used += plain_text(va_item(v, i), text + used,
				   sizeof(text) - used);
	}
	return used ? table_cell_n(t, text, used) : table_cell(t, "-");
}

void table_form(struct table *t, const struct table_form *form)
{
	t->form = *form;
}

/* As much of the text as *left columns hold. */
static void put_part(FILE *to, const char *s, size_t *left)
{
	size_t bytes = 0;

	while (s[bytes]) {
		if (((unsigned char)s[bytes] & 0xc0) != 0x80) {
			if (!*left)
				break;
			--*left;
		}
		bytes++;
	}
	fwrite(s, 1, bytes, to);
}

static void put_spaces(FILE *to, size_t n, size_t *left)
{
	for (; n && *left; n--, --*left)
		putc(' ', to);
}

static void put_cell(const struct table *t, FILE *to, const char *cell, size_t column,
		     size_t *left)
{
	const char *colour = t->form.colour ? t->form.colour(column, cell) : NULL;

	if (colour)
		fprintf(to, "\033[%sm", colour);
	put_part(to, cell, left);
	if (colour)
		fputs("\033[0m", to);
}

static void print_row(const struct table *t, char *const *cells, FILE *to)
{
	size_t left = t->form.width ? t->form.width : SIZE_MAX;

	for (size_t c = 0; c < t->columns; c++) {
		size_t have = columns_of(cells[c]);
		size_t pad = have < t->width[c] ? t->width[c] - have : 0;

		if (t->right[c])
			put_spaces(to, pad, &left);
		put_cell(t, to, cells[c], c, &left);
		if (c + 1 < t->columns)
			put_spaces(to, (t->right[c] ? 0 : pad) + 2, &left);
	}
	putc('\n', to);
}

int table_print(struct table *t, FILE *to, bool titles)
{
	size_t rows = t->count / t->columns, shown = rows;
	size_t besides = titles ? 1 : 0;

	if (t->form.lines && rows + besides > t->form.lines) {
		besides++; /* how many are missing */
		shown = t->form.lines > besides ? t->form.lines - besides : 0;
	}
	if (titles)
		print_row(t, t->title, to);
	for (size_t i = 0; i < shown; i++)
		print_row(t, t->cells + i * t->columns, to);
	if (shown < rows)
		fprintf(to, "... %zu more\n", rows - shown);
	return ferror(to) ? -EIO : 0;
}
