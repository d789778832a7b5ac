/*
 * fuzz-json.c - any bytes as JSON; what is taken prints to JSON that reads back
 * to the same
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "virtagent/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct va_value *v = NULL, *again = NULL;
	struct buf a = BUF_INIT(64u << 20), b = BUF_INIT(64u << 20);
	char err[200];

	if (va_from_json((const char *)data, size, &v, err, sizeof(err)) < 0)
		return 0;
	if (va_to_json(v, false, &a) < 0)
		abort();
	/* Escapes may make the text longer than what is taken. */
	if (buf_len(&a) <= 4u << 20) {
		if (va_from_json((const char *)buf_data(&a), buf_len(&a), &again,
				 err, sizeof(err)) < 0 ||
		    va_to_json(again, false, &b) < 0 ||
		    buf_len(&a) != buf_len(&b) ||
		    memcmp(buf_data(&a), buf_data(&b), buf_len(&a)) != 0)
			abort();
	}
	va_value_free(v);
	va_value_free(again);
	buf_done(&a);
	buf_done(&b);
	return 0;
}
