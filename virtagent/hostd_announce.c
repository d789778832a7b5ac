/*
 * hostd_announce.c - agent-up and agent-down, with the reason
 *
 * data.reason of agent-down is one of:
 *
 *	stopped    the agent was told to end; it said so
 *	upgraded   the same, and its program had been replaced
 *	shutdown   the guest's system goes down; the agent said so
 *	crashed    a process of it (process) died: signal or status, if anyone saw it
 *	hung       a process of it did not answer and was replaced
 *	reset      it is there again after another boot and had not said goodbye
 *	restarted  another agent answers, and nobody knows why
 *	link       the session ended on the way: virtproxy, a snapshot that was loaded
 *	removed    the guest left the configuration
 *
 * and data.detail says it in words.  What nobody said goodbye for is held back for
 * ANNOUNCE_HOLD_NS, until the next agent answers: it may know how the one before
 * ended (last_end of guest.capabilities).  That and the farewell are the guest's
 * word; they are shown and decide nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/hostd_agent.h"
#include "virtagent/hostd_announce.h"
#include "virtagent/hostd_dir.h"
#include "virtagent/hostd_keys.h"

struct announce {
	struct guest *g;
	struct loop_timer *timer;
	bool held;	 /* an agent-down */
	char why[160];	 /* its */
	char boot[64];	 /* of the agent that was up last; "" = not known */
};

void announce_event(struct guest *g, const char *event, const char *reason)
{
	announce_data(g, event, reason, va_struct());
}

void announce_data(struct guest *g, const char *event, const char *reason,
		   struct va_value *data)
{
	if (reason && va_set(data, "reason", va_string(reason)) < 0)
		return;
	log_info("guest %s: %s%s%s", g->spec.name, event, reason ? ": " : "",
		 reason ? reason : "");
	events_post(g->h->events, g->spec.name, event, data);
}

/* agent may be g->last_agent. */
void announce_remember(struct guest *g, const char *agent)
{
	int err = guest_record_write(g->dir, &g->spec, agent);

	if (agent != g->last_agent)
		snprintf(g->last_agent, sizeof(g->last_agent), "%s", agent);
	if (err < 0)
		log_warning("guest %s: %s/guest.json: %s", g->spec.name, g->dir,
			    strerror(-err));
}

/* --- up --------------------------------------------------------------------- */

static void post_up(struct guest *g)
{
	struct va_value *data = va_struct();

	g->counts.agents_up++;
	if (va_set(data, "version", va_string(agent_version(g->agent))) < 0 ||
	    va_set(data, "agent", va_string(agent_id(g->agent))) < 0 ||
	    va_set(data, "boot", va_string(agent_boot_id(g->agent))) < 0)
		return;
	log_info("guest %s: agent-up: version %s", g->spec.name,
		 agent_version(g->agent));
	events_post(g->h->events, g->spec.name, "agent-up", data);
}

/* --- down ------------------------------------------------------------------- */

/* last_end may be NULL. */
static void post_down(struct guest *g, const char *reason, const char *detail,
		      const struct va_value *last_end)
{
	static const char *const members[] = { "process", "signal", "status" };
	struct va_value *data = va_struct();
	int err = va_set(data, "reason", va_string(reason));

	if (err == 0 && detail[0])
		err = va_set(data, "detail", va_string(detail));
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		const struct va_value *v = va_member(last_end, members[i]);

		if (err == 0 && v)
			err = va_set(data, members[i], va_value_copy(v));
	}
	if (err < 0)
		return;
	log_info("guest %s: agent-down: %s%s%s", g->spec.name, reason,
		 detail[0] ? ": " : "", detail);
	events_post(g->h->events, g->spec.name, "agent-down", data);
}

static void forget(struct guest *g)
{
	g->announced = false;
	g->adopted = false;
	g->announce->held = false;
	loop_timer_stop(g->announce->timer);
	if (g->last_agent[0])
		announce_remember(g, "");
}

void announce_down(struct guest *g, const char *reason, const char *detail)
{
	if (g->announced || g->last_agent[0])
		post_down(g, reason, detail, NULL);
	forget(g);
}

/* Another agent answers than was announced. */
static void down_as_known(struct guest *g, const char *why)
{
	const struct va_value *end = agent_last_end(g->agent);
	const char *boot = g->announce->boot, *reason = NULL;

	if (boot[0] && strcmp(boot, agent_boot_id(g->agent)) != 0)
		post_down(g, "reset", why, NULL);
	else if (end && va_get_string(va_member(end, "reason"), &reason) == 0)
		post_down(g, reason, why, end);
	else
		post_down(g, "restarted", why, NULL);
	forget(g);
}

static void on_held(void *arg)
{
	struct announce *a = arg;

	if (a->held)
		announce_down(a->g, "restarted", a->why);
}

/* The agent's own words: one of them, a colon, details. */
static const char *farewell(const char *why, char *word, size_t size)
{
	static const char *const words[] = { "stopped", "upgraded", "shutdown" };
	size_t n = strcspn(why, ":");

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i]) != n || strncmp(why, words[i], n) != 0)
			continue;
		snprintf(word, size, "%s", words[i]);
		return why[n] ? why + n + 1 + strspn(why + n + 1, " ") : why + n;
	}
	return NULL;
}

void announce_session_down(struct guest *g, const char *why)
{
	struct announce *a = g->announce;
	char word[16];
	const char *detail = farewell(why, word, sizeof(word));

	if (detail) {
		announce_down(g, word, detail);
	} else if (!str_starts(why, "peer restarted")) {
		announce_down(g, "link", why);
	} else if (g->announced || g->last_agent[0]) {
		snprintf(a->why, sizeof(a->why), "%s", why);
		a->held = true;
		loop_timer_in(a->timer, (uint64_t)(clock_scale() * ANNOUNCE_HOLD_NS));
	}
}

/* --- what hostd_agent.c found out ------------------------------------------- */

void guest_agent_known(struct guest *g)
{
	bool same = g->last_agent[0] && strcmp(g->last_agent, agent_id(g->agent)) == 0;
	bool again = g->announced && !g->announce->held;

	/* It was asked because an agent was seen that turned out to be this one. */
	if (again && same)
		return;
	same = same && g->adopted;
	g->announced = true;
	guest_keys_vm(g->keys, guest_vm(g));
	if (!again)
		guest_keys_up(g->keys, agent_boot_id(g->agent), !same, g->was_off);
	g->was_off = false;
	if (!same && g->last_agent[0])
		down_as_known(g, g->announce->held ? g->announce->why :
						     "another agent answers");
	g->announced = true;
	g->adopted = false;
	snprintf(g->announce->boot, sizeof(g->announce->boot), "%s",
		 agent_boot_id(g->agent));
	if (same)
		return;
	announce_remember(g, agent_id(g->agent));
	post_up(g);
}

void guest_agent_seen(struct guest *g, const char *agent)
{
	if (g->announced && strcmp(g->last_agent, agent) != 0)
		agent_recheck(g->agent);
}

/* --- the whole -------------------------------------------------------------- */

struct announce *announce_new(struct guest *g)
{
	struct announce *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->g = g;
	a->timer = loop_timer_new(g->h->loop, on_held, a);
	if (a->timer)
		return a;
	free(a);
	errno = ENOMEM;
	return NULL;
}

void announce_free(struct announce *a)
{
	if (!a)
		return;
	loop_timer_free(a->timer);
	free(a);
}
