/*
 * hostd_finds.h - the guests that one look at the directories found
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_FINDS_H
#define VA_HOSTD_FINDS_H

#include <stddef.h>
#include <stdint.h>

#include "virtagent/hostd_conf.h"

struct finds {
	const struct hostd_conf *conf; /* its guests win */
	struct guest_spec *list;
	uint64_t *ids;
	size_t n;
};

/* One of them; what is not known is NULL. */
struct find {
	const char *name;
	const char *channel; /* METHOD:ADDR:PORT */
	const char *file;    /* the path that it was found by */
	const char *qmp, *uuid, *mark; /* as in struct guest_spec */
	uint64_t id;	     /* of two of one name the higher one wins, else the first */
};

/*
 * 0, or a negative errno with the reason (a static text) in why: -EEXIST, a guest
 * has that name or that channel already; -EINVAL, that cannot be a name.  The find of
 * a monitor whose channel another find has adds the monitor to that one.
 */
int finds_add(struct finds *f, const struct find *x, const char **why);
void finds_done(struct finds *f);

#endif
