/*
 * codec_encode.c - from values to documents (codec.h)
 *
 * What xmlrpc-c gets wrong is put right here: text that is not clean or lies beyond
 * U+FFFF, which it cannot carry, is escaped; doubles, which it rounds, are put into its
 * output from our own text; and the limits that the peer's validator will apply are
 * applied to our documents first, so that a result that is too large becomes a fault
 * that says so.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/codec.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "virtagent/codec_priv.h"
#include "virtagent/codec_wire.h"
#include "virtagent/fault.h"
#include "virtagent/validate.h"

/* --- values to xmlrpc-c -------------------------------------------------- */

struct encoder {
	xmlrpc_env *env;
	struct buf doubles; /* those met, in the order of the document */
	unsigned elements;
	unsigned depth;
	int error; /* a limit; text in why */
	char why[160];
};

static xmlrpc_value *refuse(struct encoder *e, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static xmlrpc_value *refuse(struct encoder *e, int error, const char *fmt, ...)
{
	va_list ap;

	if (!e->error) {
		e->error = error;
		va_start(ap, fmt);
		vsnprintf(e->why, sizeof(e->why), fmt, ap);
		va_end(ap);
	}
	return NULL;
}

/* Out of memory, xmlrpc-c's constructors return what they have freed already. */
static xmlrpc_value *made(const struct encoder *e, xmlrpc_value *v)
{
	return e->env->fault_occurred ? NULL : v;
}

static xmlrpc_value *string_to_wire(struct encoder *e, const char *s, size_t n)
{
	CLEANUP_BUF struct buf text = BUF_INIT(n * 4 + 1);

	if (codec_text(s, n, &text) < 0)
		return refuse(e, -ENOMEM, "out of memory");
	return made(e, xmlrpc_string_new_lp(e->env, buf_len(&text),
					    (const char *)buf_data(&text)));
}

static xmlrpc_value *double_to_wire(struct encoder *e, double d)
{
	if (!isfinite(d))
		return refuse(e, -EINVAL, "a double that is not finite");
	/* xmlrpc-c's parser refuses what strtod() calls a range error. */
	if (d != 0 && fabs(d) < DBL_MIN)
		d = 0;
	if (buf_put(&e->doubles, &d, sizeof(d)) < 0)
		return refuse(e, -ENOMEM, "out of memory");
	return made(e, xmlrpc_double_new(e->env, d));
}

static xmlrpc_value *bytes_to_wire(struct encoder *e, const void *data, size_t n)
{
	if (n > VA_BYTES_MAX)
		return refuse(e, -EMSGSIZE, "base64 of %zu bytes, limit %u", n,
			      VA_BYTES_MAX);
	return made(e, xmlrpc_base64_new(e->env, n, data));
}

/* By its parts: xmlrpc-c's own reading and writing of the text goes through
 * 32-bit seconds since 1970.  What is not such a time goes as a string. */
static xmlrpc_value *datetime_to_wire(struct encoder *e, const char *text)
{
	xmlrpc_datetime t = { 0 };
	char again[32];

	if (sscanf(text, "%4u%2u%2uT%2u:%2u:%2u", &t.Y, &t.M, &t.D, &t.h, &t.m,
		   &t.s) == 6) {
		snprintf(again, sizeof(again), "%04u%02u%02uT%02u:%02u:%02u", t.Y,
			 t.M, t.D, t.h, t.m, t.s);
		/* (xmlrpc-c writes years before 1000 with fewer digits.) */
		if (strcmp(text, again) == 0 && t.Y >= 1000 && t.M && t.M <= 12 &&
		    t.D && t.D <= 31 && t.h < 24 && t.m < 60 && t.s < 60)
			return made(e, xmlrpc_datetime_new(e->env, t));
	}
	return string_to_wire(e, text, strlen(text));
}

static xmlrpc_value *to_wire(struct encoder *e, const struct va_value *v);

static xmlrpc_value *array_to_wire(struct encoder *e, const struct va_value *v)
{
	CLEANUP_WIRE xmlrpc_value *array = made(e, xmlrpc_array_new(e->env));

	for (size_t i = 0; i < va_count(v) && !e->env->fault_occurred; i++) {
		CLEANUP_WIRE xmlrpc_value *item = to_wire(e, va_item(v, i));

		if (!item)
			return NULL;
		xmlrpc_array_append_item(e->env, array, item);
	}
	return take_ptr(array);
}

static xmlrpc_value *struct_to_wire(struct encoder *e, const struct va_value *v)
{
	CLEANUP_WIRE xmlrpc_value *strct = made(e, xmlrpc_struct_new(e->env));

	if (va_count(v) > VA_STRUCT_MEMBERS_MAX)
		return refuse(e, -EMSGSIZE, "struct of %zu members, limit %u",
			      va_count(v), VA_STRUCT_MEMBERS_MAX);
	for (size_t i = 0; i < va_count(v) && !e->env->fault_occurred; i++) {
		CLEANUP_WIRE xmlrpc_value *key = NULL, *item = NULL;
		const char *name = "";
		const struct va_value *member = va_member_at(v, i, &name);

		if (strlen(name) > VA_MEMBER_NAME_MAX)
			return refuse(e, -EMSGSIZE,
				      "member name of %zu bytes, limit %u",
				      strlen(name), VA_MEMBER_NAME_MAX);
		key = string_to_wire(e, name, strlen(name));
		item = key ? to_wire(e, member) : NULL;
		if (!item)
			return NULL;
		xmlrpc_struct_set_value_v(e->env, strct, key, item);
	}
	return take_ptr(strct);
}

static xmlrpc_value *scalar_to_wire(struct encoder *e, const struct va_value *v)
{
	const void *data = NULL;
	const char *text = "";
	int64_t i = 0;
	double d = 0;
	bool b = false;
	size_t n = 0;

	switch (va_typeof(v)) {
	case VA_BOOL:
		va_get_bool(v, &b);
		return made(e, xmlrpc_bool_new(e->env, b));
	case VA_INT:
		va_get_int(v, &i);
		if (i >= INT32_MIN && i <= INT32_MAX)
			return made(e, xmlrpc_int_new(e->env, (int)i));
		return made(e, xmlrpc_i8_new(e->env, i));
	case VA_DOUBLE:
		va_get_double(v, &d);
		return double_to_wire(e, d);
	case VA_BYTES:
		va_get_bytes(v, &data, &n);
		return bytes_to_wire(e, data, n);
	case VA_STRING:
		va_get_bytes(v, &data, &n);
		return string_to_wire(e, data, n);
	case VA_DATETIME:
		va_get_string(v, &text);
		return datetime_to_wire(e, text);
	default:
		return made(e, xmlrpc_nil_new(e->env));
	}
}

/* A new reference, or NULL with e->error or the environment's fault set. */
static xmlrpc_value *to_wire(struct encoder *e, const struct va_value *v)
{
	enum va_type type = va_typeof(v);
	xmlrpc_value *wire;

	/* value and its type; array has data, a member itself and its name. */
	e->elements += 2 + (type == VA_ARRAY) +
		       (type == VA_STRUCT ? 2 * (unsigned)va_count(v) : 0);
	if (e->elements > VA_XML_ELEMENTS_MAX - 4)
		return refuse(e, -EMSGSIZE, "more than %u elements",
			      VA_XML_ELEMENTS_MAX);
	if (e->depth >= VA_XML_DEPTH_MAX)
		return refuse(e, -EMSGSIZE, "values nested deeper than %u",
			      VA_XML_DEPTH_MAX);
	e->depth++;
	if (type == VA_ARRAY)
		wire = array_to_wire(e, v);
	else if (type == VA_STRUCT)
		wire = struct_to_wire(e, v);
	else
		wire = scalar_to_wire(e, v);
	e->depth--;
	if (e->env->fault_occurred && wire) {
		xmlrpc_DECREF(wire);
		wire = NULL;
	}
	return wire;
}

/* --- documents out ------------------------------------------------------- */

static int put_document(struct encoder *e, xmlrpc_mem_block *block,
			struct buf *out)
{
	const char *xml = XMLRPC_MEMBLOCK_CONTENTS(char, block);
	size_t n = XMLRPC_MEMBLOCK_SIZE(char, block);

	if (n > VA_XML_MAX) {
		refuse(e, -EMSGSIZE, "document of %zu bytes, limit %u", n,
		       VA_XML_MAX);
		return -EMSGSIZE;
	}
	return codec_put_doubles(xml, n, &e->doubles, out);
}

/* Ends an encoding: 0, or a negative errno with the reason in fault. */
static int encoded(struct encoder *e, int r, struct va_fault *fault)
{
	if (e->error)
		r = e->error;
	else if (e->env->fault_occurred)
		r = -EINVAL;
	if (r < 0 && fault) {
		const char *why = e->error ? e->why :
				  e->env->fault_occurred ? e->env->fault_string :
							   strerror(-r);

		fault->code = r == -EMSGSIZE ? VA_FAULT_LIMIT : VA_FAULT_INTERNAL;
		snprintf(fault->text, sizeof(fault->text),
			 "the result cannot be sent: %s", why);
	}
	buf_done(&e->doubles);
	return r;
}

int codec_encode_call(const char *method, const struct va_value *params,
		      struct buf *out)
{
	CLEANUP_ENV xmlrpc_env env;
	CLEANUP_WIRE xmlrpc_value *wire = NULL;
	CLEANUP_BLOCK xmlrpc_mem_block *block = NULL;
	CLEANUP_VALUE struct va_value *none = NULL;
	struct encoder e = { .env = &env, .doubles = BUF_INIT(VA_XML_MAX) };
	int r = 0;

	xmlrpc_env_init(&env);
	if (strlen(method) > VA_METHOD_NAME_MAX)
		return -EMSGSIZE;
	if (!params)
		params = none = va_array();
	if (va_typeof(params) != VA_ARRAY)
		return -EINVAL;
	wire = array_to_wire(&e, params);
	if (wire && !env.fault_occurred)
		block = XMLRPC_MEMBLOCK_NEW(char, &env, 0);
	if (block) {
		xmlrpc_serialize_call2(&env, block, method, wire,
				       xmlrpc_dialect_i8);
		if (!env.fault_occurred)
			r = put_document(&e, block, out);
	}
	return encoded(&e, r, NULL);
}

int codec_encode_result(const struct va_value *result, struct buf *out,
			struct va_fault *fault)
{
	CLEANUP_ENV xmlrpc_env env;
	CLEANUP_WIRE xmlrpc_value *wire = NULL;
	CLEANUP_BLOCK xmlrpc_mem_block *block = NULL;
	struct encoder e = { .env = &env, .doubles = BUF_INIT(VA_XML_MAX) };
	int r = 0;

	xmlrpc_env_init(&env);
	wire = to_wire(&e, result);
	if (wire)
		block = XMLRPC_MEMBLOCK_NEW(char, &env, 0);
	if (block) {
		xmlrpc_serialize_response2(&env, block, wire, xmlrpc_dialect_i8);
		if (!env.fault_occurred)
			r = put_document(&e, block, out);
	}
	return encoded(&e, r, fault);
}

int codec_encode_reply(const struct va_value *result, struct buf *out)
{
	return codec_encode_result(result, out, NULL);
}

int codec_encode_fault(const struct va_fault *fault, struct buf *out)
{
	CLEANUP_ENV xmlrpc_env env, told;
	CLEANUP_BLOCK xmlrpc_mem_block *block = NULL;
	CLEANUP_BUF struct buf text = BUF_INIT(sizeof(fault->text) * 4 + 1);
	const char *s;

	xmlrpc_env_init(&env);
	xmlrpc_env_init(&told);
	if (codec_text(fault->text, strlen(fault->text), &text) < 0 ||
	    !(s = buf_cstr(&text)))
		return -ENOMEM;
	xmlrpc_env_set_fault(&told, fault->code, s);
	block = XMLRPC_MEMBLOCK_NEW(char, &env, 0);
	if (!block)
		return -ENOMEM;
	xmlrpc_serialize_fault(&env, block, &told);
	if (env.fault_occurred)
		return -ENOMEM;
	return buf_put(out, XMLRPC_MEMBLOCK_CONTENTS(char, block),
		       XMLRPC_MEMBLOCK_SIZE(char, block));
}
