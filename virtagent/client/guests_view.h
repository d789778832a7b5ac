/*
 * guests_view.h - the guests of a host as a table, as JSON, as they change
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_GUESTS_VIEW_H
#define VA_CLIENT_GUESTS_VIEW_H

#include <stdio.h>

#include "virtagent/client/table.h"
#include "virtagent/client/target.h"

/* The list, or an exit code after the error went to stderr. */
int guests_get(const struct client *cl, struct guest_list *ret);
/* form may be NULL; colours come where to is a terminal.  0 or a negative errno. */
int guests_table(const struct guest_list *l, FILE *to, const struct table_form *form);
int guests_json(const struct client *cl, const struct guest_list *l);
/* A guest as a struct, also when only its socket told of it.  NULL on ENOMEM. */
struct va_value *guest_entry_value(const struct guest_entry *g);
int64_t guest_entry_bytes(const struct guest_entry *g);

/* guests --watch; the exit code. */
int guests_watch(struct client *cl);

#endif
