/*
 * agent_spawn_client.h - the server's end of the spawner's pair
 *
 * What handlers use is in agent_spawn.h; this is for the server's main thread.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_SPAWN_CLIENT_H
#define VA_AGENT_SPAWN_CLIENT_H

#include "virtagent/agent_spawn.h"

struct spawn_client *spawn_client_new(void);
/* No job may be left in use. */
void spawn_client_free(struct spawn_client *c);
/* A (new) spawner's pair, taken over; -1 detaches.  Jobs of the one before are
 * lost, and whoever waits for them is told. */
void spawn_client_attach(struct spawn_client *c, int fd);
/* For poll(); -1 without a spawner. */
int spawn_client_fd(struct spawn_client *c);
/* The fd is readable: takes what is there. */
void spawn_client_input(struct spawn_client *c);

/* Do programs run, or are about to? */
bool spawn_client_busy(struct spawn_client *c);
/* fn is called when the first one is about to be started, by the thread that
 * asks for it; it must not block. */
void spawn_client_on_busy(struct spawn_client *c, void (*fn)(void *arg), void *arg);

#endif
