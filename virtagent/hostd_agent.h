/*
 * hostd_agent.h - what a guest's agent says of itself
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_AGENT_H
#define VA_HOSTD_AGENT_H

#include <stdbool.h>

#include "virtagent/hostd.h"
#include "virtagent/value.h"

struct agent;
struct guest;

/* NULL with errno. */
struct agent *agent_new(struct hostd *h, struct guest *g);
void agent_free(struct agent *a);
/* A session began: asks guest.capabilities until it is answered. */
void agent_ask(struct agent *a);
/* Asks once more, and keeps what is known until the answer. */
void agent_recheck(struct agent *a);
/* The session ended: what was known is history. */
void agent_forget(struct agent *a);
/* Answered in this session? */
bool agent_known(const struct agent *a);
/* "" when not known. */
const char *agent_version(const struct agent *a);
const char *agent_id(const struct agent *a);
const char *agent_boot_id(const struct agent *a);
const char *agent_vm_uuid(const struct agent *a);
/* How the agent before it ended, as it says: a struct, checked; or NULL. */
const struct va_value *agent_last_end(const struct agent *a);

#endif
