/*
 * agent_limits.h - the limits that agent.conf sets
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_LIMITS_H
#define VA_AGENT_LIMITS_H

#include "common/conf.h"
#include "virtagent/guest/guest.h"

/* Is it the key of a limit in [agent]? */
bool agent_limits_key(const char *key);
/* Those that the file sets, else the defaults of limits.h.  -EINVAL with file, line
 * and reason in err. */
int agent_limits_read(const struct conf *c, struct guest_limits *ret, char *err,
		      size_t err_size);

#endif
