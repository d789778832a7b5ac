/*
 * test-va-codec.c - documents in and out, and the one way to every method
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <float.h>
#include <math.h>
#include <pthread.h>

#include "common/clock.h"
#include "tests/lib/attacks.h"
#include "tests/lib/unit.h"
#include "virtagent/codec.h"
#include "virtagent/fault.h"

/* --- a family of methods ------------------------------------------------- */

static int echo(struct va_call *call, struct va_value **ret)
{
	*ret = va_value_copy(va_item(call->params, 0));
	return 0;
}

static int fail_plain(struct va_call *call, struct va_value **ret)
{
	return -ENOENT;
}

static int fail_text(struct va_call *call, struct va_value **ret)
{
	return va_fail(call, EISDIR, "/x: is a directory \x1b[31m");
}

static int big(struct va_call *call, struct va_value **ret)
{
	int64_t n = 0;
	char *mem;
	int r = va_arg_int(call, 0, 0, 0, 16 << 20, &n);

	if (r < 0)
		return r;
	mem = calloc(1, (size_t)n + 1);
	*ret = va_bytes_take(mem, (size_t)n);
	return 0;
}

static int add(struct va_call *call, struct va_value **ret)
{
	int64_t a = 0, b = 0;
	int r = va_arg_int(call, 0, 0, -1000, INT64_MAX, &a);

	if (r == 0)
		r = va_arg_int(call, 1, 10, INT64_MIN, INT64_MAX, &b);
	if (r < 0)
		return r;
	*ret = va_int(a + b);
	return 0;
}

static int nothing(struct va_call *call, struct va_value **ret)
{
	return 0;
}

static unsigned calls_run;

static int count(struct va_call *call, struct va_value **ret)
{
	*ret = va_int(++calls_run);
	return 0;
}

static int special(struct va_call *call, struct va_value **ret)
{
	int64_t which = 0;

	va_arg_int(call, 0, 0, 0, 9, &which);
	switch (which) {
	case 0:
		*ret = va_double(INFINITY);
		break;
	case 1:
		*ret = va_array();
		for (unsigned i = 0; i < VA_XML_ELEMENTS_MAX / 2; i++)
			va_append(*ret, va_nil());
		break;
	default:
		*ret = va_nil();
		for (unsigned i = 0; i < VA_XML_DEPTH_MAX; i++) {
			struct va_value *outer = va_array();

			va_append(outer, *ret);
			*ret = outer;
		}
	}
	return 0;
}

#define ROW(nm, sig, f, c)                                                     \
	{ .name = nm, .signature = sig, .args = "X", .cls = c, .fn = f,        \
	  .help = "For the test." }
static const struct va_method rows[] = {
	ROW("t.echo", "x:x", echo, VA_CLASS_INFO),
	ROW("t.fail", "n:", fail_plain, VA_CLASS_READ),
	ROW("t.failtext", "n:", fail_text, VA_CLASS_READ),
	ROW("t.big", "6:i", big, VA_CLASS_READ),
	ROW("t.add", "i:i|i", add, VA_CLASS_READ),
	ROW("t.nothing", "n:", nothing, VA_CLASS_READ),
	ROW("t.count", "i:", count, VA_CLASS_WRITE),
	ROW("t.special", "x:i", special, VA_CLASS_READ),
	ROW("t.types", "S:sibd6|ASnxt", nothing, VA_CLASS_READ),
	ROW("t.many", "n:s*", nothing, VA_CLASS_READ),
	ROW("t.strict", "n:sibd6ASnt", nothing, VA_CLASS_READ),
};

static unsigned guarded, audited;
static int audited_error;
static char audited_name[80];

static int guard(struct va_call *call)
{
	guarded++;
	if (call->method->cls == VA_CLASS_WRITE && call->context)
		return va_fault(call, VA_FAULT_REFUSED, EPERM, "refused: %s",
				call->method->name);
	return 0;
}

static void after(struct va_call *call, int error, uint64_t ns)
{
	audited++;
	audited_error = error;
	snprintf(audited_name, sizeof(audited_name), "%s", call->method->name);
	CHECK(ns < 5 * NSEC_PER_SEC);
}

static struct codec_registry *make(void)
{
	struct va_family f = VA_FAMILY(rows);

	CHECK_INT(codec_global_init(), 0);
	return codec_registry_new(&f, 1, guard, after);
}

static void registry_free_p(struct codec_registry **r)
{
	codec_registry_free(*r);
}

