/*
 * codec.c - see codec.h
 *
 * Every document passes the validator before xmlrpc-c sees it.  What xmlrpc-c
 * gets wrong in the other direction is put right here: text that is not clean
 * or lies beyond U+FFFF, which it cannot carry, is escaped; doubles, which it
 * rounds, are put into its output from our own text; and the limits that the
 * peer's validator will apply are applied to our documents first, so that a
 * result that is too large becomes a fault that says so.
 *
 * xmlrpc-c's limits are process-wide and set once.  Its values carry locks, so
 * that documents may be processed on any number of threads.
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

#include <xmlrpc-c/base.h>

#include "virtagent/codec_priv.h"
#include "virtagent/fault.h"
#include "virtagent/validate.h"

static void wire_unref_p(xmlrpc_value **v)
{
	if (*v)
		xmlrpc_DECREF(*v);
}

static void block_free_p(xmlrpc_mem_block **b)
{
	if (*b)
		XMLRPC_MEMBLOCK_FREE(char, *b);
}

static void env_done(xmlrpc_env *env)
{
	xmlrpc_env_clean(env);
}

/* Strings that xmlrpc-c gives away are malloc'ed. */
static void wire_str_free_p(const char **s)
{
	free((void *)(uintptr_t)*s);
}

#define CLEANUP_WIRE CLEANUP(wire_unref_p)
#define CLEANUP_BLOCK CLEANUP(block_free_p)
#define CLEANUP_WIRE_STR CLEANUP(wire_str_free_p)
#define CLEANUP_ENV CLEANUP(env_done)

int codec_global_init(void)
{
	va_validate_init();
	xmlrpc_limit_set(XMLRPC_XML_SIZE_LIMIT_ID, VA_XML_MAX);
	/* xmlrpc-c counts an array or struct as one level; the validator counts
	 * the values and is the stricter one. */
	xmlrpc_limit_set(XMLRPC_NESTING_LIMIT_ID, VA_XML_DEPTH_MAX + 2);
	return 0;
}

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

/* --- xmlrpc-c to values -------------------------------------------------- */

/*
 * xmlrpc-c reads doubles some units off, so they are taken from the validator,
 * which met them in the same order; that holds as long as no struct has two
 * members of one name (xmlrpc-c puts the second in the first one's place), and
 * such documents are refused.
 */
struct decoder {
	xmlrpc_env env;
	struct va_xml_facts facts;
	size_t members; /* of the structs, as xmlrpc-c has them */
};

static void decoder_done(struct decoder *d)
{
	buf_done(&d->facts.doubles);
	xmlrpc_env_clean(&d->env);
}

static void decoder_init(struct decoder *d)
{
	memset(d, 0, sizeof(*d));
	xmlrpc_env_init(&d->env);
	buf_init(&d->facts.doubles, VA_XML_ELEMENTS_MAX * sizeof(double));
}

#define CLEANUP_DECODER CLEANUP(decoder_done)

/* Recurses as deep as the validator lets a document nest. */
static struct va_value *from_wire(struct decoder *d, xmlrpc_value *wire);

static struct va_value *array_from_wire(struct decoder *d, xmlrpc_value *wire)
{
	CLEANUP_VALUE struct va_value *array = va_array();
	int n = xmlrpc_array_size(&d->env, wire);

	for (int i = 0; i < n && !d->env.fault_occurred; i++) {
		CLEANUP_WIRE xmlrpc_value *item = NULL;

		xmlrpc_array_read_item(&d->env, wire, (unsigned)i, &item);
		if (!item || va_append(array, from_wire(d, item)) < 0)
			return NULL;
	}
	return take_ptr(array);
}

static struct va_value *struct_from_wire(struct decoder *d, xmlrpc_value *wire)
{
	CLEANUP_VALUE struct va_value *strct = va_struct();
	int n = xmlrpc_struct_size(&d->env, wire);

	d->members += (size_t)n;
	for (int i = 0; i < n && !d->env.fault_occurred; i++) {
		CLEANUP_WIRE xmlrpc_value *key = NULL, *item = NULL;
		CLEANUP_WIRE_STR const char *name = NULL;

		xmlrpc_struct_read_member(&d->env, wire, (unsigned)i, &key,
					  &item);
		if (key)
			xmlrpc_read_string(&d->env, key, &name);
		if (!name || !item ||
		    va_set(strct, name, from_wire(d, item)) < 0)
			return NULL;
	}
	return take_ptr(strct);
}

static struct va_value *text_from_wire(struct decoder *d, xmlrpc_value *wire)
{
	CLEANUP_WIRE_STR const char *s = NULL;
	size_t n = 0;

	xmlrpc_read_string_lp(&d->env, wire, &n, &s);
	return d->env.fault_occurred ? NULL : va_string_checked(s, n);
}

static struct va_value *datetime_from_wire(struct decoder *d, xmlrpc_value *wire)
{
	xmlrpc_datetime t = { 0 };
	char text[80];

	xmlrpc_read_datetime(&d->env, wire, &t);
	snprintf(text, sizeof(text), "%04u%02u%02uT%02u:%02u:%02u", t.Y, t.M, t.D,
		 t.h, t.m, t.s);
	return va_datetime(text);
}

