/*
 * fuzz-rpc-call.c - the whole way of a call document into a registry; the
 * answer must always be a document that our own client takes
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>

#include "virtagent/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int echo(struct va_call *call, struct va_value **ret)
{
	*ret = va_value_copy(call->params);
	return 0;
}

static const struct va_method rows[] = {
	{ .name = "t.echo", .signature = "A:|x*", .args = "", .fn = echo,
	  .cls = VA_CLASS_INFO, .help = "Echoes." },
	{ .name = "t.typed", .signature = "A:s|ibd6ASt", .args = "", .fn = echo,
	  .cls = VA_CLASS_READ, .help = "Echoes." },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct codec_registry *r;
	struct va_call tmpl = { .cancel_fd = -1 };
	struct buf out = BUF_INIT(VA_XML_MAX * 2);
	struct va_value *v = NULL;
	struct va_fault fault;
	int e;

	if (!r) {
		struct va_family f = VA_FAMILY(rows);

		codec_global_init();
		r = codec_registry_new(&f, 1, NULL, NULL);
	}
	if (codec_dispatch(r, data, size, &tmpl, &out) < 0)
		abort();
	e = codec_decode_reply(buf_data(&out), buf_len(&out), &v, &fault);
	if (e < 0 && e != -EREMOTEIO)
		abort();
	va_value_free(v);
	buf_done(&out);
	return 0;
}