#define CLEANUP_REGISTRY CLEANUP(registry_free_p)

/* Calls through documents both ways. */
static int call(struct codec_registry *r, const char *method,
		struct va_value *params, struct va_value **ret,
		struct va_fault *fault)
{
	CLEANUP_VALUE struct va_value *owned = params;
	CLEANUP_BUF struct buf in = BUF_INIT(VA_XML_MAX);
	CLEANUP_BUF struct buf out = BUF_INIT(VA_XML_MAX);
	struct va_call tmpl = { .cancel_fd = -1 };
	int e = codec_encode_call(method, params, &in);

	if (e < 0)
		return e;
	CHECK_INT(codec_dispatch(r, buf_data(&in), buf_len(&in), &tmpl, &out), 0);
	return codec_decode_reply(buf_data(&out), buf_len(&out), ret, fault);
}

static struct va_value *list(struct va_value *a, struct va_value *b)
{
	struct va_value *v = va_array();

	if (a)
		va_append(v, a);
	if (b)
		va_append(v, b);
	return v;
}

static void echoes(struct codec_registry *r, struct va_value *v,
		   const char *want)
{
	CLEANUP_VALUE struct va_value *ret = NULL;
	CLEANUP_BUF struct buf json = BUF_INIT(1 << 20);
	struct va_fault fault;
	int e = call(r, "t.echo", list(v, NULL), &ret, &fault);

	if (e < 0)
		unit_fail(__FILE__, __LINE__, "%s: %d %s", want, e, fault.text);
	CHECK_INT(va_to_json(ret, false, &json), 0);
	CHECK_STR(buf_cstr(&json), want);
}

TEST(every_type_comes_back)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();
	struct va_value *s = va_struct();

	echoes(r, va_nil(), "null");
	echoes(r, va_bool(true), "true");
	echoes(r, va_int(INT32_MAX), "2147483647");
	echoes(r, va_int(INT64_MIN), "-9223372036854775808");
	echoes(r, va_string(""), "\"\"");
	echoes(r, va_string(" <&>\"' \xe2\x82\xac\n\t"), "\" <&>\\\"' \xe2\x82\xac\\n\\t\"");
	echoes(r, va_bytes("\0\xff\x1b", 3), "{\"base64\":\"AP8b\"}");
	echoes(r, va_bytes("", 0), "{\"base64\":\"\"}");
	echoes(r, va_datetime("20260102T03:04:05"), "\"20260102T03:04:05\"");
	echoes(r, va_datetime("10000228T23:59:59"), "\"10000228T23:59:59\"");
	echoes(r, va_datetime("99991231T00:00:00"), "\"99991231T00:00:00\"");
	echoes(r, va_datetime("tomorrow"), "\"tomorrow\"");
	echoes(r, va_array(), "[]");
	va_set(s, "<name>", list(va_int(1), va_struct()));
	va_set(s, "", va_double(0.5));
	echoes(r, s, "{\"<name>\":[1,{}],\"\":0.5}");
}

TEST(doubles_come_back_exactly)
{
	static const double d[] = { 0.1, 3.0000000000000004, 1e300, -1e-300, -0.0,
				    1.0 / 3, DBL_MAX, DBL_MIN, 123456.789, 1e17,
				    9007199254740993.0, 2e-5, 3 };
	CLEANUP_REGISTRY struct codec_registry *r = make();
	CLEANUP_VALUE struct va_value *ret = NULL;
	struct va_value *all = va_array();
	struct va_fault fault;
	double got;

	for (size_t i = 0; i < sizeof(d) / sizeof(d[0]); i++) {
		va_append(all, va_string("<double>"));
		va_append(all, va_double(d[i]));
	}
	CHECK_INT(call(r, "t.echo", list(all, NULL), &ret, &fault), 0);
	for (size_t i = 0; i < sizeof(d) / sizeof(d[0]); i++) {
		CHECK_INT(va_get_double(va_item(ret, i * 2 + 1), &got), 0);
		if (got != d[i] || signbit(got) != signbit(d[i]))
			unit_fail(__FILE__, __LINE__, "%.17g became %.17g", d[i],
				  got);
	}
	echoes(r, va_double(5e-324), "0.0");
}

