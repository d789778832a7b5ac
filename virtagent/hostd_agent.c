/*
 * hostd_agent.c - what a guest's agent says of itself
 *
 * It is asked when a session begins, and again with a growing pause while it does
 * not answer.  What comes back is the guest's word: it is shown, and decides
 * nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "virtagent/hostd_agent.h"
#include "virtagent/hostd_call.h"
#include "virtagent/hostd_guest.h"

#define ASK_DEADLINE_NS (10 * NSEC_PER_SEC)
#define ASK_AGAIN_MIN_NS (NSEC_PER_SEC / 4)
#define ASK_AGAIN_MAX_NS (60 * NSEC_PER_SEC)

struct agent {
	struct hostd *h;
	struct guest *g;
	struct loop_timer *again;
	uint64_t pause_ns;
	struct hostd_call *question; /* in flight, or NULL */
	bool known;
	char version[64], id[64], boot_id[64], vm_uuid[64];
	struct va_value *last_end;
};

static void take_text(char *to, size_t size, const struct va_value *v,
		      const char *member)
{
	const char *text;

	to[0] = '\0';
	if (va_get_string(va_member(v, member), &text) == 0)
		log_escape(to, size, text, strlen(text));
}

/* {process, reason, signal or status}, whatever else the guest put there. */
static void take_last_end(struct agent *a, const struct va_value *v)
{
	static const char *const numbers[] = { "signal", "status" };
	CLEANUP_VALUE struct va_value *end = va_struct();
	char process[16], reason[16];
	int64_t n;
	int err;

	va_value_free(take_ptr(a->last_end));
	take_text(process, sizeof(process), v, "process");
	take_text(reason, sizeof(reason), v, "reason");
	if (strcmp(reason, "crashed") != 0 && strcmp(reason, "hung") != 0)
		return;
	err = va_set(end, "process", va_string(process));
	if (err == 0)
		err = va_set(end, "reason", va_string(reason));
	for (size_t i = 0; i < 2 && err == 0; i++)
		if (va_get_int(va_member(v, numbers[i]), &n) == 0)
			err = va_set(end, numbers[i], va_int(n));
	if (err == 0)
		a->last_end = take_ptr(end);
}

static void ask_later(struct agent *a)
{
	a->pause_ns = a->pause_ns ? a->pause_ns * 2 : ASK_AGAIN_MIN_NS;
	if (a->pause_ns > ASK_AGAIN_MAX_NS)
		a->pause_ns = ASK_AGAIN_MAX_NS;
	loop_timer_in(a->again, a->pause_ns);
}

static void on_reply(void *arg, int error, const struct va_value *v,
		     const char *why)
{
	struct agent *a = arg;

	a->question = NULL;
	if (error == 0 && va_typeof(v) != VA_STRUCT) {
		error = -EBADMSG;
		why = "the answer is no struct";
	}
	if (error < 0) {
		log_debug("guest %s: guest.capabilities: %s", a->g->spec.name,
			  why);
		ask_later(a);
		return;
	}
	take_text(a->version, sizeof(a->version), v, "version");
	take_text(a->id, sizeof(a->id), v, "agent_id");
	take_text(a->boot_id, sizeof(a->boot_id), v, "boot_id");
	take_text(a->vm_uuid, sizeof(a->vm_uuid), v, "vm_uuid");
	take_last_end(a, va_member(v, "last_end"));
	a->known = true;
	a->pause_ns = 0;
	guest_agent_known(a->g);
}

static int send_question(struct agent *a)
{
	CLEANUP_VALUE struct va_value *params = va_array();

	a->question = hostd_call_start(a->g, "guest.capabilities", params,
				       clock_now() + (uint64_t)(clock_scale() *
								ASK_DEADLINE_NS),
				       on_reply, a);
	return a->question ? 0 : -errno;
}

static void on_again(void *arg)
{
	struct agent *a = arg;

	if (!a->question && send_question(a) < 0)
		ask_later(a);
}

struct agent *agent_new(struct hostd *h, struct guest *g)
{
	struct agent *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->h = h;
	a->g = g;
	a->again = loop_timer_new(h->loop, on_again, a);
	if (!a->again) {
		free(a);
		return NULL;
	}
	return a;
}

/* The request goes on alone: its answer is dropped. */
static void abandon(struct agent *a)
{
	hostd_call_abandon(a->question);
	a->question = NULL;
}

void agent_free(struct agent *a)
{
	if (!a)
		return;
	abandon(a);
	loop_timer_free(a->again);
	va_value_free(a->last_end);
	free(a);
}

void agent_ask(struct agent *a)
{
	agent_forget(a);
	a->pause_ns = 0;
	on_again(a);
}

void agent_recheck(struct agent *a)
{
	if (a->known && !loop_timer_armed(a->again))
		on_again(a);
}

void agent_forget(struct agent *a)
{
	abandon(a);
	loop_timer_stop(a->again);
	a->known = false;
	a->version[0] = a->id[0] = a->boot_id[0] = a->vm_uuid[0] = '\0';
}

bool agent_known(const struct agent *a)
{
	return a->known;
}

const char *agent_version(const struct agent *a)
{
	return a->version;
}

const char *agent_id(const struct agent *a)
{
	return a->id;
}

const char *agent_boot_id(const struct agent *a)
{
	return a->boot_id;
}

const char *agent_vm_uuid(const struct agent *a)
{
	return a->vm_uuid;
}

const struct va_value *agent_last_end(const struct agent *a)
{
	return a->last_end;
}
