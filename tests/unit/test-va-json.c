/*
 * test-va-json.c - JSON of values, both ways
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <math.h>

#include "tests/lib/unit.h"
#include "virtagent/limits.h"
#include "virtagent/value.h"

/* Parses, prints compactly, compares. */
static void round_trip(const char *in, const char *want)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_BUF struct buf out = BUF_INIT(1 << 20);
	char err[200] = "";
	int r = va_from_json(in, strlen(in), &v, err, sizeof(err));

	if (r < 0)
		unit_fail(__FILE__, __LINE__, "%s: %s", in, err);
	CHECK_INT(va_to_json(v, false, &out), 0);
	CHECK_STR(buf_cstr(&out), want);
}

TEST(documents_round_trip)
{
	static const char *const same[] = {
		"null", "true", "false", "0", "-1", "9223372036854775807",
		"-9223372036854775808", "1.5", "0.1", "1e+300", "\"\"", "[]",
		"{}", "[1,[2,[3,{}]]]", "{\"a\":{\"b\":[null]}}",
		"{\"base64\":\"AAEC\"}", "{\"base64\":\"\"}",
		"{\"base64\":\"AAEC\",\"x\":1}", "\"\xc3\xa4 \xe2\x82\xac\"",
		"\"\\n\\t\\r\\\"\\\\\"", "\"\\u0085\"", "\"\\u202e\"", "\"\\u007f\"",
		"\"\\u061c\"", "\"\\u200b\"", "\"\\ufeff\"", "\"\\udb40\\udc41\"",
	};

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		round_trip(same[i], same[i]);
	round_trip(" [ 1 , 2 ] ", "[1,2]");
	round_trip("\"\\u00e4\\/\\ud83d\\ude00\"", "\"\xc3\xa4/\xf0\x9f\x98\x80\"");
	round_trip("9223372036854775808", "9.223372036854776e+18");
	round_trip("1.0", "1.0");
	round_trip("-0.0", "-0.0");
	round_trip("{\"a\":1,\"a\":2}", "{\"a\":2}");
}

TEST(pretty_output_is_indented)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_BUF struct buf out = BUF_INIT(4096);
	const char *in = "{\"a\":[1,2],\"b\":{}}";
	char err[100];

	CHECK_INT(va_from_json(in, strlen(in), &v, err, sizeof(err)), 0);
	CHECK_INT(va_to_json(v, true, &out), 0);
	CHECK_STR(buf_cstr(&out),
		  "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}");
}

TEST(bad_documents_are_refused)
{
	static const char *const bad[] = {
		"", " ", "nul", "truex", "[", "]", "[1", "[1,", "[1,]", "[,1]",
		"{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,}", "{a:1}",
		"{1:2}", "1 2", "01", "-", "+1", "1.", ".5", "1e", "1e+", "0x1",
		"--1", "1e999", "NaN", "\"", "\"\\", "\"\\x\"", "\"\\u12\"",
		"\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\\u0000\"",
		"\"\\u001b\"", "\"\\b\"", "\"a\nb\"", "\"\xff\"", "\"\xc0\xaf\"",
		"'a'", "{\"base64\":\"!\"}", "[1}", "{\"a\":1]", "\xef\xbb\xbf\061",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct va_value *v = NULL;
		char err[200] = "";

		if (va_from_json(bad[i], strlen(bad[i]), &v, err, sizeof(err)) ==
		    0)
			unit_fail(__FILE__, __LINE__, "taken: %s", bad[i]);
		CHECK(!v);
		CHECK(strncmp(err, "JSON, byte ", 11) == 0);
	}
}