/* What xmlrpc-c's own reading gets wrong by some units, or altogether. */
TEST(doubles_of_others_are_read_exactly)
{
	char text[VA_DOUBLE_TEXT_MAX + 1], doc[1024];
	uint64_t seed = 88172645463325252u;

	CHECK_INT(codec_global_init(), 0);
	for (int i = 0; i < 3000; i++) {
		struct va_value *v = NULL;
		struct va_fault fault;
		double want, got = 0;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		memcpy(&want, &seed, sizeof(want));
		if (!isnormal(want) || fabs(want) > 1e290 || fabs(want) < 1e-290)
			continue;
		snprintf(text, sizeof(text), i % 2 ? "%.17g" : "%.340g", want);
		if (i % 4 == 0)
			snprintf(text, sizeof(text), "%.300f", (double)(seed % 1000000007) / 9973);
		want = strtod(text, NULL);
		snprintf(doc, sizeof(doc), "<methodResponse><params><param><value>"
			 "<double>%s</double></value></param></params>"
			 "</methodResponse>", text);
		if (codec_decode_reply(doc, strlen(doc), &v, &fault) < 0)
			unit_fail(__FILE__, __LINE__, "%s: %s", text, fault.text);
		va_get_double(v, &got);
		va_value_free(v);
		if (got != want)
			unit_fail(__FILE__, __LINE__, "%s became %.17g", text, got);
	}
}

TEST(members_of_one_name_are_refused)
{
	static const char doc[] =
		"<methodResponse><params><param><value><struct>"
		"<member><name>a</name><value>x</value></member>"
		"<member><name>b</name><value><double>1</double></value></member>"
		"<member><name>a</name><value><double>2</double></value></member>"
		"</struct></value></param></params></methodResponse>";
	struct va_value *v = NULL;
	struct va_fault fault;

	CHECK_INT(codec_global_init(), 0);
	CHECK_INT(codec_decode_reply(doc, strlen(doc), &v, &fault), -EBADMSG);
	CHECK_STR(fault.text, "two members of one name in a struct");
	CHECK(!v);
}

TEST(unclean_text_never_leaves_raw)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();

	echoes(r, va_string("\x1b[31m"), "\"\\\\x1b[31m\"");
	echoes(r, va_string_checked("\x1b\r\0z", 4), "\"\\\\x1b\\\\x0d\\\\x00z\"");
	echoes(r, va_string("\xef\xbf\xbf"), "\"\\\\xef\\\\xbf\\\\xbf\"");
	echoes(r, va_string("\xf0\x9f\x98\x80"), "\"\\\\xf0\\\\x9f\\\\x98\\\\x80\"");
}

TEST(faults_carry_code_and_text)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();
	struct va_value *ret = NULL;
	struct va_fault f;

	CHECK_INT(call(r, "t.fail", NULL, &ret, &f), -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_ERRNO + ENOENT);
	CHECK_STR(f.text, "No such file or directory");
	CHECK_INT(call(r, "t.failtext", NULL, &ret, &f), -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_ERRNO + EISDIR);
	CHECK_STR(f.text, "/x: is a directory \\x1b[31m");
	CHECK_STR(audited_name, "t.failtext");
	CHECK_INT(audited_error, -EISDIR);
	CHECK_INT(call(r, "t.nope", NULL, &ret, &f), -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_NO_METHOD);
	CHECK_STR(f.text, "there is no method \"t.nope\" here");
	CHECK(!ret);
}

static void refused(struct codec_registry *r, const char *method,
		    struct va_value *params, const char *text)
{
	struct va_value *ret = NULL;
	struct va_fault f = { 0 };

	CHECK_INT(call(r, method, params, &ret, &f), -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_TYPE);
	CHECK_STR(f.text, text);
}

TEST(arguments_are_checked)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();
	CLEANUP_VALUE struct va_value *ret = NULL;
	struct va_fault f;
	int64_t i = 0;

	refused(r, "t.add", NULL, "t.add takes 1 to 2 parameters, 0 given");
	refused(r, "t.echo", NULL, "t.echo takes 1 parameter, 0 given");
	refused(r, "t.many", NULL, "t.many takes at least 1 parameters, 0 given");
	refused(r, "t.add", list(va_string("x"), NULL),
		"t.add: parameter 1 must be an int, not string");
	refused(r, "t.add", list(va_int(1), va_array()),
		"t.add: parameter 2 must be an int, not array");
	refused(r, "t.add", list(va_int(-1001), NULL),
		"t.add: parameter 1 is -1001, not within -1000 to "
		"9223372036854775807");
	refused(r, "t.many", list(va_string("a"), va_int(1)),
		"t.many: parameter 2 must be a string, not int");
	CHECK_INT(guarded, 1); /* only the value out of range got that far */

	CHECK_INT(call(r, "t.many", list(va_string("a"), va_string("b")), &ret,
		       &f), 0);
	va_value_free(ret);
	ret = NULL;
	CHECK_INT(call(r, "t.add", list(va_string("5"), va_nil()), &ret, &f), 0);
	CHECK_INT(va_get_int(ret, &i), 0);
	CHECK_INT(i, 15);
	va_value_free(ret);
	ret = NULL;
	CHECK_INT(call(r, "t.add", list(va_double(1e15), va_int(2)), &ret, &f), 0);
	CHECK_INT(va_get_int(ret, &i), 0);
	CHECK(i == 1000000000000002);
}

