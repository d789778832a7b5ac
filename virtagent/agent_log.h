/*
 * agent_log.h - logging that never waits
 *
 * A log on a frozen file system, or a journal stuck behind one, blocks whoever
 * writes to it.  So in va-agent only one thread of the server writes: lines are
 * queued for it, by the server's other threads directly and by the endpoint
 * through a message.  Full queues drop lines and say how many.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_LOG_H
#define VA_AGENT_LOG_H

#include "common/log.h"

/* Server: from now on lines are queued for the target (log_set_target(); kept by
 * reference).  The writer thread starts with the first one, and opens the target
 * itself: opening waits too, on a frozen file system. */
void agent_log_queue(const char *target);
/* Queues a line that came from the endpoint. */
void agent_log_add(enum log_level level, const char *text);
/* Has the writer open the log file anew. */
void agent_log_reopen(void);
/* Waits until the queue is written, at most ms. */
void agent_log_flush(int ms);

#endif
