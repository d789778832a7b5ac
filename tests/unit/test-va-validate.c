/*
 * test-va-validate.c - nothing but XML-RPC gets through, and that fast
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/clock.h"
#include "tests/lib/attacks.h"
#include "tests/lib/unit.h"
#include "virtagent/validate.h"

#define CALL(params)                                                           \
	"<methodCall><methodName>t.echo</methodName><params>" params           \
	"</params></methodCall>"
#define PARAM(value) "<param><value>" value "</value></param>"

static char err[300];

static int check_call(const char *xml)
{
	return va_validate_xml(VA_XML_CALL, xml, strlen(xml), err, sizeof(err));
}

static int check_reply(const char *xml)
{
	return va_validate_xml(VA_XML_REPLY, xml, strlen(xml), err, sizeof(err));
}

TEST(good_calls_pass)
{
	static const char *const good[] = {
		"<methodCall><methodName>a.b_c:d/e-f</methodName></methodCall>",
		"<?xml version='1.0'?>\n" CALL(""),
		"<?xml version=\"1.0\" encoding=\"UTF-8\" standalone='yes'?>" CALL(""),
		"<?xml version='1.0' encoding='utf-8'?>" CALL(""),
		"<?xml version='1.0' encoding='us-ascii'?>" CALL(""),
		"  \r\n" CALL(""),
		CALL(PARAM("") PARAM("plain") PARAM("<string/>") PARAM("<nil/>")),
		CALL(PARAM("<i4>-2147483648</i4>") PARAM("<int>2147483647</int>")),
		CALL(PARAM("<i8>-9223372036854775808</i8>") PARAM("<i8>+7</i8>")),
		CALL(PARAM("<boolean>1</boolean>") PARAM("<double>-1.5e-3</double>")),
		CALL(PARAM("<double>.5</double>") PARAM("<double>5.</double>")),
		CALL(PARAM("<dateTime.iso8601>20260228T23:59:59</dateTime.iso8601>")),
		CALL(PARAM("<base64>QUJD\r\nRA==</base64>") PARAM("<base64/>")),
		CALL(PARAM("\n <array>\n <data>\n </data> </array>\n ")),
		CALL(PARAM("<struct><member><name>a</name><value>1</value></member>"
			   "</struct>") PARAM("<struct/>")),
		CALL(PARAM("<string>&lt;&gt;&amp;&quot;&apos;&#228;&#13;</string>")),
		CALL(PARAM("<string>\xe2\x82\xac]] &gt; \t\r\n</string>")),
		"<methodCall xmlns:ex=\"http://ws.apache.org/xmlrpc/namespaces/"
		"extensions\"><methodName>t</methodName><params>"
		PARAM("<ex:i8>5</ex:i8>") PARAM("<ex:nil/>")
		"</params></methodCall>",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (check_call(good[i]) < 0)
			unit_fail(__FILE__, __LINE__, "%s: %s", good[i], err);
	}
}

TEST(good_replies_pass)
{
	CHECK_INT(check_reply("<methodResponse><params>" PARAM("<i4>1</i4>")
			      "</params></methodResponse>"), 0);
	CHECK_INT(check_reply("<methodResponse><fault><value><struct><member>"
			      "<name>faultCode</name><value><int>4</int></value>"
			      "</member><member><name>faultString</name><value>"
			      "x</value></member></struct></value></fault>"
			      "</methodResponse>"), 0);
	CHECK_INT(check_reply("<methodResponse><params></params>"
			      "</methodResponse>"), -EBADMSG);
	CHECK_INT(check_reply("<methodResponse></methodResponse>"), -EBADMSG);
	CHECK_INT(check_reply("<methodResponse><params>" PARAM("1") PARAM("2")
			      "</params></methodResponse>"), -EBADMSG);
}

TEST(attacks_are_refused_fast)
{
	for (size_t i = 0; i < attack_count() * 2; i++) {
		CLEANUP_BUF struct buf doc = BUF_INIT(VA_XML_MAX);
		enum va_xml_kind kind = i % 2 ? VA_XML_REPLY : VA_XML_CALL;
		uint64_t start;
		double s;

		attack_make(i / 2, i % 2, &doc);
		start = unit_cpu_ns();
		if (va_validate_xml(kind, buf_data(&doc), buf_len(&doc), err,
				    sizeof(err)) >= 0)
			unit_fail(__FILE__, __LINE__, "%s passed",
				  attack_name(i / 2));
		s = (double)(unit_cpu_ns() - start) / 1e9;
		if (s > 0.1 * clock_scale())
			unit_fail(__FILE__, __LINE__, "%s took %.3f s",
				  attack_name(i / 2), s);
		if (!err[0])
			unit_fail(__FILE__, __LINE__, "%s: no reason",
				  attack_name(i / 2));
	}
}

TEST(reasons_name_the_thing)
{
	CHECK_INT(check_call(CALL("\n" PARAM("<i8>junk</i8>"))), -EBADMSG);
	CHECK_STR(err, "line 2: bad or out of range <i8>: \"junk\"");
	CHECK_INT(check_call(CALL(PARAM("<i9>1</i9>"))), -EBADMSG);
	CHECK_STR(err, "line 1: unknown element <i9>");
	CHECK_INT(check_call(CALL(PARAM("\xf0\x9f\x98\x80"))), -EBADMSG);
	CHECK_STR(err, "line 1: character beyond U+FFFF in <value>: "
		       "send it as base64");
}

/* --- limits -------------------------------------------------------------- */

