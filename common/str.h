/*
 * str.h - strings and numbers from outside, checked
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_STR_H
#define VA_COMMON_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* asprintf() that returns NULL on failure. */
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The whole of s as a decimal number within [min, max]; -EINVAL (not a number)
 * or -ERANGE. */
int str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret);
int str_to_u64(const char *s, uint64_t max, uint64_t *ret);
/* A number with an optional K, M, G suffix (1024-based). */
int str_to_size(const char *s, uint64_t max, uint64_t *ret);
/* A time with an optional ms, s, m, h suffix (default seconds, fractions
 * allowed), as nanoseconds. */
int str_to_duration(const char *s, uint64_t max_ns, uint64_t *ret);
/* yes/no, true/false, on/off, 1/0. */
int str_to_bool(const char *s, bool *ret);

bool str_starts(const char *s, const char *prefix);
/* The well-formed UTF-8 sequence at s, of which n bytes are there (1 at least): its
 * length, and the character in *ret; 0 if there is none. */
size_t str_utf8(const void *s, size_t n, uint32_t *ret);
/* Does the character reorder or hide text, or look like whatever a font likes: bidi
 * marks, zero-width ones, separators, tags, private use? */
bool str_is_deceptive(uint32_t c);
/* Is the text well-formed UTF-8 without control characters other than those
 * in allowed (may be "")? */
bool str_is_clean_text(const void *s, size_t n, const char *allowed);

/* A signal's number by name ("TERM", "SIGTERM") or decimal; -EINVAL. */
int str_to_signal(const char *text);

/* *, ? and [a-z]; no special treatment of dots or slashes.  Never recurses
 * deeper than one level: linear in practice, O(n*m) at worst. */
bool str_glob(const char *pattern, const char *text);

/*
 * A name as a path part: itself if it is [A-Za-z0-9._-]{1,48} and neither "."
 * nor "..", else its first safe bytes (at most 32) and a hash, such as
 * "my_guest-1f0c9a3b".  ret has at least STR_ID_MAX bytes.
 */
#define STR_ID_MAX 49
void str_path_id(const char *name, char ret[STR_ID_MAX]);

/* base64 (RFC 4648, no line breaks).  Encode: ret has at least
 * BASE64_LEN(n) + 1 bytes.  Decode skips white space, refuses anything else
 * outside the alphabet: the length, or -EINVAL; ret has at least n / 4 * 3 + 3
 * bytes. */
#define BASE64_LEN(n) (((n) + 2) / 3 * 4)
size_t base64_encode(const void *data, size_t n, char *ret);
long base64_decode(const char *text, size_t n, void *ret);

#endif
