/*
 * attacks.c - see attacks.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/attacks.h"

#include <stdlib.h>
#include <string.h>

static void put(struct buf *out, const char *s)
{
	if (buf_puts(out, s) < 0)
		abort();
}

static void repeat(struct buf *out, const char *s, size_t n)
{
	while (n--)
		put(out, s);
}

static void head(struct buf *out, bool reply)
{
	put(out, reply ? "<methodResponse>" :
			 "<methodCall><methodName>t.echo</methodName>");
	put(out, "<params><param>");
}

static void tail(struct buf *out, bool reply)
{
	put(out, "</param></params>");
	put(out, reply ? "</methodResponse>" : "</methodCall>");
}

/* A DOCTYPE with an internal subset, then a use of entity &z;. */
static void with_doctype(struct buf *out, bool reply, const char *subset)
{
	put(out, "<?xml version=\"1.0\"?>\n<!DOCTYPE x [");
	put(out, subset);
	put(out, "]>\n");
	head(out, reply);
	put(out, "<value><string>&z;</string></value>");
	tail(out, reply);
}

static void billion_laughs(struct buf *out, bool reply)
{
	with_doctype(out, reply,
		     "<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">"
		     "<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;\">"
		     "<!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;\">"
		     "<!ENTITY e \"&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;\">"
		     "<!ENTITY f \"&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;\">"
		     "<!ENTITY g \"&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;\">"
		     "<!ENTITY h \"&g;&g;&g;&g;&g;&g;&g;&g;&g;&g;\">"
		     "<!ENTITY z \"&h;&h;&h;&h;&h;&h;&h;&h;&h;&h;\">");
}

static void quadratic_entity(struct buf *out, bool reply)
{
	put(out, "<!DOCTYPE x [<!ENTITY z \"");
	repeat(out, "a", 100000);
	put(out, "\">]>");
	head(out, reply);
	put(out, "<value><string>");
	repeat(out, "&z;", 30000);
	put(out, "</string></value>");
	tail(out, reply);
}

static void external_entity(struct buf *out, bool reply)
{
	with_doctype(out, reply, "<!ENTITY z SYSTEM \"file:///etc/passwd\">");
}

static void external_dtd(struct buf *out, bool reply)
{
	put(out, "<!DOCTYPE x SYSTEM \"http://127.0.0.1:1/x.dtd\">");
	head(out, reply);
	put(out, "<value>x</value>");
	tail(out, reply);
}

static void nested(struct buf *out, bool reply, size_t n, bool closed)
{
	head(out, reply);
	repeat(out, "<value><array><data>", n);
	if (closed) {
		repeat(out, "</data></array></value>", n);
		tail(out, reply);
	}
}

static void nested_arrays(struct buf *out, bool reply)
{
	nested(out, reply, 50000, true);
}

static void unclosed_arrays(struct buf *out, bool reply)
{
	nested(out, reply, 100000, false);
}

static void unclosed_a(struct buf *out, bool reply)
{
	repeat(out, "<a>", 100000);
}

static void nested_structs(struct buf *out, bool reply)
{
	head(out, reply);
	repeat(out, "<value><struct><member><name>a</name>", 5000);
	repeat(out, "</member></struct></value>", 5000);
	tail(out, reply);
}

static void value(struct buf *out, bool reply, const char *xml)
{
	head(out, reply);
	put(out, "<value>");
	put(out, xml);
	put(out, "</value>");
	tail(out, reply);
}

#define VALUE_ATTACK(fn, xml)                                                  \
	static void fn(struct buf *out, bool reply)                            \
	{                                                                      \
		value(out, reply, xml);                                        \
	}                                                                      \
	struct attack_semicolon_##fn