static void repeat(struct buf *b, const char *s, size_t n)
{
	while (n--)
		CHECK_INT(buf_puts(b, s), 0);
}

static int done(struct buf *b)
{
	CHECK_INT(buf_puts(b, "</param></params></methodCall>"), 0);
	return va_validate_xml(VA_XML_CALL, buf_data(b), buf_len(b), err,
			       sizeof(err));
}

#define HEAD "<methodCall><methodName>t</methodName><params><param>"

static int with_depth(unsigned n, const char *open, const char *close)
{
	CLEANUP_BUF struct buf b = BUF_INIT(VA_XML_MAX);

	CHECK_INT(buf_puts(&b, HEAD), 0);
	repeat(&b, open, n - 1);
	CHECK_INT(buf_puts(&b, "<value>1</value>"), 0);
	repeat(&b, close, n - 1);
	return done(&b);
}

TEST(depth_limit)
{
	for (unsigned n = VA_XML_DEPTH_MAX - 1; n <= VA_XML_DEPTH_MAX + 1; n++) {
		int want = n > VA_XML_DEPTH_MAX ? -EMSGSIZE : 0;

		CHECK_INT(with_depth(n, "<value><array><data>",
				     "</data></array></value>"), want);
		CHECK_INT(with_depth(n, "<value><struct><member><name>a</name>",
				     "</member></struct></value>"), want);
	}
}

TEST(element_limit)
{
	/* methodCall, methodName, params, param, value, array, data. */
	for (unsigned n = VA_XML_ELEMENTS_MAX - 1; n <= VA_XML_ELEMENTS_MAX + 1;
	     n++) {
		CLEANUP_BUF struct buf b = BUF_INIT(VA_XML_MAX);

		CHECK_INT(buf_puts(&b, HEAD "<value><array><data>"), 0);
		repeat(&b, "<value/>", n - 7);
		CHECK_INT(buf_puts(&b, "</data></array></value>"), 0);
		CHECK_INT(done(&b), n > VA_XML_ELEMENTS_MAX ? -EMSGSIZE : 0);
	}
}

