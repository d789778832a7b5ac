/*
 * value.c - see value.h
 *
 * A container is an array of slots; a struct's slots have names, searched one
 * after the other with a hash in front of the comparison (the decoders bound
 * the number of members).  Freeing, copying and printing recurse: values from
 * outside are at most VA_XML_DEPTH_MAX deep, our own as deep as the code that
 * builds them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/value.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/str.h"

struct slot {
	char *name; /* of a struct's member */
	uint32_t hash;
	struct va_value *value;
};

struct va_value {
	enum va_type type;
	union {
		bool b;
		int64_t i;
		double d;
		struct {
			char *data; /* always NUL-terminated, NUL not counted */
			size_t len;
		} s;
		struct {
			struct slot *slots;
			size_t n, alloc;
		} c;
	};
};

static struct va_value *value_new(enum va_type type)
{
	struct va_value *v = calloc(1, sizeof(*v));

	if (v)
		v->type = type;
	return v;
}

static struct va_value *value_new_data(enum va_type type, const void *data,
				       size_t n)
{
	struct va_value *v = value_new(type);

	if (!v)
		return NULL;
	v->s.data = malloc(n + 1);
	if (!v->s.data) {
		free(v);
		return NULL;
	}
	if (n)
		memcpy(v->s.data, data, n);
	v->s.data[n] = 0;
	v->s.len = n;
	return v;
}

struct va_value *va_nil(void)
{
	return value_new(VA_NIL);
}

struct va_value *va_bool(bool b)
{
	struct va_value *v = value_new(VA_BOOL);

	if (v)
		v->b = b;
	return v;
}

struct va_value *va_int(int64_t i)
{
	struct va_value *v = value_new(VA_INT);

	if (v)
		v->i = i;
	return v;
}

struct va_value *va_double(double d)
{
	struct va_value *v = value_new(VA_DOUBLE);

	if (v)
		v->d = d;
	return v;
}

struct va_value *va_string(const char *s)
{
	return va_string_n(s, strlen(s));
}

/* Escapes the runs between tabs and newlines, which stay. */
static struct va_value *string_escaped(const char *s, size_t n)
{
	CLEANUP_BUF struct buf out = BUF_INIT(n * 4 + 1);

	while (n) {
		size_t run = 0, room;
		char *to;

		while (run < n && s[run] != '\t' && s[run] != '\n')
			run++;
		room = run * 4 + 1;
		to = (char *)buf_reserve(&out, room);
		if (!to)
			return NULL;
		log_escape(to, room, s, run);
		buf_commit(&out, strlen(to));
		if (run < n && buf_put_u8(&out, (uint8_t)s[run++]) < 0)
			return NULL;
		s += run;
		n -= run;
	}
	return value_new_data(VA_STRING, buf_data(&out), buf_len(&out));
}

struct va_value *va_string_n(const char *s, size_t n)
{
	if (!str_is_clean_text(s, n, "\t\n"))
		return string_escaped(s, n);
	return value_new_data(VA_STRING, s, n);
}

struct va_value *va_string_checked(const char *s, size_t n)
{
	return value_new_data(VA_STRING, s, n);
}

struct va_value *va_bytes(const void *data, size_t n)
{
	return value_new_data(VA_BYTES, data, n);
}

struct va_value *va_bytes_take(void *data, size_t n)
{
	struct va_value *v = value_new(VA_BYTES);
	char *grown = v ? realloc(data, n + 1) : NULL;

	if (!grown) {
		free(data);
		free(v);
		return NULL;
	}
	grown[n] = 0;
	v->s.data = grown;
	v->s.len = n;
	return v;
}

struct va_value *va_datetime(const char *iso8601)
{
	return value_new_data(VA_DATETIME, iso8601, strlen(iso8601));
}

struct va_value *va_array(void)
{
	return value_new(VA_ARRAY);
}

struct va_value *va_struct(void)
{
	return value_new(VA_STRUCT);
}

static bool is_container(const struct va_value *v)
{
	return v && (v->type == VA_ARRAY || v->type == VA_STRUCT);
}

static bool has_data(const struct va_value *v)
{
	return v && (v->type == VA_STRING || v->type == VA_BYTES ||
		     v->type == VA_DATETIME);
}

void va_value_free(struct va_value *v)
{
	if (!v)
		return;
	if (is_container(v)) {
		for (size_t i = 0; i < v->c.n; i++) {
			free(v->c.slots[i].name);
			va_value_free(v->c.slots[i].value);
		}
		free(v->c.slots);
	} else if (has_data(v)) {
		free(v->s.data);
	}
	free(v);
}

static uint32_t name_hash(const char *s)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	while (*s)
		h = (h ^ (uint8_t)*s++) * 16777619u;
	return h;
}

/* Takes value over only on success. */
static int slot_add(struct va_value *v, const char *name, uint32_t hash,
		    struct va_value *value)
{
	CLEANUP_FREE char *copy = NULL;

	if (name && !(copy = strdup(name)))
		return -ENOMEM;
	if (v->c.n == v->c.alloc) {
		size_t alloc = v->c.alloc ? v->c.alloc * 2 : 4;
		struct slot *s = reallocarray(v->c.slots, alloc, sizeof(*s));

		if (!s)
			return -ENOMEM;
		v->c.slots = s;
		v->c.alloc = alloc;
	}
	v->c.slots[v->c.n++] = (struct slot){ take_ptr(copy), hash, value };
	return 0;
}

int va_append(struct va_value *array, struct va_value *item)
{
	int r = -ENOMEM;

	if (array && item)
		r = array->type == VA_ARRAY ? slot_add(array, NULL, 0, item) :
					      -EINVAL;
	if (r < 0)
		va_value_free(item);
	return r;
}

