/*
 * interrupt.h - Ctrl-C as a question that loops ask
 *
 * After interrupt_catch(), the first SIGINT or SIGTERM only sets a flag and ends
 * a sleep or poll; the second ends the program at once.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_INTERRUPT_H
#define VA_CLIENT_INTERRUPT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

void interrupt_catch(void);
bool interrupt_seen(void);
/* The flag itself, for struct http_call. */
const volatile sig_atomic_t *interrupt_flag(void);
/* The exit status a shell gives for the signal that came. */
int interrupt_status(void);
void interrupt_sleep_until(uint64_t when_ns);

#endif
