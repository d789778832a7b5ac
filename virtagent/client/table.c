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

static void print_row(const struct table *t, char *const *cells, FILE *to)
{
	for (size_t c = 0; c < t->columns; c++) {
		size_t have = columns_of(cells[c]);
		int pad = have < t->width[c] ? (int)(t->width[c] - have) : 0;

		if (t->right[c])
			fprintf(to, "%*s%s", pad, "", cells[c]);
		else if (c + 1 < t->columns)
			fprintf(to, "%s%*s", cells[c], pad, "");
		else
			fputs(cells[c], to);
		fputs(c + 1 < t->columns ? "  " : "\n", to);
	}
}

int table_print(struct table *t, FILE *to, bool titles)
{
	if (titles)
		print_row(t, t->title, to);
	for (size_t i = 0; i + t->columns <= t->count; i += t->columns)
		print_row(t, t->cells + i, to);
	return ferror(to) ? -EIO : 0;
}
