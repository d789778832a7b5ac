/*
 * test-va-exec-wire.c - frames of a program's session
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/unit.h"
#include "virtagent/exec_wire.h"

/* The example of PROTOCOL. */
static const uint8_t example[] = { 0x02, 0x04, 0, 0, 0, 24, 0, 80, 0 };

TEST(a_frame_is_as_documented)
{
	CLEANUP_BUF struct buf b = BUF_INIT(100);

	CHECK_INT(exec_frame_put(&b, EXEC_RESIZE, "\x18\0\x50", 4), 0);
	CHECK_INT(buf_len(&b), sizeof(example));
	CHECK_MEM(buf_data(&b), example, sizeof(example));
}

TEST(frames_come_in_any_pieces)
{
	CLEANUP_BUF struct buf b = BUF_INIT(100);
	const uint8_t *data;
	uint8_t type;
	size_t n;

	for (size_t i = 0; i < sizeof(example); i++) {
		CHECK_INT(exec_frame_peek(&b, &type, &data, &n), 0);
		CHECK_INT(buf_put_u8(&b, example[i]), 0);
	}
	CHECK_INT(exec_frame_peek(&b, &type, &data, &n), 1);
	CHECK_INT(type, EXEC_RESIZE);
	CHECK_INT(n, 4);
	CHECK_INT(get_le16(data), 24);
	exec_frame_next(&b);
	CHECK_INT(buf_len(&b), 0);
}

TEST(a_length_past_the_limit_is_refused_at_once)
{
	static const uint8_t head[2][EXEC_HEAD] = { { 0, 0, 0, 1, 0 },
						    { 0, 1, 0, 1, 0 } };
	CLEANUP_BUF struct buf at = BUF_INIT(100), past = BUF_INIT(100);
	const uint8_t *data;
	uint8_t type;
	size_t n;

	CHECK_INT(buf_put(&at, head[0], EXEC_HEAD), 0);
	CHECK_INT(exec_frame_peek(&at, &type, &data, &n), 0);
	CHECK_INT(buf_put(&past, head[1], EXEC_HEAD), 0);
	CHECK_INT(exec_frame_peek(&past, &type, &data, &n), -EMSGSIZE);
	CHECK_INT(exec_frame_put(&at, EXEC_STDIN, "x", EXEC_FRAME_MAX + 1), -EMSGSIZE);
}

UNIT_MAIN(CASE(a_frame_is_as_documented), CASE(frames_come_in_any_pieces),
	  CASE(a_length_past_the_limit_is_refused_at_once))
