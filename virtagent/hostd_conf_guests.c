/*
 * hostd_conf_guests.c - the guests of the configuration: made by their sections or
 * by --guest, each once
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/str.h"
#include "virtagent/host/keys.h"
#include "virtagent/hostd_conf_priv.h"

/* A guest's name is text for people, and unique with its path id. */
static int check_name(const struct place *at, const char *name)
{
	size_t n = strlen(name);

	if (!n)
		return COMPLAIN(at, "a [guest NAME] section needs a name");
	if (n > HOSTD_NAME_MAX)
		return COMPLAIN(at, "a guest's name of %zu bytes: at most %u",
				n, HOSTD_NAME_MAX);
	if (!str_is_clean_text(name, n, ""))
		return COMPLAIN(at, "a guest's name is UTF-8 without control "
				    "characters");
	if (str_starts(name, KEYS_GROUP_WORD))
		return COMPLAIN(at, "guest \"%s\": " KEYS_GROUP_WORD
				    " stands for a group of guests", name);
	return 0;
}

static int add_guest(const struct place *at, const char *name,
		     struct guest_spec **ret)
{
	struct hostd_conf *c = at->conf;
	struct guest_spec *grown;

	if (check_name(at, name) < 0)
		return -EINVAL;
	if (c->nguests >= HOSTD_GUESTS_MAX)
		return COMPLAIN(at, "guest \"%s\": more than %u guests", name,
				HOSTD_GUESTS_MAX);
	grown = realloc(c->guests, (c->nguests + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	c->guests = grown;
	*ret = &grown[c->nguests];
	**ret = (struct guest_spec){ .line = at->entry->line };
	c->nguests++;
	(*ret)->name = strdup(name);
	(*ret)->file = strdup(at->entry->file);
	str_path_id(name, (*ret)->id);
	return (*ret)->name && (*ret)->file ? 0 : -ENOMEM;
}

/*
 * The guest of an entry's section: the last one, while file and name stay the
 * same; else a new one.  (A second [guest NAME] of the same name is therefore a
 * second guest, and check_unique() refuses it.)
 */
int hostd_conf_guest(struct place *at, const struct conf_entry *prev)
{
	const struct conf_entry *e = at->entry;
	struct hostd_conf *c = at->conf;

	if (prev && strcmp(prev->section, "guest") == 0 &&
	    strcmp(prev->name, e->name) == 0 &&
	    strcmp(prev->file, e->file) == 0 && c->nguests) {
		at->guest = &c->guests[c->nguests - 1];
		return 0;
	}
	return add_guest(at, e->name, &at->guest);
}

/* --guest NAME=CHANNEL */
int hostd_conf_word(struct hostd_conf *c, const char *word, unsigned number,
		    struct message *msg)
{
	struct conf_entry e = { .section = "guest", .key = "channel",
				.file = "--guest", .line = number };
	struct place at = { .conf = c, .entry = &e, .msg = msg };
	const char *eq = strchr(word, '=');
	CLEANUP_FREE char *name = NULL;
	int err;

	if (!eq)
		return COMPLAIN(&at, "\"%s\" is not NAME=METHOD:ADDR:PORT",
				word);
	name = strndup(word, (size_t)(eq - word));
	if (!name)
		return -ENOMEM;
	err = add_guest(&at, name, &at.guest);
	return err < 0 ? err : hostd_conf_key(&e)->set(&at, eq + 1);
}

static int by_id(const void *a, const void *b)
{
	const struct guest_spec *const *x = a, *const *y = b;

	return strcmp((*x)->id, (*y)->id);
}

/* Two guests of one name, or of two names with one path id. */
static int check_unique(const struct hostd_conf *c, struct message *msg)
{
	CLEANUP_FREE const struct guest_spec **sorted = NULL;

	sorted = calloc(c->nguests + 1, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < c->nguests; i++)
		sorted[i] = &c->guests[i];
	qsort(sorted, c->nguests, sizeof(*sorted), by_id);
	for (size_t i = 1; i < c->nguests; i++) {
		const struct guest_spec *a = sorted[i - 1], *b = sorted[i];

		if (strcmp(a->id, b->id) != 0)
			continue;
		if (strcmp(a->name, b->name) == 0)
			return hostd_conf_complain(msg, b->file, b->line,
					"guest \"%s\" stands in %s:%u already",
					b->name, a->file, a->line);
		return hostd_conf_complain(msg, b->file, b->line,
				"guest \"%s\" has the same directory name %s as "
				"guest \"%s\" in %s:%u",
				b->name, b->id, a->name, a->file, a->line);
	}
	return 0;
}

int hostd_conf_check_guests(const struct hostd_conf *c, struct message *msg)
{
	for (size_t i = 0; i < c->nguests; i++) {
		const struct guest_spec *g = &c->guests[i];

		if (!g->channel)
			return hostd_conf_complain(msg, g->file, g->line,
					"guest \"%s\" has no channel", g->name);
	}
	return check_unique(c, msg);
}

void guest_spec_done(struct guest_spec *s)
{
	free(s->name);
	free(s->channel);
	free(s->qmp);
	free(s->uuid);
	free(s->file);
	free(s->mark);
	*s = (struct guest_spec){ 0 };
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool guest_spec_same(const struct guest_spec *a, const struct guest_spec *b)
{
	return same_text(a->channel, b->channel) && same_text(a->qmp, b->qmp);
}
