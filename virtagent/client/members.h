/*
 * members.h - a struct for people: one member a line
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_MEMBERS_H
#define VA_CLIENT_MEMBERS_H

#include "virtagent/client/client.h"
#include "virtagent/value.h"

/* Structs within are indented; deeper than four levels they are counted. */
void members_print(const struct client *cl, const struct va_value *v,
		   int indent);

#endif
