/*
 * test-client-outcome.c - what an answer about a lost call means
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/clock.h"
#include "tests/lib/unit.h"
#include "virtagent/client/client.h"
#include "virtagent/client/methods.h"
#include "virtagent/client/rpc_outcome.h"
#include "virtagent/fault.h"
#include "virtagent/method.h"

/* Answers in order; NULL = nobody answers, "!N" = a fault of code N. */
struct script {
	const char *const *answer;
	unsigned asked;
};

static int play(void *arg, const char *call_id, uint64_t deadline_ns,
		struct va_value **ret, int *fault)
{
	struct script *s = arg;
	const char *text = s->answer[s->asked++];
	char err[64];

	CHECK_STR(call_id, "agent/1");
	if (!text)
		return -EAGAIN;
	if (*text == '!') {
		*fault = atoi(text + 1);
		return -EREMOTEIO;
	}
	CHECK_INT(va_from_json(text, strlen(text), ret, err, sizeof(err)), 0);
	return 0;
}

static int run(const char *const *answer, uint64_t ns, struct va_value **ret,
	       char *err, size_t size)
{
	struct script s = { answer, 0 };
	int fault = 0;

	return outcome_ask(play, &s, "agent/1", clock_now() + ns, ret, &fault,
			   err, size);
}

#define RUN(ns, ...)                                                           \
	run((const char *const[]){ __VA_ARGS__ }, (ns), &v, err, sizeof(err))

TEST(never_seen_may_be_tried_again)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char err[256];

	CHECK_INT(RUN(NSEC_PER_SEC, "{\"state\":\"never\"}"),
		  VAC_NOT_CONNECTED);
	CHECK(!v);
}

TEST(running_is_waited_for)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char err[256];
	int64_t n = 0;

	CHECK_INT(RUN(5 * NSEC_PER_SEC, "{\"state\":\"running\"}", NULL,
		      "{\"state\":\"running\"}",
		      "{\"state\":\"done\",\"result\":42}"), VAC_OK);
	CHECK_INT(va_get_int(v, &n), 0);
	CHECK_INT(n, 42);
}

TEST(a_kept_fault_is_the_calls_own)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char err[256];

	CHECK_INT(RUN(NSEC_PER_SEC, "{\"state\":\"done\",\"fault\":{\"code\":"
				    "1002,\"text\":\"no such file\"}}"),
		  VAC_FALSE);
	CHECK_STR(err, "no such file");
	CHECK_INT(RUN(NSEC_PER_SEC, "{\"state\":\"done\",\"dropped\":true}"),
		  VAC_UNKNOWN);
	CHECK(strstr(err, "it ran"));
}

TEST(what_nobody_knows_is_unknown)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char err[256];

	CHECK_INT(RUN(NSEC_PER_SEC, "!5"), VAC_UNKNOWN);
	CHECK(strstr(err, "restarted"));
	CHECK_INT(RUN(NSEC_PER_SEC, "!-506"), VAC_UNKNOWN);
	CHECK_INT(RUN(NSEC_PER_SEC, "{\"state\":\"fine\"}"), VAC_UNKNOWN);
	CHECK_INT(RUN(NSEC_PER_SEC, "{\"state\":\"unknown\"}"), VAC_UNKNOWN);
	CHECK_INT(RUN(NSEC_PER_SEC, "[1]"), VAC_UNKNOWN);
	/* Silence until the deadline. */
	CHECK_INT(RUN(120 * NSEC_PER_MSEC, NULL, NULL, NULL, NULL, NULL),
		  VAC_UNKNOWN);
}

TEST(ids_are_unique_and_their_agent_is_checked)
{
	char a[OUTCOME_ID_MAX], b[OUTCOME_ID_MAX], longer[200];

	CHECK_INT(outcome_new_id("agent-1", a), 0);
	CHECK_INT(outcome_new_id("agent-1", b), 0);
	CHECK(strncmp(a, "agent-1/", 8) == 0);
	CHECK_INT(strlen(a), 8 + 36);
	CHECK(strcmp(a, b) != 0);
	CHECK_INT(outcome_new_id("", a), -EINVAL);
	CHECK_INT(outcome_new_id("a\r\nX: y", a), -EINVAL);
	memset(longer, 'a', sizeof(longer));
	longer[199] = '\0';
	CHECK_INT(outcome_new_id(longer, a), -EINVAL);
}

static const char *signature(const char *json, size_t nargs)
{
	static char out[48];
	CLEANUP_VALUE struct va_value *v = NULL;
	char err[64];

	CHECK_INT(va_from_json(json, strlen(json), &v, err, sizeof(err)), 0);
	return method_signature(v, nargs, out, sizeof(out)) ? "-" : out;
}

TEST(a_servers_signature_is_read)
{
	static const char getfile[] =
		"[[\"struct\",\"string\"],[\"struct\",\"base64\"],"
		"[\"struct\",\"string\",\"int\"],[\"struct\",\"base64\",\"i8\"]]";

	CHECK_STR(signature(getfile, 1), "S:t");
	CHECK_STR(signature(getfile, 2), "S:ti");
	CHECK_STR(signature(getfile, 3), "-");
	CHECK_STR(signature("[[\"nil\",\"int\"],[\"nil\",\"string\"]]", 1),
		  "n:x");
	CHECK_STR(signature("\"undef\"", 0), "-");
	CHECK_STR(signature("[[1,2]]", 1), "x:x");
	CHECK_STR(signature("[1,[]]", 0), "-");
}

TEST(a_row_of_capabilities_is_read)
{
	static const char json[] =
		"{\"name\":\"guest.getfile\",\"signature\":\"S:t|ii\","
		"\"args\":\"PATH\",\"raw\":\"data\",\"class\":\"read\","
		"\"flags\":[\"idempotent\",\"until-eof\",\"new\"],"
		"\"allowed\":false}";
	CLEANUP_VALUE struct va_value *v = NULL, *name = va_string("x.y"),
				      *number = va_int(3);
	struct method_info m;
	char err[64];

	CHECK_INT(va_from_json(json, strlen(json), &v, err, sizeof(err)), 0);
	CHECK_INT(method_from_value(v, &m), 0);
	CHECK_STR(m.name, "guest.getfile");
	CHECK_STR(m.raw, "data");
	CHECK_INT(m.flags, VA_M_IDEMPOTENT | VA_M_UNTIL_EOF);
	CHECK(!m.allowed);
	CHECK_INT(method_from_value(name, &m), 0);
	CHECK_STR(m.name, "x.y");
	CHECK_STR(m.signature, "");
	CHECK_INT(method_from_value(number, &m), -EBADMSG);
}

UNIT_MAIN(CASE(never_seen_may_be_tried_again), CASE(running_is_waited_for),
	  CASE(a_kept_fault_is_the_calls_own), CASE(what_nobody_knows_is_unknown),
	  CASE(ids_are_unique_and_their_agent_is_checked),
	  CASE(a_servers_signature_is_read),
	  CASE(a_row_of_capabilities_is_read))