TEST(results_that_cannot_be_sent_are_faults)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();
	CLEANUP_VALUE struct va_value *ret = NULL;
	struct va_fault f;

	CHECK_INT(call(r, "t.big", list(va_int(VA_BYTES_MAX), NULL), &ret, &f), 0);
	va_value_free(ret);
	ret = NULL;
	CHECK_INT(call(r, "t.big", list(va_int(VA_BYTES_MAX + 1), NULL), &ret,
		       &f), -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_LIMIT);
	CHECK_STR(f.text, "the result cannot be sent: base64 of 1048577 bytes, "
			  "limit 1048576");
	CHECK_INT(call(r, "t.special", list(va_int(0), NULL), &ret, &f),
		  -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_INTERNAL);
	CHECK_INT(call(r, "t.special", list(va_int(1), NULL), &ret, &f),
		  -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_LIMIT);
	CHECK_INT(call(r, "t.special", list(va_int(2), NULL), &ret, &f),
		  -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_LIMIT);
	CHECK_INT(call(r, "t.nothing", NULL, &ret, &f), 0);
	CHECK_INT(va_typeof(ret), VA_NIL);
}

TEST(attacks_become_faults_and_leave_no_trace)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();

	for (size_t i = 0; i < attack_count(); i++) {
		CLEANUP_BUF struct buf doc = BUF_INIT(VA_XML_MAX);
		CLEANUP_BUF struct buf out = BUF_INIT(VA_XML_MAX);
		struct va_call tmpl = { .cancel_fd = -1 };
		struct va_value *ret = NULL;
		struct va_fault f;
		uint64_t start = unit_cpu_ns();

		attack_make(i, false, &doc);
		CHECK_INT(codec_dispatch(r, buf_data(&doc), buf_len(&doc), &tmpl,
					 &out), 0);
		CHECK_INT(codec_decode_reply(buf_data(&out), buf_len(&out), &ret,
					     &f), -EREMOTEIO);
		if (f.code != VA_FAULT_PARSE && f.code != VA_FAULT_LIMIT)
			unit_fail(__FILE__, __LINE__, "%s: fault %d %s",
				  attack_name(i), f.code, f.text);
		buf_reset(&doc);
		attack_make(i, true, &doc);
		CHECK_INT(codec_decode_reply(buf_data(&doc), buf_len(&doc), &ret,
					     &f), -EBADMSG);
		CHECK((double)(unit_cpu_ns() - start) / 1e9 < 0.3 * clock_scale());
	}
	CHECK_INT(audited, 0);
	echoes(r, va_int(1), "1");
}

/* --- system.* ------------------------------------------------------------ */

static void answers(struct codec_registry *r, const char *method,
		    struct va_value *params, const char *want)
{
	CLEANUP_VALUE struct va_value *ret = NULL;
	CLEANUP_BUF struct buf json = BUF_INIT(1 << 20);
	struct va_fault f;

	CHECK_INT(call(r, method, params, &ret, &f), 0);
	CHECK_INT(va_to_json(ret, false, &json), 0);
	CHECK_STR(buf_cstr(&json), want);
}

TEST(introspection_reads_the_rows)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();

	answers(r, "system.listMethods", NULL,
		"[\"system.getCapabilities\",\"system.listMethods\","
		"\"system.methodExist\",\"system.methodHelp\",\"system.methodInfo\","
		"\"system.methodSignature\",\"system.multicall\",\"t.add\","
		"\"t.big\",\"t.count\",\"t.echo\",\"t.fail\",\"t.failtext\","
		"\"t.many\",\"t.nothing\",\"t.special\",\"t.strict\",\"t.types\"]");
	answers(r, "system.methodSignature", list(va_string("t.add"), NULL),
		"[[\"int\",\"int\"],[\"int\",\"int\",\"int\"]]");
	answers(r, "system.methodSignature", list(va_string("t.strict"), NULL),
		"[[\"nil\",\"string\",\"int\",\"boolean\",\"double\",\"base64\","
		"\"array\",\"struct\",\"nil\",\"string\"]]");
	answers(r, "system.methodSignature", list(va_string("t.many"), NULL),
		"\"undef\"");
	answers(r, "system.methodHelp", list(va_string("t.add"), NULL),
		"\"t.add X\\nFor the test.\"");
	answers(r, "system.methodExist", list(va_string("system.shutdown"), NULL),
		"false");
	answers(r, "system.methodExist", list(va_string("t.add"), NULL), "true");
}

