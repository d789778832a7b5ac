/*
 * hostd_announce.h - agent-up and agent-down, with the reason
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_ANNOUNCE_H
#define VA_HOSTD_ANNOUNCE_H

#include "virtagent/hostd_guest.h"

/* How long agent-down waits for the next agent, which may know how the one before
 * ended. */
#define ANNOUNCE_HOLD_NS (5 * NSEC_PER_SEC)

struct announce;

/* NULL with errno.  The guest outlives it. */
struct announce *announce_new(struct guest *g);
void announce_free(struct announce *a);
/* An event of the host's own about the guest; reason may be NULL. */
void announce_event(struct guest *g, const char *event, const char *reason);

/* The same with more data, which is taken over. */
void announce_data(struct guest *g, const char *event, const char *reason,
		   struct va_value *data);

/* The session ended; why as the link says, which holds the agent's farewell. */
void announce_session_down(struct guest *g, const char *why);
/* Told at once: reason is a word of hostd_announce.c, detail free text. */
void announce_down(struct guest *g, const char *reason, const char *detail);
/* Which agent is announced, for the next va-hostd. */
void announce_remember(struct guest *g, const char *agent);

#endif