static struct va_value *bytes_from_wire(struct decoder *d, xmlrpc_value *wire)
{
	const unsigned char *data = NULL;
	struct va_value *v;
	size_t n = 0;

	xmlrpc_read_base64(&d->env, wire, &n, &data);
	if (d->env.fault_occurred)
		return NULL;
	v = va_bytes(data, n);
	free((void *)(uintptr_t)data);
	return v;
}

static struct va_value *double_from_wire(struct decoder *d, xmlrpc_value *wire)
{
	double v = 0;

	if (buf_get(&d->facts.doubles, &v, sizeof(v)) < 0)
		xmlrpc_read_double(&d->env, wire, &v);
	return va_double(v);
}

static struct va_value *from_wire(struct decoder *d, xmlrpc_value *wire)
{
	xmlrpc_int64 i8 = 0;
	xmlrpc_bool b = 0;
	int i = 0;

	switch (xmlrpc_value_type(wire)) {
	case XMLRPC_TYPE_INT:
		xmlrpc_read_int(&d->env, wire, &i);
		return va_int(i);
	case XMLRPC_TYPE_I8:
		xmlrpc_read_i8(&d->env, wire, &i8);
		return va_int(i8);
	case XMLRPC_TYPE_BOOL:
		xmlrpc_read_bool(&d->env, wire, &b);
		return va_bool(b);
	case XMLRPC_TYPE_DOUBLE:
		return double_from_wire(d, wire);
	case XMLRPC_TYPE_STRING:
		return text_from_wire(d, wire);
	case XMLRPC_TYPE_DATETIME:
		return datetime_from_wire(d, wire);
	case XMLRPC_TYPE_BASE64:
		return bytes_from_wire(d, wire);
	case XMLRPC_TYPE_ARRAY:
		return array_from_wire(d, wire);
	case XMLRPC_TYPE_STRUCT:
		return struct_from_wire(d, wire);
	default:
		return va_nil();
	}
}

/* --- documents in -------------------------------------------------------- */

/* Validates; the fault's code is LIMIT for a limit, else PARSE. */
static int gate(struct decoder *d, enum va_xml_kind kind, const void *xml,
		size_t n, struct va_fault *fault)
{
	char err[256];
	int r = va_validate_xml_facts(kind, xml, n, &d->facts, err, sizeof(err));

	if (r == -EMSGSIZE)
		return codec_fault(fault, VA_FAULT_LIMIT, r, err);
	if (r < 0)
		return codec_fault(fault, VA_FAULT_PARSE, r, err);
	return 0;
}

/* The whole of a parsed document as a value. */
static int take_value(struct decoder *d, xmlrpc_value *wire,
		      struct va_value **ret, struct va_fault *fault)
{
	CLEANUP_VALUE struct va_value *v = from_wire(d, wire);

	if (!v || d->env.fault_occurred)
		return codec_fault(fault, VA_FAULT_INTERNAL, -ENOMEM,
				 "out of memory");
	if (d->members != d->facts.members)
		return codec_fault(fault, VA_FAULT_PARSE, -EBADMSG,
				 "two members of one name in a struct");
	*ret = take_ptr(v);
	return 0;
}

int codec_decode_call(const void *xml, size_t n, char name[],
		       struct va_value **params, struct va_fault *fault)
{
	CLEANUP_DECODER struct decoder d;
	CLEANUP_WIRE xmlrpc_value *wire = NULL;
	CLEANUP_WIRE_STR const char *method = NULL;
	int r;

	decoder_init(&d);
	r = gate(&d, VA_XML_CALL, xml, n, fault);
	if (r < 0)
		return r;
	/* The validator knows all of a call without parameters. */
	if (d.facts.params == 0) {
		strcpy(name, d.facts.method);
		*params = va_array();
		return *params ? 0 : codec_fault(fault, VA_FAULT_INTERNAL, -ENOMEM,
					       "out of memory");
	}
	xmlrpc_parse_call(&d.env, xml, n, &method, &wire);
	if (d.env.fault_occurred) {
		method = NULL;
		wire = NULL;
		return codec_fault(fault, VA_FAULT_PARSE, -EBADMSG,
				 d.env.fault_string);
	}
	snprintf(name, VA_METHOD_NAME_MAX + 1, "%s", method);
	return take_value(&d, wire, params, fault);
}

int codec_decode_reply(const void *xml, size_t n, struct va_value **ret,
		       struct va_fault *fault)
{
	CLEANUP_DECODER struct decoder d;
	CLEANUP_WIRE xmlrpc_value *wire = NULL;
	CLEANUP_WIRE_STR const char *text = NULL;
	int code = 0;

	decoder_init(&d);
	memset(fault, 0, sizeof(*fault));
	if (gate(&d, VA_XML_REPLY, xml, n, fault) < 0)
		return -EBADMSG;
	xmlrpc_parse_response2(&d.env, xml, n, &wire, &code, &text);
	if (d.env.fault_occurred) {
		wire = NULL;
		text = NULL;
		return codec_fault(fault, VA_FAULT_PARSE, -EBADMSG,
				 d.env.fault_string);
	}
	if (text) { /* code 0 would mean that there is no fault */
		wire = NULL;
		return codec_fault(fault, code ? code : VA_FAULT_INTERNAL,
				 -EREMOTEIO, text);
	}
	return take_value(&d, wire, ret, fault);
}
