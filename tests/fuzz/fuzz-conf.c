/*
 * fuzz-conf.c - a configuration file of any content is read or refused
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf c = { 0 };
	char err[64];
	int r;

	err[0] = 0;
	r = conf_parse(&c, "fuzz", (const char *)data, size, err, sizeof(err));
	if (r < 0 && !err[0])
		abort(); /* an error without a reason */
	for (size_t i = 0; i < c.count; i++) {
		const struct conf_entry *e = &c.entries[i];
		const char *v = conf_get(&c, e->section, e->name, e->key);

		if (!v || !e->key[0] || e->line == 0 || strlen(e->value) > size)
			abort();
	}
	conf_done(&c);
	return 0;
}
