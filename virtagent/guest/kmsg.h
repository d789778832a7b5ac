/*
 * kmsg.h - the kernel's messages as they come
 *
 * From /dev/kmsg, where each message has a number; where there is none (before Linux
 * 3.5, or taken away), by looking at syslog(2)'s copy of the ring once a second.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_KMSG_H
#define VA_GUEST_KMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct kmsg;

/* since: number of the first message wanted, 0 = the oldest kept.  0; -ENOTSUP: the
 * messages have no numbers here and since is not 0; or the reason that they cannot
 * be read at all. */
int kmsg_open(uint64_t since, struct kmsg **ret);
void kmsg_close(struct kmsg *k);

/*
 * Whole messages as text, "[ SECONDS.MICROSECONDS] TEXT\n" each; those longer than
 * max are cut.  Where messages were overwritten before they could be read, a line in
 * brackets says so.  The count, 0: none now, or a negative errno.
 */
ssize_t kmsg_read(struct kmsg *k, char *to, size_t max);
/* Until there may be more.  0, -ECANCELED (cancel_fd is readable), -ETIMEDOUT. */
int kmsg_wait(struct kmsg *k, int cancel_fd, uint64_t deadline_ns);

/* Is there a number for each message? */
bool kmsg_numbered(const struct kmsg *k);
/* The number behind the last message read; how many were lost so far. */
uint64_t kmsg_next(const struct kmsg *k);
uint64_t kmsg_lost(const struct kmsg *k);

/* The whole ring by syslog(2), without levels, as malloc'ed text.  0 or a negative
 * errno. */
int kmsg_ring(char **ret, size_t *len);

#endif
