/*
 * read_guard.c - see read_guard.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/read_guard.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc spells the member only from 2.37 on. */
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static int guard_signal;

static void on_signal(int signo)
{
	/* Only there to interrupt. */
}

static void install(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	/* Without SA_RESTART: the read is to end. */
	guard_signal = SIGRTMIN + 3;
	sigaction(guard_signal, &sa, NULL);
}

void read_guard_start(struct read_guard *g, unsigned ms)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct itimerspec when = {
		.it_value = { .tv_sec = ms / 1000,
			      .tv_nsec = (long)(ms % 1000) * 1000000 },
		.it_interval.tv_sec = 1,
	};
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID };
	sigset_t set;

	pthread_once(&once, install);
	ev.sigev_signo = guard_signal;
	ev.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	g->armed = timer_create(CLOCK_MONOTONIC, &ev, &g->timer) == 0;
	if (!g->armed)
		return;
	sigemptyset(&set);
	sigaddset(&set, guard_signal);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	if (timer_settime(g->timer, 0, &when, NULL) < 0)
		read_guard_stop(g);
}

void read_guard_stop(struct read_guard *g)
{
	if (g->armed)
		timer_delete(g->timer);
	g->armed = false;
}
