/*
 * codec_decode.c - from documents to values (codec.h)
 *
 * Every document passes the validator before xmlrpc-c sees it.
 *
 * xmlrpc-c's limits are process-wide and set once.  Its values carry locks, so
 * that documents may be processed on any number of threads.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtagent/codec_priv.h"
#include "virtagent/codec_wire.h"
#include "virtagent/fault.h"
#include "virtagent/validate.h"

int codec_global_init(void)
{
	va_validate_init();
	xmlrpc_limit_set(XMLRPC_XML_SIZE_LIMIT_ID, VA_XML_MAX);
	/* xmlrpc-c counts an array or struct as one level; the validator counts
	 * the values and is the stricter one. */
	xmlrpc_limit_set(XMLRPC_NESTING_LIMIT_ID, VA_XML_DEPTH_MAX + 2);
	return 0;
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