static int nested(unsigned depth, char open, char close)
{
	CLEANUP_BUF struct buf b = BUF_INIT(VA_XML_MAX);
	CLEANUP_VALUE struct va_value *v = NULL;
	char err[200];

	for (unsigned i = 0; i < depth; i++)
		CHECK_INT(open == '[' ? buf_puts(&b, "[") : buf_puts(&b, "{\"a\":"),
			  0);
	CHECK_INT(buf_puts(&b, "1"), 0);
	for (unsigned i = 0; i < depth; i++)
		CHECK_INT(buf_put_u8(&b, (uint8_t)close), 0);
	return va_from_json((const char *)buf_data(&b), buf_len(&b), &v, err,
			    sizeof(err));
}

TEST(depth_is_bounded)
{
	CHECK_INT(nested(VA_XML_DEPTH_MAX, '[', ']'), 0);
	CHECK_INT(nested(VA_XML_DEPTH_MAX + 1, '[', ']'), -EMSGSIZE);
	CHECK_INT(nested(VA_XML_DEPTH_MAX, '{', '}'), 0);
	CHECK_INT(nested(VA_XML_DEPTH_MAX + 1, '{', '}'), -EMSGSIZE);
	CHECK_INT(nested(500000, '{', '}'), -EMSGSIZE);
}

static int many_values(unsigned n)
{
	CLEANUP_BUF struct buf b = BUF_INIT(VA_XML_MAX);
	CLEANUP_VALUE struct va_value *v = NULL;
	char err[200];

	CHECK_INT(buf_puts(&b, "["), 0);
	for (unsigned i = 1; i < n; i++)
		CHECK_INT(buf_puts(&b, i > 1 ? ",1" : "1"), 0);
	CHECK_INT(buf_puts(&b, "]"), 0);
	return va_from_json((const char *)buf_data(&b), buf_len(&b), &v, err,
			    sizeof(err));
}

TEST(values_members_and_size_are_bounded)
{
	CLEANUP_BUF struct buf b = BUF_INIT(VA_XML_MAX + 10);
	struct va_value *v = NULL;
	char err[200];

	CHECK_INT(many_values(VA_XML_ELEMENTS_MAX), 0);
	CHECK_INT(many_values(VA_XML_ELEMENTS_MAX + 1), -EMSGSIZE);

	for (unsigned n = VA_STRUCT_MEMBERS_MAX; n <= VA_STRUCT_MEMBERS_MAX + 1;
	     n++) {
		buf_reset(&b);
		for (unsigned i = 0; i < n; i++)
			CHECK_INT(buf_printf(&b, "%s\"%u\":1", i ? "," : "{", i), 0);
		CHECK_INT(buf_puts(&b, "}"), 0);
		CHECK_INT(va_from_json((const char *)buf_data(&b), buf_len(&b), &v,
				       err, sizeof(err)),
			  n > VA_STRUCT_MEMBERS_MAX ? -EMSGSIZE : 0);
	}
	va_value_free(v);
	v = NULL;
	for (int over = -1; over <= 1; over++) {
		buf_reset(&b);
		CHECK_INT(buf_puts(&b, "\""), 0);
		while (buf_len(&b) < VA_XML_MAX - 1 + (size_t)over)
			CHECK_INT(buf_put_u8(&b, 'a'), 0);
		CHECK_INT(buf_puts(&b, "\""), 0);
		CHECK_INT(va_from_json((const char *)buf_data(&b), buf_len(&b), &v,
				       err, sizeof(err)),
			  over > 0 ? -EMSGSIZE : 0);
		va_value_free(v);
		v = NULL;
	}
}

TEST(what_is_not_finite_is_null)
{
	CLEANUP_VALUE struct va_value *v = va_double(NAN);
	CLEANUP_BUF struct buf out = BUF_INIT(64);

	CHECK_INT(va_to_json(v, false, &out), 0);
	CHECK_STR(buf_cstr(&out), "null");
}

UNIT_MAIN(CASE(documents_round_trip), CASE(pretty_output_is_indented),
	  CASE(bad_documents_are_refused), CASE(depth_is_bounded),
	  CASE(values_members_and_size_are_bounded),
	  CASE(what_is_not_finite_is_null))
