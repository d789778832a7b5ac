/*
 * virsh.h - the agent's port in a domain of libvirt's, by the program virsh
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_VIRSH_H
#define VA_CLIENT_VIRSH_H

#include <stddef.h>
#include <stdint.h>

struct virsh {
	const char *uri; /* as virsh -c takes it, or NULL */
	const char *domain;
	uint64_t deadline_ns;
	char socket[256]; /* where libvirt put the port's socket; "" = not known */
	char err[640];
};

/*
 * Into the running domain, and out again.  0, or a negative errno with v->err:
 * -ENOENT: there is no virsh; -EPROTO: it failed; -EEXIST: the port is there (with
 * v->socket); -ENODEV: nothing to plug it into; -ESRCH: it is not; -ETIMEDOUT.
 */
int virsh_attach(struct virsh *v);
int virsh_detach(struct virsh *v);

/* The element of a domain's XML that makes the port. */
#define VIRSH_CHANNEL_XML                                                      \
	"<channel type='unix'>\n"                                              \
	"  <source mode='bind'/>\n"                                            \
	"  <target type='virtio' name='org.virtagent.0'/>\n"                   \
	"</channel>\n"

#endif
