/*
 * json_member.h - one string out of a line of JSON
 *
 * Enough to hear QMP's events: no tree is built, nothing recurses, and text that
 * is no JSON finds nothing or the wrong thing, never more.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_JSON_MEMBER_H
#define VP_JSON_MEMBER_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The string value of the first member "key" at that depth of the text (1 = of
 * the outermost object).  Escapes are left as they stand; what does not fit is
 * cut.  False when there is none.
 */
bool json_member(const char *text, int depth, const char *key, char *to, size_t size);

#endif
