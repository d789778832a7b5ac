/*
 * hostd_sync.c - from the guests that are configured to the guests that are
 *
 * A guest that is to go takes a moment to end its virtproxy; when it comes back
 * under the same name meanwhile, it waits until the old one is gone, which then
 * calls here again.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <string.h>

#include "common/log.h"
#include "virtagent/hostd_guest.h"

static bool stopping(const struct hostd *h, const char *id)
{
	for (const struct guest *g = h->guests; g; g = g->next) {
		if (g->stopping && strcmp(g->spec.id, id) == 0)
			return true;
	}
	return false;
}

static void start_guest(struct hostd *h, const struct guest_spec *spec)
{
	struct guest *g;
	char err[512];

	/* One of that name is still ending; it calls us again. */
	if (stopping(h, spec->id))
		return;
	g = guest_new(h, spec, err, sizeof(err));
	if (!g) {
		log_error("guest %s: %s", spec->name, err);
		return;
	}
	g->wanted = true;
	g->next = h->guests;
	h->guests = g;
	h->nguests++;
}

/* The i-th guest that shall be; NULL at the end. */
static const struct guest_spec *wanted(const struct hostd *h, size_t i)
{
	if (i < h->conf.nguests)
		return &h->conf.guests[i];
	i -= h->conf.nguests;
	return i < h->nfound ? &h->found[i] : NULL;
}

void hostd_sync_guests(struct hostd *h)
{
	const struct guest_spec *spec;

	for (struct guest *g = h->guests; g; g = g->next)
		g->wanted = false;
	for (size_t i = 0; (spec = wanted(h, i)); i++) {
		struct guest *g = guest_find(h, spec->name);

		if (g && guest_spec_same(&g->spec, spec))
			g->wanted = true;
	}
	/* guest_stop() may free the guest at once. */
again:
	for (struct guest *g = h->guests; g; g = g->next) {
		if (!g->wanted && !g->stopping) {
			guest_stop(g);
			goto again;
		}
	}
	for (size_t i = 0; (spec = wanted(h, i)); i++) {
		if (!guest_find(h, spec->name))
			start_guest(h, spec);
	}
}