static struct slot *slot_find(const struct va_value *v, const char *name,
			      uint32_t hash)
{
	for (size_t i = 0; i < v->c.n; i++) {
		struct slot *s = &v->c.slots[i];

		if (s->hash == hash && strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

int va_set(struct va_value *strct, const char *name, struct va_value *item)
{
	uint32_t hash = name_hash(name);
	struct slot *old;
	int r = -ENOMEM;

	if (strct && item && strct->type == VA_STRUCT) {
		old = slot_find(strct, name, hash);
		if (old) {
			va_value_free(old->value);
			old->value = item;
			return 0;
		}
		r = slot_add(strct, name, hash, item);
	} else if (strct && item) {
		r = -EINVAL;
	}
	if (r < 0)
		va_value_free(item);
	return r;
}

struct va_value *va_value_copy(const struct va_value *v)
{
	CLEANUP_VALUE struct va_value *to = NULL;

	if (!v)
		return NULL;
	if (has_data(v))
		return value_new_data(v->type, v->s.data, v->s.len);
	to = value_new(v->type);
	if (!to)
		return NULL;
	if (!is_container(v)) {
		*to = *v;
		return take_ptr(to);
	}
	for (size_t i = 0; i < v->c.n; i++) {
		const struct slot *s = &v->c.slots[i];
		struct va_value *item = va_value_copy(s->value);

		if (!item || slot_add(to, s->name, s->hash, item) < 0) {
			va_value_free(item);
			return NULL;
		}
	}
	return take_ptr(to);
}

enum va_type va_typeof(const struct va_value *v)
{
	return v ? v->type : VA_NIL;
}

const char *va_type_name(enum va_type t)
{
	static const char *const names[] = {
		[VA_NIL] = "nil",	    [VA_BOOL] = "boolean",
		[VA_INT] = "int",	    [VA_DOUBLE] = "double",
		[VA_STRING] = "string",	    [VA_BYTES] = "base64",
		[VA_DATETIME] = "dateTime.iso8601", [VA_ARRAY] = "array",
		[VA_STRUCT] = "struct",
	};

	return (size_t)t < sizeof(names) / sizeof(names[0]) ? names[t] : "?";
}

size_t va_count(const struct va_value *v)
{
	return is_container(v) ? v->c.n : 0;
}

struct va_value *va_item(const struct va_value *array, size_t i)
{
	if (!array || array->type != VA_ARRAY || i >= array->c.n)
		return NULL;
	return array->c.slots[i].value;
}

struct va_value *va_member(const struct va_value *strct, const char *name)
{
	struct slot *s;

	if (!strct || strct->type != VA_STRUCT)
		return NULL;
	s = slot_find(strct, name, name_hash(name));
	return s ? s->value : NULL;
}

struct va_value *va_member_at(const struct va_value *strct, size_t i,
			      const char **name)
{
	if (!strct || strct->type != VA_STRUCT || i >= strct->c.n)
		return NULL;
	if (name)
		*name = strct->c.slots[i].name;
	return strct->c.slots[i].value;
}

int va_get_bool(const struct va_value *v, bool *ret)
{
	if (!v || v->type != VA_BOOL)
		return -EINVAL;
	*ret = v->b;
	return 0;
}

int va_get_int(const struct va_value *v, int64_t *ret)
{
	const double exact = 9007199254740992.0; /* 2^53 */

	if (!v)
		return -EINVAL;
	switch (v->type) {
	case VA_INT:
		*ret = v->i;
		return 0;
	case VA_DOUBLE:
		if (!(v->d >= -exact && v->d <= exact) || trunc(v->d) != v->d)
			return -EINVAL;
		*ret = (int64_t)v->d;
		return 0;
	case VA_STRING:
		if (strlen(v->s.data) != v->s.len)
			return -EINVAL;
		return str_to_i64(v->s.data, INT64_MIN, INT64_MAX, ret) < 0 ?
			       -EINVAL :
			       0;
	default:
		return -EINVAL;
	}
}

int va_get_double(const struct va_value *v, double *ret)
{
	if (v && v->type == VA_DOUBLE)
		*ret = v->d;
	else if (v && v->type == VA_INT)
		*ret = (double)v->i;
	else
		return -EINVAL;
	return 0;
}

int va_get_string(const struct va_value *v, const char **ret)
{
	if (!v || (v->type != VA_STRING && v->type != VA_DATETIME) ||
	    memchr(v->s.data, 0, v->s.len))
		return -EINVAL;
	*ret = v->s.data;
	return 0;
}

int va_get_bytes(const struct va_value *v, const void **data, size_t *n)
{
	if (!v || (v->type != VA_BYTES && v->type != VA_STRING))
		return -EINVAL;
	*data = v->s.data;
	*n = v->s.len;
	return 0;
}

size_t va_weight(const struct va_value *v)
{
	/* <value><dateTime.iso8601>...; <member><name>... */
	size_t sum = 64;

	if (v && v->type == VA_BYTES)
		return sum + v->s.len / 3 * 4 + v->s.len / 57 * 2 + 8;
	if (has_data(v))
		return sum + v->s.len;
	for (size_t i = 0; i < va_count(v); i++) {
		const struct slot *s = &v->c.slots[i];

		sum += va_weight(s->value);
		if (s->name)
			sum += 48 + strlen(s->name);
	}
	return sum;
}

void va_double_text(double d, char ret[VA_DOUBLE_TEXT_SIZE])
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(ret, VA_DOUBLE_TEXT_SIZE, "%.*g", digits, d);
		if (strtod(ret, NULL) == d)
			return;
	}
}