static struct va_value *inner(const char *name, struct va_value *params)
{
	struct va_value *c = va_struct();

	va_set(c, "methodName", va_string(name));
	va_set(c, "params", params ? params : va_array());
	return c;
}

TEST(multicall_passes_the_guard)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();
	CLEANUP_BUF struct buf in = BUF_INIT(VA_XML_MAX), out = BUF_INIT(VA_XML_MAX);
	CLEANUP_BUF struct buf json = BUF_INIT(1 << 20);
	CLEANUP_VALUE struct va_value *params = NULL, *ret = NULL;
	struct va_value *calls = va_array();
	struct va_call tmpl = { .cancel_fd = -1, .context = &tmpl,
				.call_id = "a/b" };
	struct va_fault f;

	va_append(calls, inner("t.add", list(va_int(1), va_int(2))));
	va_append(calls, inner("t.count", NULL));
	va_append(calls, inner("t.nope", NULL));
	va_append(calls, inner("system.multicall", NULL));
	va_append(calls, va_int(1));
	va_append(calls, inner("t.nothing", NULL));
	params = list(calls, NULL);
	CHECK_INT(codec_encode_call("system.multicall", params, &in), 0);
	CHECK_INT(codec_dispatch(r, buf_data(&in), buf_len(&in), &tmpl, &out), 0);
	CHECK_INT(codec_decode_reply(buf_data(&out), buf_len(&out), &ret, &f), 0);
	CHECK_INT(va_to_json(ret, false, &json), 0);
	CHECK_STR(buf_cstr(&json),
		  "[[3],{\"faultCode\":1,\"faultString\":\"refused: t.count\"},"
		  "{\"faultCode\":-506,\"faultString\":\"there is no method "
		  "\\\"t.nope\\\" here\"},"
		  "{\"faultCode\":-501,\"faultString\":\"system.multicall within "
		  "system.multicall\"},"
		  "{\"faultCode\":-501,\"faultString\":\"each call must be a struct "
		  "of methodName (string) and params (array)\"},[null]]");
	CHECK_INT(calls_run, 0);
	CHECK_INT(guarded, 4);
	CHECK_INT(audited, 4);
	CHECK_STR(audited_name, "system.multicall");
}

TEST(multicall_is_bounded)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();

	for (unsigned n = VA_MULTICALL_MAX; n <= VA_MULTICALL_MAX + 1; n++) {
		CLEANUP_VALUE struct va_value *ret = NULL;
		struct va_value *calls = va_array();
		struct va_fault f;
		int64_t last = 0;

		calls_run = 0;
		for (unsigned i = 0; i < n; i++)
			va_append(calls, inner("t.count", NULL));
		if (n > VA_MULTICALL_MAX) {
			CHECK_INT(call(r, "system.multicall", list(calls, NULL),
				       &ret, &f), -EREMOTEIO);
			CHECK_INT(f.code, VA_FAULT_LIMIT);
			CHECK_INT(calls_run, 0);
			continue;
		}
		CHECK_INT(call(r, "system.multicall", list(calls, NULL), &ret, &f),
			  0);
		CHECK_INT(va_get_int(va_item(va_item(ret, n - 1), 0), &last), 0);
		CHECK_INT(last, n);
	}
}

TEST(multicall_stops_when_the_document_is_full)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();
	CLEANUP_VALUE struct va_value *ret = NULL;
	struct va_value *calls = va_array();
	struct va_fault f;
	int64_t code = 0;

	for (unsigned i = 0; i < 4; i++)
		va_append(calls, inner("t.big", list(va_int(VA_BYTES_MAX), NULL)));
	va_append(calls, inner("t.count", NULL));
	CHECK_INT(call(r, "system.multicall", list(calls, NULL), &ret, &f), 0);
	CHECK_INT(va_typeof(va_item(ret, 1)), VA_ARRAY);
	CHECK_INT(va_typeof(va_item(ret, 2)), VA_STRUCT);
	CHECK_INT(va_get_int(va_member(va_item(ret, 4), "faultCode"), &code), 0);
	CHECK_INT(code, VA_FAULT_LIMIT);
	CHECK_INT(calls_run, 0);
}

