/*
 * verb_facts.c - ps, df, ip: what goes on in a guest
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/page.h"
#include "virtagent/client/table.h"

/* One table: which method, which columns, which members. */
struct facts {
	const char *method;
	const char *titles;
	/* "SIZE:name" = bytes, for people; "NET:name" = structs with address and
	 * prefix; "OR:name" = itself, or [the member name]. */
	const char *members[10];
	const char *wants; /* rows without it (or 0) are shown only with -a */
};

struct facts_opts {
	bool all;
};

DEFINE_FLAG(set_all, facts_opts, all);

/* Kernel threads have a name and no command line. */
static void name_cell(struct table *t, const struct va_value *item,
		      const char *member)
{
	const struct va_value *v = va_member(item, member);
	const void *data;
	size_t n;

	if (v && !va_get_bytes(v, &data, &n) && n)
		table_cell_n(t, data, n);
	else
		table_cellf(t, "[%s]", member_text(item, "name"));
}

static void net_cell(struct table *t, const struct va_value *list)
{
	char text[512] = "-";
	size_t used = 0;

	for (size_t i = 0; list && i < va_count(list); i++) {
		const struct va_value *a = va_item(list, i);
		int n = snprintf(text + used, sizeof(text) - used, "%s%s/%d",
				 used ? " " : "", member_text(a, "address"),
				 (int)member_int(a, "prefix", 0));

		if (n < 0 || used + (size_t)n >= sizeof(text))
			break;
		used += (size_t)n;
	}
	table_cell(t, text);
}

static void facts_cell(struct table *t, const struct va_value *item,
		       const char *member)
{
	char text[32];
	int64_t n;

	if (strncmp(member, "NET:", 4) == 0) {
		net_cell(t, va_member(item, member + 4));
		return;
	}
	if (strncmp(member, "OR:", 3) == 0) {
		name_cell(t, item, member + 3);
		return;
	}
	if (strncmp(member, "SIZE:", 5) != 0) {
		table_member(t, item, member);
		return;
	}
	n = member_int(item, member + 5, -1);
	if (n < 0) {
		table_cell(t, "-");
		return;
	}
	out_size(text, sizeof(text), (double)n);
	table_cell(t, text);
}

static int run_facts(struct client *cl, int argc, char **argv,
		     const struct facts *f)
{
	CLEANUP_RPC struct rpc *r = NULL;
	CLEANUP_VALUE struct va_value *params = va_array(), *all = NULL;
	CLEANUP_TABLE struct table *t = table_new(f->titles);
	int code = rpc_connect(cl, SIDE_GUEST, argc ? argv[0] : NULL, &r);

	if (!code)
		code = page_all(r, f->method, params, &all);
	if (code)
		return code;
	if (cl->json)
		return out_json(cl, all) ? VAC_ERROR : VAC_OK;
	for (size_t i = 0; t && i < va_count(all); i++) {
		const struct va_value *item = va_item(all, i);

		if (f->wants && !member_int(item, f->wants, 0) &&
		    !((const struct facts_opts *)cl->opts)->all)
			continue;
		for (const char *const *m = f->members; *m; m++)
			facts_cell(t, item, *m);
	}
	return !t || table_print(t, stdout, true) ? VAC_ERROR : VAC_OK;
}

static int run_ps(struct client *cl, int argc, char **argv)
{
	static const struct facts f = {
		"guest.processes", ">PID,>PPID,USER,STATE,>RSS,COMMAND",
		{ "pid", "ppid", "user", "state", "SIZE:rss", "OR:command" },
		NULL,
	};

	return run_facts(cl, argc, argv, &f);
}

static int run_df(struct client *cl, int argc, char **argv)
{
	static const struct facts f = {
		"guest.filesystems", "SOURCE,TYPE,>SIZE,>USED,>FREE,MOUNTPOINT",
		{ "source", "type", "SIZE:total", "SIZE:used", "SIZE:available",
		  "mountpoint" },
		"total",
	};

	return run_facts(cl, argc, argv, &f);
}

static int run_ip(struct client *cl, int argc, char **argv)
{
	static const struct facts f = {
		"guest.interfaces", "NAME,STATE,MAC,>MTU,ADDRESSES",
		{ "name", "state", "mac", "mtu", "NET:addresses" },
		NULL,
	};

	return run_facts(cl, argc, argv, &f);
}

static const struct option_row common_rows[] = { CLIENT_ROWS };

static const struct option_row df_rows[] = {
	{ 'a', "all", NULL, "also those without a size, such as /proc", set_all },
	CLIENT_ROWS,
};

const struct verb verb_ps = {
	.name = "ps",
	.usage = "[GUEST]",
	.help = "list a guest's processes",
	.rows = common_rows,
	.nrows = NROWS(common_rows),
	.max_args = 1,
	.run = run_ps,
};

const struct verb verb_df = {
	.name = "df",
	.usage = "[GUEST]",
	.help = "list a guest's file systems",
	.rows = df_rows,
	.nrows = NROWS(df_rows),
	.opts_size = sizeof(struct facts_opts),
	.max_args = 1,
	.run = run_df,
};

const struct verb verb_ip = {
	.name = "ip",
	.usage = "[GUEST]",
	.help = "list a guest's network interfaces and addresses",
	.rows = common_rows,
	.nrows = NROWS(common_rows),
	.max_args = 1,
	.run = run_ip,
};
