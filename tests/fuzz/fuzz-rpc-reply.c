/*
 * fuzz-rpc-reply.c - any bytes as the reply to a call
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdint.h>

#include "virtagent/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int ready;
	struct va_value *v = NULL;
	struct va_fault fault;

	if (!ready++)
		codec_global_init();
	if (codec_decode_reply(data, size, &v, &fault) == 0) {
		struct buf json = BUF_INIT(64u << 20);

		va_to_json(v, true, &json);
		buf_done(&json);
	}
	va_value_free(v);
	return 0;
}