TEST(wrong_rows_are_not_taken)
{
	static const struct va_method twice[] = {
		ROW("t.a", "n:", nothing, VA_CLASS_INFO),
		ROW("t.a", "n:", nothing, VA_CLASS_INFO),
	};
	static const struct va_method bad[] = {
		ROW("t.a", "n:q", nothing, VA_CLASS_INFO),
	};
	struct va_family f = VA_FAMILY(twice), g = VA_FAMILY(bad);

	CHECK(!codec_registry_new(&f, 1, NULL, NULL));
	CHECK_INT(errno, EEXIST);
	CHECK(!codec_registry_new(&g, 1, NULL, NULL));
	CHECK_INT(errno, EINVAL);
}

TEST(calls_at_once_are_limited)
{
	CLEANUP_REGISTRY struct codec_registry *r = make();
	CLEANUP_VALUE struct va_value *ret = NULL;
	struct va_fault f;

	codec_set_limits(r, 0, 48, NULL);
	CHECK_INT(call(r, "t.nothing", NULL, &ret, &f), -EREMOTEIO);
	CHECK_INT(f.code, VA_FAULT_BUSY);
	CHECK_STR(f.text, "t.nothing: 0 calls are running, the limit");
	echoes(r, va_int(1), "1"); /* info is always answered */
	codec_set_limits(r, 64, 0, "x.conf");
	CHECK_INT(call(r, "t.nothing", NULL, &ret, &f), -EREMOTEIO);
	CHECK_STR(f.text, "t.nothing: this client has 0 calls running, the limit of one "
			  "(client-calls in x.conf)");
	codec_set_limits(r, 1, 1, NULL);
	for (int i = 0; i < 3; i++) {
		CHECK_INT(call(r, "t.nothing", NULL, &ret, &f), 0);
		va_value_free(ret);
		ret = NULL;
	}
}

static void *hammer(void *arg)
{
	for (int i = 0; i < 200; i++)
		echoes(arg, list(va_int(i % 10), va_string("x")),
		       ((const char *[]){ "[0,\"x\"]", "[1,\"x\"]", "[2,\"x\"]",
					  "[3,\"x\"]", "[4,\"x\"]", "[5,\"x\"]",
					  "[6,\"x\"]", "[7,\"x\"]", "[8,\"x\"]",
					  "[9,\"x\"]" })[i % 10]);
	return NULL;
}

TEST(threads_share_a_registry)
{
	struct va_family fam = VA_FAMILY(rows);
	struct codec_registry *r;
	pthread_t t[4];

	CHECK_INT(codec_global_init(), 0);
	r = codec_registry_new(&fam, 1, NULL, NULL);
	for (int i = 0; i < 4; i++)
		CHECK_INT(pthread_create(&t[i], NULL, hammer, r), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	codec_registry_free(r);
}

TEST(calls_that_cannot_be_sent)
{
	CLEANUP_BUF struct buf out = BUF_INIT(VA_XML_MAX);
	CLEANUP_VALUE struct va_value *p = list(va_double(NAN), NULL);
	char name[VA_METHOD_NAME_MAX + 2];

	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	CHECK_INT(codec_encode_call(name, NULL, &out), -EMSGSIZE);
	CHECK_INT(codec_encode_call("t", p, &out), -EINVAL);
	CHECK_INT(buf_len(&out), 0);
}

UNIT_MAIN(CASE(every_type_comes_back), CASE(doubles_come_back_exactly),
	  CASE(doubles_of_others_are_read_exactly),
	  CASE(members_of_one_name_are_refused),
	  CASE(unclean_text_never_leaves_raw), CASE(faults_carry_code_and_text),
	  CASE(arguments_are_checked),
	  CASE(results_that_cannot_be_sent_are_faults),
	  CASE(attacks_become_faults_and_leave_no_trace),
	  CASE(introspection_reads_the_rows), CASE(multicall_passes_the_guard),
	  CASE(multicall_is_bounded),
	  CASE(multicall_stops_when_the_document_is_full),
	  CASE(wrong_rows_are_not_taken), CASE(calls_at_once_are_limited),
	  CASE(threads_share_a_registry), CASE(calls_that_cannot_be_sent))
