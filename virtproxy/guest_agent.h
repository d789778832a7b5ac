/*
 * guest_agent.h - the guest agent that -g starts
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_GUEST_AGENT_H
#define VP_GUEST_AGENT_H

#include "virtproxy/virtproxy.h"

struct guest_agent;

/*
 * Listens on a private socket, starts "va-agent --server-fd N" with it (again,
 * whenever it ends) and forwards the service "virtagent" of ep there.  NULL with
 * the reason in err.  id tells several of one process apart.
 */
struct guest_agent *guest_agent_new(struct loop *loop, struct vp_endpoint *ep,
				    unsigned id, char *err, size_t err_size);
/* To be called when SIGCHLD came. */
void guest_agent_reap(struct guest_agent *a);
/* Ends the agent and removes the socket; accepts NULL. */
void guest_agent_free(struct guest_agent *a);

#endif
