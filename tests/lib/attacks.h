/*
 * attacks.h - the documents that XML-RPC servers were crashed or starved with
 *
 * Each is made in memory, wrapped as a call or as a reply.  All must be refused
 * in a fraction of a second, and whoever refused them must go on working.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_TESTS_ATTACKS_H
#define VA_TESTS_ATTACKS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"

size_t attack_count(void);
const char *attack_name(size_t i);
/* Appends attack i to out, as a call (of method "t.echo") or as a reply. */
void attack_make(size_t i, bool reply, struct buf *out);

#endif
