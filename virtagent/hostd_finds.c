/*
 * hostd_finds.c - see hostd_finds.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/hostd_finds.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"

void finds_done(struct finds *f)
{
	for (size_t i = 0; i < f->n; i++)
		guest_spec_done(&f->list[i]);
	free(f->list);
	free(f->ids);
	*f = (struct finds){ .conf = f->conf };
}

static int copy(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

static int make_spec(struct guest_spec *s, const struct find *x)
{
	*s = (struct guest_spec){ .line = 0 };
	str_path_id(x->name, s->id);
	if (copy(&s->name, x->name) == 0 && copy(&s->channel, x->channel) == 0 &&
	    copy(&s->file, x->file) == 0 && copy(&s->qmp, x->qmp) == 0 &&
	    copy(&s->uuid, x->uuid) == 0 && copy(&s->mark, x->mark) == 0)
		return 0;
	guest_spec_done(s);
	return -ENOMEM;
}

static int append(struct finds *f, const struct find *x)
{
	struct guest_spec *list = realloc(f->list, (f->n + 1) * sizeof(*list));
	uint64_t *ids;
	int r;

	if (!list)
		return -ENOMEM;
	f->list = list;
	ids = realloc(f->ids, (f->n + 1) * sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	f->ids = ids;
	r = make_spec(&f->list[f->n], x);
	if (r == 0)
		f->ids[f->n++] = x->id;
	return r;
}

static int replace(struct finds *f, size_t i, const struct find *x)
{
	struct guest_spec spec;
	int r = make_spec(&spec, x);

	if (r < 0)
		return r;
	guest_spec_done(&f->list[i]);
	f->list[i] = spec;
	f->ids[i] = x->id;
	return 0;
}

/* The monitor of a guest that was found by its channel. */
static int add_monitor(struct guest_spec *s, const struct find *x, const char **why)
{
	*why = "another monitor's machine has the same channel";
	if (s->qmp)
		return -EEXIST;
	free(s->uuid);
	s->uuid = NULL;
	if (copy(&s->uuid, x->uuid) == 0 && copy(&s->mark, x->mark) == 0 &&
	    copy(&s->qmp, x->qmp) == 0)
		return 0;
	*why = "out of memory";
	return -ENOMEM;
}

static const struct guest_spec *configured(const struct hostd_conf *c, const struct find *x,
					   const char *id)
{
	for (size_t i = 0; i < c->nguests; i++)
		if (strcmp(c->guests[i].id, id) == 0 ||
		    strcmp(c->guests[i].channel, x->channel) == 0)
			return &c->guests[i];
	return NULL;
}

int finds_add(struct finds *f, const struct find *x, const char **why)
{
	size_t n = strlen(x->name);
	char id[STR_ID_MAX];

	*why = "its name is not UTF-8 without control characters, or too long";
	if (!n || n > HOSTD_NAME_MAX || !str_is_clean_text(x->name, n, "") ||
	    str_starts(x->name, "group:"))
		return -EINVAL;
	*why = "there are too many guests";
	if (f->n >= HOSTD_GUESTS_MAX)
		return -ENOSPC;
	str_path_id(x->name, id);
	*why = "the configuration has a guest of that name or with that channel";
	if (configured(f->conf, x, id))
		return -EEXIST;
	for (size_t i = 0; i < f->n; i++) {
		if (x->qmp && strcmp(f->list[i].channel, x->channel) == 0)
			return add_monitor(&f->list[i], x, why);
		*why = "another guest has that name";
		if (strcmp(f->list[i].id, id) == 0)
			return x->id > f->ids[i] ? replace(f, i, x) : -EEXIST;
	}
	*why = "out of memory";
	return append(f, x);
}
