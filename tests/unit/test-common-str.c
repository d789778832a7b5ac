/*
 * test-common-str.c - numbers, globs, names and base64 from outside
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/str.h"
#include "tests/lib/unit.h"

#include <stdlib.h>

TEST(numbers_are_whole_and_within_bounds)
{
	static const char *const bad[] = { "", "-", "+1", " 1", "1 ", "0x10",
					   "1e3", "--1", "1.0", "\xd9\xa1" };
	uint64_t u = 7;
	int64_t i = 7;

	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		CHECK_INT(str_to_i64(bad[n], INT64_MIN, INT64_MAX, &i), -EINVAL);
		CHECK_INT(str_to_u64(bad[n], UINT64_MAX, &u), -EINVAL);
	}
	CHECK(u == 7 && i == 7);
	CHECK_INT(str_to_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &i), 0);
	CHECK(i == INT64_MIN);
	CHECK_INT(str_to_i64("9223372036854775807", INT64_MIN, INT64_MAX, &i), 0);
	CHECK(i == INT64_MAX);
	CHECK_INT(str_to_i64("9223372036854775808", INT64_MIN, INT64_MAX, &i), -ERANGE);
	CHECK_INT(str_to_i64("-9223372036854775809", INT64_MIN, INT64_MAX, &i), -ERANGE);
	CHECK_INT(str_to_i64("11", -10, 10, &i), -ERANGE);
	CHECK_INT(str_to_u64("18446744073709551615", UINT64_MAX, &u), 0);
	CHECK(u == UINT64_MAX);
	CHECK_INT(str_to_u64("18446744073709551616", UINT64_MAX, &u), -ERANGE);
	CHECK_INT(str_to_u64("99999999999999999999x", UINT64_MAX, &u), -EINVAL);
	CHECK_INT(str_to_u64("-1", UINT64_MAX, &u), -EINVAL);
}

TEST(sizes_take_one_suffix)
{
	uint64_t v = 0;

	CHECK_INT(str_to_size("3k", UINT64_MAX, &v), 0);
	CHECK_INT(v, 3072);
	CHECK_INT(str_to_size("2M", UINT64_MAX, &v), 0);
	CHECK_INT(v, 2 << 20);
	CHECK_INT(str_to_size("17", 17, &v), 0);
	CHECK_INT(str_to_size("18", 17, &v), -ERANGE);
	CHECK_INT(str_to_size("17179869184G", UINT64_MAX, &v), -ERANGE);
	CHECK_INT(str_to_size("1KB", UINT64_MAX, &v), -EINVAL);
	CHECK_INT(str_to_size("1\x0b", UINT64_MAX, &v), -EINVAL);
	CHECK_INT(str_to_size("K", UINT64_MAX, &v), -EINVAL);
}

TEST(durations_take_fractions_and_units)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {
		{ "0", 0 },
		{ "5", UINT64_C(5000000000) },
		{ "0.25", 250000000 },
		{ "1.5ms", 1500000 },
		{ "2m", UINT64_C(120000000000) },
		{ "0.5h", UINT64_C(1800000000000) },
		{ "1.0000000019s", UINT64_C(1000000001) },
	};
	static const char *const bad[] = { "", ".5", "1.", "1.5.5", "1d", "s",
					   "-1", "1 s", "1ss" };
	uint64_t v;

	for (size_t n = 0; n < sizeof(good) / sizeof(good[0]); n++) {
		CHECK_INT(str_to_duration(good[n].text, UINT64_MAX, &v), 0);
		CHECK_INT(v, good[n].ns);
	}
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++)
		CHECK_INT(str_to_duration(bad[n], UINT64_MAX, &v), -EINVAL);
	CHECK_INT(str_to_duration("2s", 1999999999, &v), -ERANGE);
	CHECK_INT(str_to_duration("18446744073709551615h", UINT64_MAX, &v), -ERANGE);
}

TEST(booleans)
{
	bool b = false;

	CHECK_INT(str_to_bool("Yes", &b), 0);
	CHECK(b);
	CHECK_INT(str_to_bool("off", &b), 0);
	CHECK(!b);
	CHECK_INT(str_to_bool("", &b), -EINVAL);
	CHECK_INT(str_to_bool("2", &b), -EINVAL);
}

static bool clean(const char *s)
{
	return str_is_clean_text(s, strlen(s), "\n");
}

TEST(clean_text_refuses_controls_and_bad_utf8)
{
	CHECK(clean("plain\n"));
	CHECK(clean("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7"));
	CHECK(!clean("tab\t"));
	CHECK(!clean("\x7f"));
	CHECK(!clean("\xc2\x85"));	   /* NEL, a C1 control */
	CHECK(!clean("\xc0\xaf"));	   /* overlong */
	CHECK(!clean("\xe0\x80\xaf"));	   /* overlong */
	CHECK(!clean("\xed\xa0\x80"));	   /* surrogate */
	CHECK(!clean("\xf4\x90\x80\x80")); /* past the last plane */
	CHECK(!clean("\xe2\x82"));	   /* cut */
	CHECK(!str_is_clean_text("a\0b", 3, "\n"));
}

