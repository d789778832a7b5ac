/*
 * interrupt.c - see interrupt.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/interrupt.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

static volatile sig_atomic_t seen;

static void on_signal(int signo)
{
	if (seen)
		_exit(128 + signo);
	seen = signo;
}

void interrupt_catch(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

bool interrupt_seen(void)
{
	return seen != 0;
}

const volatile sig_atomic_t *interrupt_flag(void)
{
	return &seen;
}

int interrupt_status(void)
{
	return 128 + seen;
}

void interrupt_sleep_until(uint64_t when_ns)
{
	uint64_t now = clock_now();
	struct timespec ts;

	if (when_ns <= now || seen)
		return;
	ts.tv_sec = (time_t)((when_ns - now) / NSEC_PER_SEC);
	ts.tv_nsec = (long)((when_ns - now) % NSEC_PER_SEC);
	nanosleep(&ts, NULL);
}
