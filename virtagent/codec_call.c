/*
 * codec_call.c - a whole call, from its document to that of its reply
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <string.h>

#include "virtagent/codec_priv.h"

int codec_dispatch(struct codec_registry *r, const void *xml, size_t n,
		   const struct va_call *tmpl, struct buf *out)
{
	CLEANUP_VALUE struct va_value *params = NULL, *result = NULL;
	char name[VA_METHOD_NAME_MAX + 1];
	struct va_call call = *tmpl;
	size_t before = buf_len(out);
	int error;

	memset(&call.fault, 0, sizeof(call.fault));
	error = codec_decode_call(xml, n, name, &params, &call.fault);
	if (error == 0) {
		call.params = params;
		error = codec_invoke(r, name, &call, &result);
	}
	if (error == 0) {
		error = codec_encode_result(result, out, &call.fault);
		if (error < 0)
			buf_truncate(out, before);
	}
	return error < 0 ? codec_encode_fault(&call.fault, out) : 0;
}
