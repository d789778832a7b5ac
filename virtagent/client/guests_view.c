/*
 * guests_view.c - the guests of a host as a table and as JSON
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/guests_view.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"

#define STATE_COLUMN 1u

int guests_get(const struct client *cl, struct guest_list *ret)
{
	int error = guest_list_get(cl, ret);

	if (error && !target_on_host(cl)) {
		out_error(NULL, "guests", "neither va-hostd nor a virtproxy runs in %s; where "
			  "this machine is a guest, its host lists the guests", target_runtime());
		return VAC_NOT_CONNECTED;
	}
	if (error) {
		out_error(NULL, "guests", "nothing runs in %s: %s",
			  target_runtime(), strerror(-error));
		return VAC_NOT_CONNECTED;
	}
	if (!ret->from_hostd)
		out_error(NULL, "guests",
			  "va-hostd does not answer; this is what runs");
	return 0;
}

/* --- JSON --------------------------------------------------------------- */

struct va_value *guest_entry_value(const struct guest_entry *g)
{
	struct va_value *v;

	if (g->info)
		return va_value_copy(g->info);
	v = va_struct();
	if (va_set(v, "name", va_string(g->name)) ||
	    va_set(v, "id", va_string(g->id)) ||
	    va_set(v, "state", va_string(g->state)) ||
	    va_set(v, "connected", va_bool(g->connected))) {
		va_value_free(v);
		return NULL;
	}
	return v;
}

int guests_json(const struct client *cl, const struct guest_list *l)
{
	CLEANUP_VALUE struct va_value *all = va_array();

	for (size_t i = 0; i < l->count; i++)
		if (va_append(all, guest_entry_value(&l->guest[i])))
			return -ENOMEM;
	return out_json(cl, all);
}

/* --- the table ---------------------------------------------------------- */

int64_t guest_entry_bytes(const struct guest_entry *g)
{
	return member_int(g->info, "bytes_in", 0) + member_int(g->info, "bytes_out", 0);
}

static const char *state_colour(size_t column, const char *cell)
{
	static const struct {
		const char *state, *colour;
	} rows[] = {
		{ "connected", "32" }, { "silent", "33" }, { "absent", "2" },
	};

	for (size_t i = 0; column == STATE_COLUMN && i < NROWS(rows); i++)
		if (strcmp(cell, rows[i].state) == 0)
			return rows[i].colour;
	return NULL;
}

/* How long ago a time of va-hostd's was. */
static void age_cell(struct table *t, const struct va_value *info, const char *name)
{
	const struct va_value *v = va_member(info, name);
	char text[32] = "-";
	double when = 0;

	if (va_get_double(v, &when) == 0 && when > 0)
		out_age(text, sizeof(text), clock_wall() - when);
	table_cell(t, text);
}

static void text_cell(struct table *t, const struct va_value *info, const char *name)
{
	const char *text = member_text(info, name);

	table_cell(t, *text ? text : "-");
}

static void add_row(struct table *t, const struct guest_entry *g)
{
	char bytes[32];

	table_cell(t, g->name);
	table_cell(t, g->state);
	text_cell(t, g->info, "version");
	text_cell(t, g->info, "kind");
	age_cell(t, g->info, "since");
	age_cell(t, g->info, "last_heard");
	if (!g->info) {
		table_cell(t, "-");
		table_cell(t, "-");
		return;
	}
	out_size(bytes, sizeof(bytes), (double)guest_entry_bytes(g));
	table_member(t, g->info, "calls");
	table_cell(t, bytes);
}

int guests_table(const struct guest_list *l, FILE *to, const struct table_form *form)
{
	CLEANUP_TABLE struct table *t =
		table_new("NAME,STATE,AGENT,KIND,SINCE,>HEARD,>CALLS,>BYTES");
	struct table_form f = form ? *form : (struct table_form){ 0 };

	if (!t)
		return -ENOMEM;
	if (out_is_coloured(stdout))
		f.colour = state_colour;
	table_form(t, &f);
	for (size_t i = 0; i < l->count; i++)
		add_row(t, &l->guest[i]);
	return table_print(t, to, true);
}
