/*
 * agent_spawner.h - the spawner process (agent_spawn.h says what it does)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_SPAWNER_H
#define VA_AGENT_SPAWNER_H

/*
 * Runs until the endpoint's end of ctl_fd is closed; the exit status of the
 * process.  server_fd: the first server's pair, or -1 (one comes by
 * IPC_SERVER).
 */
int agent_spawner_main(int ctl_fd, int server_fd);

#endif
