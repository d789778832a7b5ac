/*
 * fuzz-policy.c - any text as a policy: an error says why, a refusal too
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf.h"
#include "virtagent/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct va_method methods[] = {
	{ .name = "guest.ping", .signature = "s:", .cls = VA_CLASS_INFO },
	{ .name = "guest.getfile", .signature = "S:t", .cls = VA_CLASS_READ,
	  .flags = VA_M_PATH },
	{ .name = "guest.exec.run", .signature = "S:A", .cls = VA_CLASS_EXEC },
	{ .name = "va.shutdown", .signature = "n:", .cls = VA_CLASS_POWER,
	  .flags = VA_M_ORIGINAL },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf c = { 0 };
	struct policy *p = NULL;
	char err[256] = "", why[256];
	int r = conf_parse(&c, "fuzz", (const char *)data, size, err, sizeof(err));

	if (r == 0)
		r = policy_new(&c, "guest", "one", &p, err, sizeof(err));
	if (r < 0 && !err[0])
		abort(); /* an error without a reason */
	for (size_t i = 0; p && i < sizeof(methods) / sizeof(methods[0]); i++) {
		why[0] = 0;
		if (!policy_allows(p, &methods[i], why, sizeof(why)) && !why[0])
			abort(); /* a refusal without a reason */
	}
	policy_free(p);
	conf_done(&c);
	return 0;
}