VALUE_ATTACK(i8_junk, "<i8>junk</i8>");
VALUE_ATTACK(i8_range, "<i8>99999999999999999999999999</i8>");
VALUE_ATTACK(i8_empty, "<i8></i8>");
VALUE_ATTACK(ex_i8_junk, "<ex:i8>%s%s%n</ex:i8>");
VALUE_ATTACK(i4_range, "<i4>2147483648</i4>");
VALUE_ATTACK(i4_space, "<i4> 5 </i4>");
VALUE_ATTACK(double_nan, "<double>nan</double>");
VALUE_ATTACK(double_hex, "<double>0x1p3</double>");
VALUE_ATTACK(double_huge, "<double>1e999</double>");
VALUE_ATTACK(boolean_two, "<boolean>2</boolean>");
VALUE_ATTACK(datetime_month, "<dateTime.iso8601>20261302T03:04:05</dateTime.iso8601>");
VALUE_ATTACK(datetime_junk, "<dateTime.iso8601>%d%s%s%s</dateTime.iso8601>");
VALUE_ATTACK(base64_junk, "<base64>QUJD!ERE</base64>");
VALUE_ATTACK(base64_high, "<base64>QUJD\xc3\xa4QUI=</base64>");
VALUE_ATTACK(base64_cut, "<base64>QUJDR</base64>");
VALUE_ATTACK(base64_pad, "<base64>QQ==QUJD</base64>");
VALUE_ATTACK(two_types, "<i4>1</i4><i4>2</i4>");
VALUE_ATTACK(text_and_type, "x<i4>1</i4>");
VALUE_ATTACK(type_and_text, "<i4>1</i4>x");
VALUE_ATTACK(bad_utf8, "<string>\xc3(\xff\xfe</string>");
VALUE_ATTACK(overlong_utf8, "<string>\xc0\xaf</string>");
VALUE_ATTACK(surrogate, "<string>\xed\xa0\x80</string>");
VALUE_ATTACK(escape_char, "<string>\x1b[31m</string>");
VALUE_ATTACK(char_ref_control, "<string>&#27;</string>");
VALUE_ATTACK(char_ref_zero, "<string>&#0;</string>");
VALUE_ATTACK(unknown_entity, "<string>&nbsp;</string>");
VALUE_ATTACK(cdata, "<string><![CDATA[<i8>junk</i8>]]></string>");
VALUE_ATTACK(comment, "<i4>1<!-- -->2</i4>");
VALUE_ATTACK(pi, "<?php echo 1 ?><i4>1</i4>");
VALUE_ATTACK(attribute, "<i4 a=\"1\">1</i4>");
VALUE_ATTACK(xmlns, "<i4 xmlns=\"urn:x\">1</i4>");
VALUE_ATTACK(unknown_type, "<i16>1</i16>");
VALUE_ATTACK(prefixed_type, "<x:i4>1</x:i4>");
VALUE_ATTACK(nil_text, "<nil>1</nil>");
VALUE_ATTACK(value_in_value, "<value>1</value>");
VALUE_ATTACK(array_value, "<array><value>1</value></array>");
VALUE_ATTACK(array_no_data, "<array></array>");
VALUE_ATTACK(member_order, "<struct><member><value>1</value><name>a</name></member></struct>");
VALUE_ATTACK(member_no_value, "<struct><member><name>a</name></member></struct>");
VALUE_ATTACK(member_two_values,
	     "<struct><member><name>a</name><value>1</value><value>2</value></member></struct>");
VALUE_ATTACK(unclosed, "<string>abc</strong>");

static void two_values_in_param(struct buf *out, bool reply)
{
	head(out, reply);
	put(out, "<value>1</value><value>2</value>");
	tail(out, reply);
}

static void no_value_in_param(struct buf *out, bool reply)
{
	head(out, reply);
	tail(out, reply);
}

static void huge_attribute(struct buf *out, bool reply)
{
	put(out, reply ? "<methodResponse x=\"" : "<methodCall x=\"");
	repeat(out, "a", 1000000);
	put(out, "\"/>");
}

static void many_attributes(struct buf *out, bool reply)
{
	put(out, reply ? "<methodResponse" : "<methodCall");
	for (int i = 0; i < 20000; i++)
		buf_printf(out, " a%d=''", i);
	put(out, "/>");
}

static void huge_name(struct buf *out, bool reply)
{
	put(out, "<");
	repeat(out, "a", 1000000);
	put(out, ">");
}

