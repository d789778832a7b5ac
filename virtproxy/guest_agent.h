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
 * Listens on a private socket and forks a process that starts "va-agent
 * --server-fd N" with it, again whenever it ends.  To be called before there is
 * anything open that this process should not have.  NULL with the reason in err.
 * id tells several of one process apart.
 */
struct guest_agent *guest_agent_new(unsigned id, char *err, size_t err_size);
/* Forwards the service "virtagent" of ep to it.  0 or a negative errno. */
int guest_agent_serve(struct guest_agent *a, struct vp_endpoint *ep, char *err,
		      size_t err_size);
/* What a confined process still does with it.  0 or a negative errno. */
int guest_agent_seal(const struct guest_agent *a);
/* To be called when SIGCHLD came. */
void guest_agent_reap(struct guest_agent *a);
/* Ends the agent and removes the socket; accepts NULL. */
void guest_agent_free(struct guest_agent *a);

#endif
