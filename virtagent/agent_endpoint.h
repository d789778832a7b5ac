/*
 * agent_endpoint.h - the endpoint process: the port, the link, the sockets
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_ENDPOINT_H
#define VA_AGENT_ENDPOINT_H

#include "virtagent/agent_role.h"

/* Runs until SIGTERM; the exit status of the process. */
int agent_endpoint_main(const struct agent_options *o);

#endif