static void many_elements(struct buf *out, bool reply)
{
	head(out, reply);
	put(out, "<value><array><data>");
	repeat(out, "<value/>", 400000);
	put(out, "</data></array></value>");
	tail(out, reply);
}

static void many_members(struct buf *out, bool reply)
{
	head(out, reply);
	put(out, "<value><struct>");
	for (int i = 0; i < 15000; i++)
		buf_printf(out, "<member><name>%x</name><value/></member>", i);
	put(out, "</struct></value>");
	tail(out, reply);
}

static void long_method(struct buf *out, bool reply)
{
	if (reply) {
		put(out, "<methodResponse><methodName/></methodResponse>");
		return;
	}
	put(out, "<methodCall><methodName>");
	repeat(out, "a", 1000000);
	put(out, "</methodName></methodCall>");
}

static void latin1(struct buf *out, bool reply)
{
	put(out, "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>");
	value(out, reply, "<string>\xe4</string>");
}

static void utf7(struct buf *out, bool reply)
{
	put(out, "<?xml version='1.0' encoding='UTF-7'?>");
	value(out, reply, "<string>+ADw-</string>");
}

static void utf16(struct buf *out, bool reply)
{
	CLEANUP_BUF struct buf plain = BUF_INIT(4096);

	value(&plain, reply, "<i4>1</i4>");
	put(out, "\xff\xfe");
	for (size_t i = 0; i < buf_len(&plain); i++)
		buf_put_u16(out, buf_data(&plain)[i]);
}

static void nul_byte(struct buf *out, bool reply)
{
	value(out, reply, "<string>a");
	buf_put_u8(out, 0);
	put(out, "</string>");
}

static void garbage(struct buf *out, bool reply)
{
	put(out, "GET / HTTP/1.0\r\n\r\n");
}

static void two_documents(struct buf *out, bool reply)
{
	value(out, reply, "<i4>1</i4>");
	value(out, reply, "<i4>1</i4>");
}

static void wrong_root(struct buf *out, bool reply)
{
	value(out, !reply, "<i4>1</i4>");
}

static void cut(struct buf *out, bool reply)
{
	value(out, reply, "<i4>1</i4>");
	buf_truncate(out, buf_len(out) - 5);
}

static const struct attack {
	const char *name;
	void (*make)(struct buf *out, bool reply);
} attacks[] = {
#define A(fn) { #fn, fn }
	A(billion_laughs), A(quadratic_entity), A(external_entity),
	A(external_dtd), A(nested_arrays), A(unclosed_arrays), A(unclosed_a),
	A(nested_structs), A(i8_junk), A(i8_range), A(i8_empty), A(ex_i8_junk),
	A(i4_range), A(i4_space), A(double_nan), A(double_hex), A(double_huge),
	A(boolean_two), A(datetime_month), A(datetime_junk), A(base64_junk),
	A(base64_high), A(base64_cut), A(base64_pad), A(two_types),
	A(text_and_type), A(type_and_text), A(bad_utf8), A(overlong_utf8),
	A(surrogate), A(escape_char), A(char_ref_control), A(char_ref_zero),
	A(unknown_entity), A(cdata), A(comment), A(pi), A(attribute), A(xmlns),
	A(unknown_type), A(prefixed_type), A(nil_text), A(value_in_value),
	A(array_value), A(array_no_data), A(member_order), A(member_no_value),
	A(member_two_values), A(unclosed), A(two_values_in_param),
	A(no_value_in_param), A(huge_attribute), A(many_attributes),
	A(huge_name), A(many_elements), A(many_members), A(long_method),
	A(latin1), A(utf7), A(utf16), A(nul_byte), A(garbage),
	A(two_documents), A(wrong_root), A(cut),
#undef A
};

size_t attack_count(void)
{
	return sizeof(attacks) / sizeof(attacks[0]);
}

const char *attack_name(size_t i)
{
	return attacks[i].name;
}

void attack_make(size_t i, bool reply, struct buf *out)
{
	attacks[i].make(out, reply);
}
