/*
 * test-va-outcome.c - a marked call runs once, and what became of it is known
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/unit.h"
#include "virtagent/codec.h"
#include "virtagent/limits.h"
#include "virtagent/outcome.h"

static void outcomes_free_p(struct outcomes **o)
{
	outcomes_free(*o);
}

#define CLEANUP_OUTCOMES CLEANUP(outcomes_free_p)

static void answers(struct outcomes *o, const char *id, const char *want)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_BUF struct buf json = BUF_INIT(1 << 20);

	CHECK_INT(outcome_query(o, id, &v), 0);
	CHECK_INT(va_to_json(v, false, &json), 0);
	CHECK_STR(buf_cstr(&json), want);
}

static void end_with(struct outcomes *o, const char *id, struct va_value *result)
{
	CLEANUP_VALUE struct va_value *v = result;
	CLEANUP_BUF struct buf doc = BUF_INIT(VA_XML_MAX);

	CHECK_INT(codec_encode_reply(v, &doc), 0);
	outcome_end(o, id, &doc);
}

TEST(a_call_goes_through_its_states)
{
	CLEANUP_OUTCOMES struct outcomes *o = outcomes_new();
	CLEANUP_BUF struct buf doc = BUF_INIT(VA_XML_MAX);
	struct va_fault f = { .code = 1002, .text = "no such file" };

	codec_global_init();
	CHECK_INT(outcome_begin(o, "a/1"), 0);
	answers(o, "a/1", "{\"state\":\"running\"}");
	end_with(o, "a/1", va_int(7));
	answers(o, "a/1", "{\"state\":\"done\",\"result\":7}");
	CHECK_INT(outcome_begin(o, "a/1"), -EALREADY);

	CHECK_INT(outcome_begin(o, "a/2"), 0);
	CHECK_INT(codec_encode_fault(&f, &doc), 0);
	outcome_end(o, "a/2", &doc);
	answers(o, "a/2", "{\"state\":\"done\",\"fault\":{\"code\":1002,"
			  "\"text\":\"no such file\"}}");
}

TEST(what_was_asked_about_never_runs)
{
	CLEANUP_OUTCOMES struct outcomes *o = outcomes_new();

	answers(o, "a/1", "{\"state\":\"never\"}");
	CHECK_INT(outcome_begin(o, "a/1"), -EALREADY);
	answers(o, "a/1", "{\"state\":\"never\"}");
}

TEST(reply_limits)
{
	CLEANUP_OUTCOMES struct outcomes *o = outcomes_new();

	codec_global_init();
	for (int over = -1; over <= 1; over++) {
		CLEANUP_BUF struct buf doc = BUF_INIT(1 << 20);
		CLEANUP_VALUE struct va_value *v = NULL;
		CLEANUP_VALUE struct va_value *none = va_string("");
		CLEANUP_FREE char *text = NULL;
		char id[16];
		size_t fill;

		CHECK_INT(codec_encode_reply(none, &doc), 0);
		fill = VA_OUTCOME_REPLY_MAX + (size_t)over - buf_len(&doc);
		text = malloc(fill + 1);
		memset(text, 'x', fill);
		text[fill] = 0;
		snprintf(id, sizeof(id), "a/%d", over + 1);
		CHECK_INT(outcome_begin(o, id), 0);
		end_with(o, id, va_string(text));
		CHECK_INT(outcome_query(o, id, &v), 0);
		CHECK((va_member(v, "dropped") != NULL) == (over > 0));
		CHECK((va_member(v, "result") != NULL) == (over <= 0));
	}
}

TEST(replies_are_dropped_before_ids_are_forgotten)
{
	CLEANUP_OUTCOMES struct outcomes *o = outcomes_new();
	char id[32];

	codec_global_init();
	for (unsigned i = 0; i < VA_OUTCOMES_MAX; i++) {
		snprintf(id, sizeof(id), "a/%u", i);
		CHECK_INT(outcome_begin(o, id), 0);
		end_with(o, id, va_int(1));
		if (i == VA_OUTCOMES_KEPT - 1)
			answers(o, "a/0", "{\"state\":\"done\",\"result\":1}");
		if (i == VA_OUTCOMES_KEPT)
			answers(o, "a/0", "{\"state\":\"done\",\"dropped\":true}");
	}
	answers(o, "a/0", "{\"state\":\"done\",\"dropped\":true}");
	answers(o, "b/1", "{\"state\":\"never\"}"); /* pushes a/0 out */
	answers(o, "a/0", "{\"state\":\"unknown\"}");
	answers(o, "b/2", "{\"state\":\"unknown\"}");
}

TEST(running_calls_are_never_forgotten)
{
	CLEANUP_OUTCOMES struct outcomes *o = outcomes_new();
	char id[32];

	CHECK_INT(outcome_begin(o, "run/1"), 0);
	for (unsigned i = 0; i < VA_OUTCOMES_MAX * 2; i++) {
		snprintf(id, sizeof(id), "a/%u", i);
		answers(o, id, "{\"state\":\"never\"}");
	}
	answers(o, "run/1", "{\"state\":\"running\"}");
	for (unsigned i = 1; i <= VA_OUTCOMES_MAX / 2; i++) {
		snprintf(id, sizeof(id), "r/%u", i);
		CHECK_INT(outcome_begin(o, id),
			  i < VA_OUTCOMES_MAX / 2 ? 0 : -EMFILE);
	}
}

TEST(ids_have_a_form)
{
	char id[VA_CALL_ID_MAX + 2];

	CHECK(outcome_id_valid("0a-b_c.d/E9"));
	CHECK(!outcome_id_valid(""));
	CHECK(!outcome_id_valid("a"));
	CHECK(!outcome_id_valid("/a"));
	CHECK(!outcome_id_valid("a/"));
	CHECK(!outcome_id_valid("a/b/c"));
	CHECK(!outcome_id_valid("a/b c"));
	memset(id, 'a', sizeof(id));
	id[1] = '/';
	id[VA_CALL_ID_MAX + 1] = 0;
	CHECK(!outcome_id_valid(id));
	id[VA_CALL_ID_MAX] = 0;
	CHECK(outcome_id_valid(id));
}

UNIT_MAIN(CASE(a_call_goes_through_its_states),
	  CASE(what_was_asked_about_never_runs), CASE(reply_limits),
	  CASE(replies_are_dropped_before_ids_are_forgotten),
	  CASE(running_calls_are_never_forgotten), CASE(ids_have_a_form))
