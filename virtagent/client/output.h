/*
 * output.h - what reaches the user's terminal, and how
 *
 * Bytes from the other side go to a terminal only through the escape of
 * log_escape(), with newline and tab kept; to a file or pipe they go untouched.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_OUTPUT_H
#define VA_CLIENT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "virtagent/client/client.h"
#include "virtagent/value.h"

/* "va-client: WHO: WHAT: text" on stderr; who and what may be NULL.  Everything
 * is escaped. */
void out_error(const char *who, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* With -v: the same form. */
void out_verbose(const struct client *cl, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* log_escape(), but a backslash stays as it is: text for people's eyes. */
char *out_escape(char *dst, size_t dst_size, const void *src, size_t n);

/* Does this stream need escaping? */
bool out_is_terminal(const struct client *cl, FILE *to);

/* Are colours wanted there?  On a terminal, unless NO_COLOR is set or it has none. */
bool out_is_coloured(FILE *to);

/*
 * A stream of bytes that may be cut anywhere, also within a character.  Start
 * with out_stream_init(); out_stream_end() writes what was held back, and a
 * newline on a terminal if the last byte was none.  0 or a negative errno.
 */
struct out_stream {
	FILE *to;
	bool escape;
	bool newline; /* the last byte was one, or none was written */
	size_t held;
	char hold[4]; /* the start of a UTF-8 character */
};

void out_stream_init(struct out_stream *s, const struct client *cl, FILE *to);
int out_stream_write(struct out_stream *s, const void *data, size_t n);
int out_stream_end(struct out_stream *s);

/* Text in one piece, without the final newline. */
int out_text(const struct client *cl, const void *data, size_t n);
/* The value as JSON: indented on a terminal, else on one line. */
int out_json(const struct client *cl, const struct va_value *v);
/* The value as people read it: text and numbers plainly, an array of those one
 * on a line, everything else as indented JSON; nil prints nothing. */
int out_value(const struct client *cl, const struct va_value *v);

/* n bytes as "12.3 MiB". */
void out_size(char *ret, size_t size, double n);
/* Seconds as "45s", "13m", "2h05m" or "3d4h". */
void out_age(char *ret, size_t size, double seconds);

#endif
