/*
 * test-common-buf.c - the bounded buffer holds its cap and checks its getters
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/buf.h"
#include "tests/lib/unit.h"

TEST(cap_is_never_passed)
{
	CLEANUP_BUF struct buf b = BUF_INIT(10);

	CHECK_INT(buf_put(&b, "0123456789", 10), 0);
	CHECK_INT(buf_put_u8(&b, 1), -EMSGSIZE);
	CHECK_INT(buf_len(&b), 10);
	CHECK_STR(buf_cstr(&b), "0123456789");
	CHECK(!buf_reserve(&b, 1));
	CHECK_INT(buf_printf(&b, "%d", 5), -EMSGSIZE);
}

TEST(getter_past_the_end_moves_nothing)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	uint64_t v64 = 7;
	uint16_t v16;

	CHECK_INT(buf_put_u16(&b, 0xbeef), 0);
	CHECK_INT(buf_get_u64(&b, &v64), -EBADMSG);
	CHECK(v64 == 7);
	CHECK_INT(buf_get_u16(&b, &v16), 0);
	CHECK_INT(v16, 0xbeef);
	CHECK_INT(buf_consume(&b, 1), -EBADMSG);
}

TEST(numbers_round_trip)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);
	uint8_t v8;
	uint32_t v32;
	uint64_t v64;

	CHECK_INT(buf_put_u8(&b, 0xfe), 0);
	CHECK_INT(buf_put_u32(&b, 0x01020304), 0);
	CHECK_INT(buf_put_u64(&b, UINT64_C(0xfedcba9876543210)), 0);
	CHECK_INT(buf_data(&b)[1], 4);
	CHECK_INT(buf_get_u8(&b, &v8), 0);
	CHECK_INT(buf_get_u32(&b, &v32), 0);
	CHECK_INT(buf_get_u64(&b, &v64), 0);
	CHECK_INT(v8, 0xfe);
	CHECK_INT(v32, 0x01020304);
	CHECK(v64 == UINT64_C(0xfedcba9876543210));
	CHECK_INT(buf_len(&b), 0);
}

TEST(a_stream_keeps_its_order)
{
	CLEANUP_BUF struct buf b = BUF_INIT(1000);
	uint8_t in = 0, out = 0, v;

	for (int round = 0; round < 5000; round++) {
		for (int i = 0; i < round % 7 + 1 && buf_room(&b); i++)
			CHECK_INT(buf_put_u8(&b, in++), 0);
		for (int i = 0; i < round % 5 + 1 && buf_len(&b); i++) {
			CHECK_INT(buf_get_u8(&b, &v), 0);
			CHECK_INT(v, out++);
		}
	}
}

TEST(long_text_is_formatted)
{
	CLEANUP_BUF struct buf b = BUF_INIT(2000);

	CHECK_INT(buf_printf(&b, "%01000d", 7), 0);
	CHECK_INT(buf_len(&b), 1000);
	CHECK_INT(buf_data(&b)[999], '7');
}

TEST(runner_sees_a_failure)
{
	CHECK(1 == 2);
}

UNIT_MAIN(CASE(cap_is_never_passed), CASE(getter_past_the_end_moves_nothing),
	  CASE(numbers_round_trip), CASE(a_stream_keeps_its_order),
	  CASE(long_text_is_formatted), CASE_FAILS(runner_sees_a_failure))
