/*
 * agent_farewell.c - see agent_farewell.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_farewell.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "virtagent/agent_ipc.h"
#include "virtagent/guest/init.h"

#define THREAD_STACK (256u << 10)

int agent_farewell_get(struct buf *b, struct agent_farewell *ret)
{
	uint32_t pid;
	const char *text;

	if (buf_get_u32(b, &pid) < 0)
		return -EBADMSG;
	text = buf_cstr(b);
	if (!text)
		return -ENOMEM;
	ret->from = (pid_t)pid;
	snprintf(ret->reason, sizeof(ret->reason), "%s", text);
	return 0;
}

static void put_text(struct va_value *data, const char *name, const char *text,
		     int *r)
{
	char clean[1024];

	if (*text)
		guest_set(data, name,
			  va_string(log_escape(clean, sizeof(clean), text,
					       strlen(text))), r);
}

/* Is it what we were asked for?  Then it was told, with who asked. */
static bool is_ours(const struct agent_farewell *f, struct init_shutdown *st)
{
	const char *asked = __atomic_load_n(&f->ctx->power_mode, __ATOMIC_ACQUIRE);

	if (!asked || (strcmp(st->mode, "unknown") != 0 && strcmp(st->mode, asked) != 0 &&
		       !(st->or_mode && strcmp(st->or_mode, asked) == 0)))
		return false;
	snprintf(st->mode, sizeof(st->mode), "%s", asked);
	return true;
}

/* Does the system go down?  What we began ourselves we know, although init is too busy
 * to answer. */
static bool goes_down(const struct agent_farewell *f, struct init_shutdown *st)
{
	const char *asked = __atomic_load_n(&f->ctx->power_mode, __ATOMIC_ACQUIRE);

	return init_going_down(f->ctx->spawn, f->from, st) || (f->from == 1 && asked);
}

static void tell_host(const struct agent_farewell *f, const struct init_shutdown *st)
{
	CLEANUP_VALUE struct va_value *data = va_struct();
	int r = 0;

	guest_set(data, "mode", va_string(st->mode), &r);
	guest_set(data, "by", va_string("init"), &r);
	guest_set(data, "init", va_string(st->init), &r);
	put_text(data, "target", st->target, &r);
	put_text(data, "message", st->message, &r);
	if (st->uid >= 0)
		guest_set(data, "uid", va_int(st->uid), &r);
	if (r == 0)
		agent_events_post(f->events, "shutdown-begun", take_ptr(data));
}

static void *farewell(void *arg)
{
	CLEANUP_FREE struct agent_farewell *f = arg;
	CLEANUP_BUF struct buf b = BUF_INIT(128);
	struct init_shutdown st;
	int r;

	if (goes_down(f, &st)) {
		if (!is_ours(f, &st))
			tell_host(f, &st);
		snprintf(f->reason, sizeof(f->reason), "shutdown: %s, by %s",
			 st.mode, st.init);
	}
	if (agent_events_flush(f->events, clock_now() + FAREWELL_FLUSH_NS) < 0)
		log_warning("%u events did not reach the host before the end",
			    agent_events_waiting(f->events));
	r = buf_puts(&b, f->reason);
	if (r == 0)
		r = ipc_send(f->ipc_fd, IPC_STOPPED, &b, NULL, 0);
	if (r < 0)
		log_warning("the endpoint is not told of the end: %s", strerror(-r));
	return NULL;
}

int agent_farewell_start(const struct agent_farewell *f)
{
	struct agent_farewell *copy = malloc(sizeof(*copy));
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	if (!copy)
		return -ENOMEM;
	*copy = *f;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, farewell, copy);
	pthread_attr_destroy(&attr);
	if (r != 0)
		free(copy);
	return -r;
}
