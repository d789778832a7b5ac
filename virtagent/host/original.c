/*
 * original.c - the names and results of the 2010 original
 *
 * ping and hello took no argument (or, in some versions, one without meaning)
 * and gave a string without meaning; capabilities gave the protocol's version
 * and the methods' names.  Programs written against them still work.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>

#include "virtagent/host/host.h"

#define ORIGINAL_VERSION "1.0" /* what va.capabilities always said */

static int original_word(struct va_call *call, struct va_value **ret)
{
	*ret = va_string("dummy");
	return *ret ? 0 : -ENOMEM;
}

static int original_capabilities(struct va_call *call, struct va_value **ret)
{
	struct va_value *v = va_struct();
	int err;

	err = va_set(v, "version", va_string(ORIGINAL_VERSION));
	if (err == 0)
		err = va_set(v, "methods",
			     host_method_names(host_context(call)));
	if (err < 0) {
		va_value_free(v);
		return err;
	}
	*ret = v;
	return 0;
}

#define WORD_ROW(NAME, HELP)                                                   \
	{                                                                      \
		.name = (NAME), .signature = "s:|x", .args = "[ANYTHING]",     \
		.cls = VA_CLASS_INFO, .fn = original_word, .help = (HELP),     \
		.doc = "Returns a string without meaning, as the original "    \
		       "did.",                                                 \
		.flags = VA_M_IDEMPOTENT | VA_M_QUIET | VA_M_ORIGINAL,         \
	}

#define CAPABILITIES_ROW(NAME)                                                 \
	{                                                                      \
		.name = (NAME), .signature = "S:", .args = "",                 \
		.cls = VA_CLASS_INFO, .fn = original_capabilities,             \
		.help = "the original's version and this server's methods",    \
		.doc = "Returns a struct: version \"1.0\", methods.",          \
		.flags = VA_M_IDEMPOTENT | VA_M_ORIGINAL,                      \
	}

static const struct va_method methods[] = {
	WORD_ROW("va_ping", "host.ping, as the original named it"),
	WORD_ROW("va.ping", "host.ping, as the original named it"),
	WORD_ROW("ping", "host.ping, as the original named it"),
	WORD_ROW("va_hello", "host.hello, as the original named it"),
	WORD_ROW("va.hello", "host.hello, as the original named it"),
	WORD_ROW("hello", "host.hello, as the original named it"),
	CAPABILITIES_ROW("va.capabilities"),
	CAPABILITIES_ROW("capabilities"),
};

const struct va_family host_original_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
