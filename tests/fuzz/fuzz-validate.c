/*
 * fuzz-validate.c - the validator on any bytes, as a call and as a reply
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdint.h>

#include "virtagent/validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char err[200];

	va_validate_xml(VA_XML_CALL, data, size, err, sizeof(err));
	va_validate_xml(VA_XML_REPLY, data, size, err, sizeof(err));
	return 0;
}