TEST(globs)
{
	static const struct {
		const char *pattern, *text;
		bool match;
	} rows[] = {
		{ "*", "", true },	     { "", "", true },
		{ "", "a", false },	     { "guest.*", "guest.ping", true },
		{ "guest.*", "host.ping", false }, { "*.ping", "guest.ping", true },
		{ "g?est", "guest", true },  { "g?est", "gest", false },
		{ "[a-c]x", "bx", true },    { "[a-c]x", "dx", false },
		{ "[abc]*z", "cyz", true },  { "a*b*c", "axxbyyc", true },
		{ "a*b*c", "axxbyy", false }, { "[", "[", true },
		{ "[a", "[a", true },	     { "a[]b", "a]b", false },
		{ "**", "x", true },	     { "?", "", false },
	};

	for (size_t n = 0; n < sizeof(rows) / sizeof(rows[0]); n++)
		if (str_glob(rows[n].pattern, rows[n].text) != rows[n].match)
			unit_fail(__FILE__, __LINE__, "\"%s\" on \"%s\"",
				  rows[n].pattern, rows[n].text);
}

TEST(a_glob_cannot_be_made_slow)
{
	char pattern[201], text[10001];

	for (int i = 0; i < 200; i += 2)
		memcpy(pattern + i, "*a", 2);
	pattern[199] = 'b';
	pattern[200] = 0;
	memset(text, 'a', 10000);
	text[10000] = 0;
	CHECK(!str_glob(pattern, text));
}

TEST(names_become_path_parts)
{
	char id[STR_ID_MAX], other[STR_ID_MAX], longest[49 + 1];

	str_path_id("web-1.example", id);
	CHECK_STR(id, "web-1.example");
	memset(longest, 'a', 48);
	longest[48] = 0;
	str_path_id(longest, id);
	CHECK_STR(id, longest);
	memcpy(longest + 48, "a", 2);
	str_path_id(longest, id);
	CHECK(strlen(id) == 32 + 9 && id[32] == '-');
	str_path_id("..", id);
	CHECK(strcmp(id, "..") != 0 && strlen(id) > 2);
	str_path_id("", id);
	CHECK(strlen(id) == 9);
	str_path_id("a/b", id);
	str_path_id("a:b", other);
	CHECK(!strchr(id, '/') && strcmp(id, other) != 0);
	CHECK(strncmp(id, "ab-", 3) == 0);
}

TEST(base64_vectors)
{
	static const char *const rows[][2] = {
		{ "", "" },	     { "f", "Zg==" },	    { "fo", "Zm8=" },
		{ "foo", "Zm9v" },   { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" },
	};
	char text[16], back[16];

	for (size_t n = 0; n < sizeof(rows) / sizeof(rows[0]); n++) {
		size_t len = strlen(rows[n][0]);

		CHECK_INT(base64_encode(rows[n][0], len, text), BASE64_LEN(len));
		CHECK_STR(text, rows[n][1]);
		CHECK_INT(base64_decode(text, strlen(text), back), len);
		CHECK_MEM(back, rows[n][0], len);
	}
	CHECK_INT(base64_decode(" Zm\r\n9v\t", 8, back), 3);
}

TEST(base64_refuses_what_is_not_canonical)
{
	static const char *const bad[] = { "Z", "Zg", "Zg=", "Zg===", "Zm9v=",
					   "=", "Zm9v!", "Zh==", "Zm9=", "Zg==Zg==",
					   "Zm\x80v" };
	char back[16];

	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++)
		if (base64_decode(bad[n], strlen(bad[n]), back) != -EINVAL)
			unit_fail(__FILE__, __LINE__, "\"%s\" passed", bad[n]);
}

TEST(base64_round_trips_every_length)
{
	uint8_t data[256], back[260];
	char text[BASE64_LEN(256) + 1];

	for (int i = 0; i < 256; i++)
		data[i] = (uint8_t)(i * 167 + 13);
	for (size_t len = 0; len <= sizeof(data); len++) {
		size_t n = base64_encode(data, len, text);

		CHECK_INT(base64_decode(text, n, back), len);
		CHECK_MEM(data, back, len);
	}
}

UNIT_MAIN(CASE(numbers_are_whole_and_within_bounds), CASE(sizes_take_one_suffix),
	  CASE(durations_take_fractions_and_units), CASE(booleans),
	  CASE(clean_text_refuses_controls_and_bad_utf8), CASE(globs),
	  CASE(a_glob_cannot_be_made_slow), CASE(names_become_path_parts),
	  CASE(base64_vectors), CASE(base64_refuses_what_is_not_canonical),
	  CASE(base64_round_trips_every_length))
