/*
 * test-proxy-json.c - the right string is found in QMP's messages
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/unit.h"
#include "virtproxy/json_member.h"

#define EVENT                                                                  \
	"{\"timestamp\": {\"seconds\": 1, \"event\": \"no\"}, "                \
	"\"data\": {\"event\": \"inner\", \"a\": [{\"event\": \"deep\"}]}, "   \
	"\"event\": \"STOP\"}"

TEST(members_by_depth)
{
	static const struct {
		const char *text;
		int depth;
		const char *key, *value;
	} rows[] = {
		{ EVENT, 1, "event", "STOP" },
		{ EVENT, 2, "event", "no" },
		{ EVENT, 4, "event", "deep" },
		{ EVENT, 3, "event", NULL },
		{ EVENT, 1, "seconds", NULL },
		{ "{\"return\":{\"running\":true,\"status\":\"paused\"}}", 2, "status",
		  "paused" },
		{ "{\"status\" : \"x\"}", 1, "status", "x" },
		{ "{\"k\":1,\"k\":\"second\"}", 1, "k", NULL },
		{ "{\"a\":\"k\",\"k\":\"v\"}", 1, "k", "v" },
		{ "{\"a\":\"\\\"k\\\":\\\"fake\\\"\",\"k\":\"v\"}", 1, "k", "v" },
		{ "{\"a\":\"{[\",\"k\":\"v\"}", 1, "k", "v" },
		{ "{\"k\":\"a\\\"b\"}", 1, "k", "a\\\"b" },
		{ "{\"k\":\"no end", 1, "k", NULL },
		{ "{\"k\":\"trail\\", 1, "k", NULL },
		{ "{\"k\":", 1, "k", NULL },
		{ "\"k\":\"v\"", 1, "k", NULL },
		{ "}}}{\"k\":\"v\"", 1, "k", NULL },
		{ "", 1, "k", NULL },
		{ "\"", 1, "k", NULL },
	};
	char got[32];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool found = json_member(rows[i].text, rows[i].depth, rows[i].key, got,
					 sizeof(got));

		if (found != !!rows[i].value ||
		    (found && strcmp(got, rows[i].value) != 0))
			unit_fail(__FILE__, __LINE__, "%s at %d of %s: %s", rows[i].key,
				  rows[i].depth, rows[i].text,
				  found ? got : "not found");
	}
}

TEST(a_long_value_is_cut)
{
	char got[4];

	CHECK(json_member("{\"k\":\"abcdef\"}", 1, "k", got, sizeof(got)));
	CHECK_STR(got, "abc");
	/* A key longer than any that is asked for is not mistaken for a short one. */
	CHECK(!json_member("{\"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\":\"v\"}", 1,
			   "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", got, sizeof(got)));
}

UNIT_MAIN(CASE(members_by_depth), CASE(a_long_value_is_cut))
