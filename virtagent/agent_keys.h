/*
 * agent_keys.h - guest.* keys on their way to the host
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_KEYS_H
#define VA_AGENT_KEYS_H

struct keyring;

/* Starts the thread that sends, through the agent's socket for calls to the host
 * (which must live on).  0 or a negative errno. */
int agent_keys_start(struct keyring *keys, const char *host_socket);

#endif