TEST(member_limit)
{
	for (unsigned n = VA_STRUCT_MEMBERS_MAX - 1;
	     n <= VA_STRUCT_MEMBERS_MAX + 1; n++) {
		CLEANUP_BUF struct buf b = BUF_INIT(VA_XML_MAX);

		CHECK_INT(buf_puts(&b, HEAD "<value><struct>"), 0);
		for (unsigned i = 0; i < n; i++)
			CHECK_INT(buf_printf(&b, "<member><name>%u</name>"
					     "<value/></member>", i), 0);
		CHECK_INT(buf_puts(&b, "</struct></value>"), 0);
		CHECK_INT(done(&b), n > VA_STRUCT_MEMBERS_MAX ? -EMSGSIZE : 0);
	}
}

/* A document whose one element holds n times 'A'. */
static int with_text(const char *open, size_t n, const char *close)
{
	CLEANUP_BUF struct buf b = BUF_INIT(VA_XML_MAX);

	CHECK_INT(buf_puts(&b, HEAD), 0);
	CHECK_INT(buf_puts(&b, open), 0);
	repeat(&b, "A", n);
	CHECK_INT(buf_puts(&b, close), 0);
	return done(&b);
}

TEST(text_limits)
{
	static const size_t base64_max = (VA_BYTES_MAX + 2) / 3 * 4;
	CLEANUP_BUF struct buf b = BUF_INIT(VA_XML_MAX + 2);
	const char *tail = "</string></value></param></params></methodCall>";

	CHECK_INT(with_text("<value><base64>", base64_max - 4,
			    "</base64></value>"), 0);
	CHECK_INT(with_text("<value><base64>", base64_max + 4,
			    "</base64></value>"), -EMSGSIZE);
	for (size_t n = VA_MEMBER_NAME_MAX - 1; n <= VA_MEMBER_NAME_MAX + 1; n++)
		CHECK_INT(with_text("<value><struct><member><name>", n,
				    "</name><value/></member></struct></value>"),
			  n > VA_MEMBER_NAME_MAX ? -EMSGSIZE : 0);
	for (size_t n = VA_METHOD_NAME_MAX - 1; n <= VA_METHOD_NAME_MAX + 1; n++) {
		buf_reset(&b);
		CHECK_INT(buf_puts(&b, "<methodCall><methodName>"), 0);
		repeat(&b, "a", n);
		CHECK_INT(buf_puts(&b, "</methodName></methodCall>"), 0);
		CHECK_INT(va_validate_xml(VA_XML_CALL, buf_data(&b), buf_len(&b),
					  err, sizeof(err)),
			  n > VA_METHOD_NAME_MAX ? -EMSGSIZE : 0);
	}
	for (size_t n = VA_XML_MAX - 1; n <= VA_XML_MAX + 1; n++) {
		buf_reset(&b);
		CHECK_INT(buf_puts(&b, HEAD "<value><string>"), 0);
		repeat(&b, "x", n - buf_len(&b) - strlen(tail));
		CHECK_INT(buf_puts(&b, tail), 0);
		CHECK_INT(va_validate_xml(VA_XML_CALL, buf_data(&b), buf_len(&b),
					  err, sizeof(err)),
			  n > VA_XML_MAX ? -EMSGSIZE : 0);
	}
}

TEST(every_truncation_is_refused)
{
	static const char doc[] = "<?xml version=\"1.0\"?>" CALL(
		PARAM("<struct><member><name>a</name><value><array><data>"
		      "<value><base64>QUJD</base64></value></data></array>"
		      "</value></member></struct>"));

	for (size_t n = 0; n < sizeof(doc) - 1; n++)
		CHECK(va_validate_xml(VA_XML_CALL, doc, n, err, sizeof(err)) < 0);
	CHECK_INT(check_call(doc), 0);
}

UNIT_MAIN(CASE(good_calls_pass), CASE(good_replies_pass),
	  CASE(attacks_are_refused_fast), CASE(reasons_name_the_thing),
	  CASE(depth_limit), CASE(element_limit), CASE(member_limit),
	  CASE(text_limits), CASE(every_truncation_is_refused))
