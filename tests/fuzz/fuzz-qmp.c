/*
 * fuzz-qmp.c - any line from a monitor is searched within its bounds
 *
 * The first byte is the depth, the rest the line.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "virtproxy/json_member.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *line = NULL;
	char got[16];

	if (size == 0)
		return 0;
	line = strndup((const char *)data + 1, size - 1);
	if (line && json_member(line, data[0] & 7, "event", got, sizeof(got)) &&
	    (strlen(got) >= sizeof(got) || !strstr(line, got)))
		abort();
	return 0;
}
