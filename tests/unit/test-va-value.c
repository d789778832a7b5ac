/*
 * test-va-value.c - values own what they hold, whatever fails
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <math.h>

#include "tests/lib/unit.h"
#include "virtagent/value.h"

TEST(a_struct_keeps_order_and_replaces)
{
	CLEANUP_VALUE struct va_value *s = va_struct();
	const char *name = NULL;
	int64_t i = 0;

	CHECK_INT(va_set(s, "b", va_int(1)), 0);
	CHECK_INT(va_set(s, "a", va_int(2)), 0);
	CHECK_INT(va_set(s, "b", va_int(3)), 0);
	CHECK_INT(va_count(s), 2);
	CHECK_INT(va_get_int(va_member_at(s, 0, &name), &i), 0);
	CHECK_STR(name, "b");
	CHECK_INT(i, 3);
	CHECK(!va_member(s, "c"));
	CHECK(!va_member_at(s, 2, &name));
}

TEST(ownership_passes_on_failure_too)
{
	CLEANUP_VALUE struct va_value *a = va_array(), *i = va_int(1);

	CHECK_INT(va_append(a, NULL), -ENOMEM);
	CHECK_INT(va_append(NULL, va_int(1)), -ENOMEM);
	CHECK_INT(va_append(i, va_int(1)), -EINVAL);
	CHECK_INT(va_set(a, "x", va_int(1)), -EINVAL);
	CHECK_INT(va_set(NULL, "x", va_int(1)), -ENOMEM);
	CHECK_INT(va_count(a), 0);
}

TEST(ints_come_in_four_forms)
{
	static const struct {
		const char *text;
		int r;
		int64_t v;
	} texts[] = {
		{ "12", 0, 12 }, { "-9223372036854775808", 0, INT64_MIN },
		{ "9223372036854775808", -EINVAL, 0 }, { "1x", -EINVAL, 0 },
		{ "", -EINVAL, 0 }, { " 1", -EINVAL, 0 },
	};
	static const struct {
		double d;
		int r;
		int64_t v;
	} doubles[] = {
		{ 9007199254740992.0, 0, INT64_C(9007199254740992) },
		{ -9007199254740992.0, 0, -INT64_C(9007199254740992) },
		{ 9007199254740994.0, -EINVAL, 0 }, { 1.5, -EINVAL, 0 },
		{ 1e300, -EINVAL, 0 }, { NAN, -EINVAL, 0 },
		{ INFINITY, -EINVAL, 0 }, { -0.0, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		CLEANUP_VALUE struct va_value *v = va_string(texts[i].text);
		int64_t got = 0;

		CHECK_INT(va_get_int(v, &got), texts[i].r);
		CHECK_INT(got, texts[i].v);
	}
	for (size_t i = 0; i < sizeof(doubles) / sizeof(doubles[0]); i++) {
		CLEANUP_VALUE struct va_value *v = va_double(doubles[i].d);
		int64_t got = 0;

		CHECK_INT(va_get_int(v, &got), doubles[i].r);
		CHECK_INT(got, doubles[i].v);
	}
}

TEST(unclean_text_is_escaped)
{
	static const struct {
		const char *in;
		size_t n;
		const char *out;
	} rows[] = {
		{ "plain \xc3\xa4\n\tx", 11, "plain \xc3\xa4\n\tx" },
		{ "a\x1b[31m", 6, "a\\x1b[31m" },
		{ "a\0b", 3, "a\\x00b" },
		{ "\xff\n\xfe", 3, "\\xff\n\\xfe" },
		{ "cr\r\n", 4, "cr\\x0d\n" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CLEANUP_VALUE struct va_value *v =
			va_string_n(rows[i].in, rows[i].n);
		const char *s = NULL;

		CHECK_INT(va_get_string(v, &s), 0);
		CHECK_STR(s, rows[i].out);
	}
}

TEST(strings_never_hold_a_nul)
{
	CLEANUP_VALUE struct va_value *v = va_string_checked("a\0b", 3);
	const char *s = NULL;
	const void *data;
	size_t n;

	CHECK_INT(va_get_string(v, &s), -EINVAL);
	CHECK_INT(va_get_bytes(v, &data, &n), 0);
	CHECK_INT(n, 3);
}

TEST(a_copy_is_deep)
{
	CLEANUP_VALUE struct va_value *s = va_struct(), *copy = NULL;
	struct va_value *list = va_array();
	const void *data;
	size_t n;
	bool b = false;

	CHECK_INT(va_append(list, va_bytes("\0\1", 2)), 0);
	CHECK_INT(va_append(list, va_bool(true)), 0);
	CHECK_INT(va_append(list, va_nil()), 0);
	CHECK_INT(va_set(s, "list", list), 0);
	copy = va_value_copy(s);
	va_value_free(s);
	s = NULL;
	list = va_member(copy, "list");
	CHECK_INT(va_count(list), 3);
	CHECK_INT(va_get_bytes(va_item(list, 0), &data, &n), 0);
	CHECK_INT(n, 2);
	CHECK_MEM(data, "\0\1", 2);
	CHECK_INT(va_get_bool(va_item(list, 1), &b), 0);
	CHECK(b);
	CHECK_INT(va_typeof(va_item(list, 2)), VA_NIL);
}

TEST(bytes_take_over_memory)
{
	char *mem = malloc(3);
	const void *data;
	size_t n;

	memcpy(mem, "abc", 3);
	{
		CLEANUP_VALUE struct va_value *v = va_bytes_take(mem, 3);

		CHECK_INT(va_get_bytes(v, &data, &n), 0);
		CHECK_INT(n, 3);
		CHECK_STR((const char *)data, "abc");
	}
}

TEST(double_text_is_exact)
{
	static const double d[] = { 0.1, 3.0000000000000004, 1e300, -0.0, 5e-324,
				    1.0 / 3, 123456.789, 1.7976931348623157e308 };
	char text[VA_DOUBLE_TEXT_SIZE];

	for (size_t i = 0; i < sizeof(d) / sizeof(d[0]); i++) {
		va_double_text(d[i], text);
		CHECK(strtod(text, NULL) == d[i]);
	}
	va_double_text(0.1, text);
	CHECK_STR(text, "0.1");
}

UNIT_MAIN(CASE(a_struct_keeps_order_and_replaces),
	  CASE(ownership_passes_on_failure_too), CASE(ints_come_in_four_forms),
	  CASE(unclean_text_is_escaped), CASE(strings_never_hold_a_nul),
	  CASE(a_copy_is_deep), CASE(bytes_take_over_memory),
	  CASE(double_text_is_exact))
