/*
 * agent_conf.h - agent.conf
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_CONF_H
#define VA_AGENT_CONF_H

#include "common/conf.h"
#include "virtagent/agent_role.h"

/* Reads the file, and checks all of it but [policy]; a missing default one is empty.  0, or a negative
 * errno with the reason in err. */
int agent_conf_read(const struct agent_options *o, struct conf *c, char *err,
		    size_t err_size);
/* Fills in what the command line left open.  -ENOMEM, or -EINVAL with err. */
int agent_conf_apply(const struct conf *c, struct agent_options *o, char *err,
		     size_t err_size);

#endif
