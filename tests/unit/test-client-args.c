/*
 * test-client-args.c - words become the values that the signature says
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/unit.h"
#include "virtagent/client/args.h"

/* Converts words by a signature; the parameters as JSON, or the error. */
static const char *json(const char *signature, int argc, const char **argv)
{
	static char out[4096];
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_BUF struct buf b = BUF_INIT(4000);
	char err[400] = "";
	int error = args_convert(signature, argc, (char **)(uintptr_t)argv, &v,
				 err, sizeof(err));

	if (error) {
		snprintf(out, sizeof(out), "%s", err);
		return out;
	}
	CHECK_INT(va_to_json(v, false, &b), 0);
	snprintf(out, sizeof(out), "%s", buf_cstr(&b));
	while (*out && out[strlen(out) - 1] == '\n')
		out[strlen(out) - 1] = '\0';
	/* The writer's spacing is not this test's business. */
	for (char *from = out, *to = out; (*to = *from); from++)
		to += *to != ' ';
	return out;
}

#define JSON(signature, ...)                                                   \
	json(signature, sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *), \
	     (const char *[]){ __VA_ARGS__ })

TEST(letters_decide)
{
	CHECK_STR(JSON("S:si", "12", "12"), "[\"12\",12]");
	CHECK_STR(JSON("S:bd", "yes", "1"), "[true,1.0]");
	CHECK_STR(JSON("S:6", "hello"), "[{\"base64\":\"aGVsbG8=\"}]");
	CHECK_STR(JSON("S:AS", "[1,2]", "{\"a\":1}"), "[[1,2],{\"a\":1}]");
	CHECK_STR(JSON("S:n", "nil"), "[null]");
	CHECK_STR(JSON("S:i", "-9223372036854775808"),
		  "[-9223372036854775808]");
}

TEST(prefixes_override)
{
	CHECK_STR(JSON("S:ss", "i:42", "s:i:42"), "[42,\"i:42\"]");
	CHECK_STR(JSON("S:s", "b:false"), "[false]");
	CHECK_STR(JSON("S:s", "base64:aGVsbG8="),
		  "[{\"base64\":\"aGVsbG8=\"}]");
	CHECK_STR(JSON("S:s", "json:[null,true]"), "[[null,true]]");
	CHECK_STR(JSON("S:s", "d:2.5"), "[2.5]");
	CHECK_STR(JSON("S:i", "i:-5"), "[-5]");
}

TEST(text_is_bytes_only_where_it_must)
{
	CHECK_STR(JSON("S:t", "/proc/meminfo"), "[\"/proc/meminfo\"]");
	CHECK_STR(JSON("S:t", "/a\xff"), "[{\"base64\":\"L2H/\"}]");
	CHECK(strstr(JSON("S:s", "/a\xff"), "clean UTF-8"));
	CHECK(strstr(JSON("S:s", "a\033[2J"), "clean UTF-8"));
}

TEST(wrong_words_are_named)
{
	CHECK_STR(JSON("S:si", "a", "b"), "argument 2 is no whole number");
	CHECK(strstr(JSON("S:i", "9223372036854775808"), "64 bits"));
	CHECK(strstr(JSON("S:i", "1x"), "whole number"));
	CHECK(strstr(JSON("S:i", ""), "whole number"));
	CHECK(strstr(JSON("S:b", "maybe"), "neither true nor false"));
	CHECK(strstr(JSON("S:d", "nan"), "finite"));
	CHECK(strstr(JSON("S:d", "1e999"), "finite"));
	CHECK(strstr(JSON("S:S", "[1]"), "JSON object"));
	CHECK(strstr(JSON("S:A", "{"), "JSON"));
	CHECK(strstr(JSON("S:s", "base64:%%%"), "no base64"));
}

TEST(counts_are_checked)
{
	CHECK(strstr(JSON("S:s|ii", "a", "1", "2", "3"), "at most 3"));
	CHECK(strstr(json("S:s|ii", 0, NULL), "at least 1 argument,"));
	CHECK_STR(JSON("S:s|ii", "a", "1"), "[\"a\",1]");
	CHECK_STR(json("S:", 0, NULL), "[]");
	CHECK(strstr(JSON("S:", "x"), "at most 0"));
	CHECK_STR(JSON("S:i|s*", "1", "a", "2", "3"), "[1,\"a\",\"2\",\"3\"]");
}

TEST(without_a_signature_words_are_guessed)
{
	CHECK_STR(JSON("", "12", "-7", "1.5", "true", "[1]", "{x", "1.2.3"),
		  "[12,-7,1.5,true,[1],\"{x\",\"1.2.3\"]");
	CHECK_STR(JSON("", "/etc/passwd", "", "-"),
		  "[\"/etc/passwd\",\"\",\"-\"]");
	CHECK(strstr(JSON("", "99999999999999999999"), "64 bits"));
}

TEST(a_file_is_read_and_bounded)
{
	char path[256], word[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/f", unit_tmpdir());
	snprintf(word, sizeof(word), "base64:@%s", path);
	f = fopen(path, "w");
	CHECK(f != NULL);
	CHECK_INT(fwrite("a\0b", 1, 3, f), 3);
	CHECK_INT(fclose(f), 0);
	CHECK_STR(JSON("S:s", word), "[{\"base64\":\"YQBi\"}]");
	CHECK_INT(truncate(path, ARGS_FILE_MAX + 1), 0);
	CHECK(strstr(JSON("S:s", word), "larger than"));
	CHECK(strstr(JSON("S:s", "base64:@/nonexistent"), "cannot read"));
}

UNIT_MAIN(CASE(letters_decide), CASE(prefixes_override),
	  CASE(text_is_bytes_only_where_it_must), CASE(wrong_words_are_named),
	  CASE(counts_are_checked), CASE(without_a_signature_words_are_guessed),
	  CASE(a_file_is_read_and_bounded))
