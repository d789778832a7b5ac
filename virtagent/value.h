/*
 * value.h - XML-RPC values as plain C trees
 *
 * The program's own type, so that only codec.c knows xmlrpc-c.  A value is
 * owned by whoever made it, until it is put into an array or struct or handed
 * over as a result.  Every constructor returns NULL on ENOMEM, and every call
 * that takes ownership of a value frees it on failure and accepts NULL (giving
 * -ENOMEM), so that results can be built without a check after each line.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_VALUE_H
#define VA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/cleanup.h"

enum va_type {
	VA_NIL,
	VA_BOOL,
	VA_INT, /* i4 and i8 */
	VA_DOUBLE,
	VA_STRING, /* clean UTF-8 text */
	VA_BYTES,  /* base64 */
	VA_DATETIME, /* kept as its text */
	VA_ARRAY,
	VA_STRUCT,
};

struct va_value;

struct va_value *va_nil(void);
struct va_value *va_bool(bool v);
struct va_value *va_int(int64_t v);
struct va_value *va_double(double v);
/* Text.  What is not clean UTF-8 text (control characters but tab and newline,
 * bad bytes) is escaped as log_escape() does: such data belongs in va_bytes(). */
struct va_value *va_string(const char *s);
struct va_value *va_string_n(const char *s, size_t n);
/* For decoders: text that was checked already and is taken as it is. */
struct va_value *va_string_checked(const char *s, size_t n);
struct va_value *va_bytes(const void *data, size_t n);
/* Takes over malloc'ed memory (freed on failure). */
struct va_value *va_bytes_take(void *data, size_t n);
struct va_value *va_datetime(const char *iso8601);
struct va_value *va_array(void);
struct va_value *va_struct(void);
struct va_value *va_value_copy(const struct va_value *v);

void va_value_free(struct va_value *v);
DEFINE_CLEANUP(struct va_value, va_value_free);
#define CLEANUP_VALUE CLEANUP(va_value_free_p)

/* Take ownership of item, also on failure. */
int va_append(struct va_value *array, struct va_value *item);
/* Replaces an existing member of that name. */
int va_set(struct va_value *strct, const char *name, struct va_value *item);

enum va_type va_typeof(const struct va_value *v);
const char *va_type_name(enum va_type t);
/* Items of an array or members of a struct; 0 for other types. */
size_t va_count(const struct va_value *v);
struct va_value *va_item(const struct va_value *array, size_t i);
struct va_value *va_member(const struct va_value *strct, const char *name);
struct va_value *va_member_at(const struct va_value *strct, size_t i,
			      const char **name);

/* 0, or -EINVAL when the type does not fit.  va_get_int() takes an int, an
 * integral double up to 2^53, or a decimal string (PROTOCOL). */
int va_get_bool(const struct va_value *v, bool *ret);
int va_get_int(const struct va_value *v, int64_t *ret);
int va_get_double(const struct va_value *v, double *ret);
/* Borrowed; a string or datetime.  Never holds a NUL. */
int va_get_string(const struct va_value *v, const char **ret);
/* Borrowed; bytes, or a string's bytes. */
int va_get_bytes(const struct va_value *v, const void **data, size_t *n);

/* About how many bytes of XML the value takes, never less by more than the
 * escaping of '&', '<' and '>'. */
size_t va_weight(const struct va_value *v);

/* The shortest of 15 to 17 digits that reads back as d, a finite number. */
#define VA_DOUBLE_TEXT_SIZE 32
void va_double_text(double d, char ret[VA_DOUBLE_TEXT_SIZE]);

/* JSON, for people and programs: bytes appear as {"base64":"..."} .  Parsing
 * refuses depth over 32, 64,000 values and input over 4 MiB; integers beyond 64
 * bits become doubles. */
int va_to_json(const struct va_value *v, bool pretty, struct buf *out);
int va_from_json(const char *text, size_t n, struct va_value **ret, char *err,
		 size_t err_size);

#endif
