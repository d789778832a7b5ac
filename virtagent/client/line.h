/*
 * line.h - a line editor, and the only place that knows libedit
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_LINE_H
#define VA_CLIENT_LINE_H

#include "common/cleanup.h"

struct line_editor;

/*
 * On a terminal: editing with history, and Tab completes the first word from
 * words (NULL-terminated, kept by the caller).  On anything else lines are read
 * as they come, without a prompt.  NULL on failure.
 */
struct line_editor *line_open(const char *prompt, const char *const *words);
void line_close(struct line_editor *l);
DEFINE_CLEANUP(struct line_editor, line_close);

/* The next line without its newline, valid until the next call; NULL at the
 * end of the input. */
const char *line_read(struct line_editor *l);

#endif
