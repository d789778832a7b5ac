/*
 * hostd_guest_state.c - what is known of a guest: channel, session, silence
 *
 * The state is what the virtproxy's control socket says (channel, session, when
 * the guest was last heard) and what the guest's agent answered.  It is told as
 * events:
 *
 *	agent-up      a session, and its agent answered guest.capabilities
 *	agent-down    the session ended, or another agent answers in it: the reason
 *		      is in hostd_announce.c
 *	guest-silent  a session, but nothing heard for so long as its virtproxy
 *		      says (at rest beacons are few), or its virtproxy has not
 *		      answered for GUEST_SILENT_NS
 *	guest-heard   it speaks again, in the same session
 *	proxy-died    its virtproxy crashed, or hung or spun and was killed; it is
 *	              started again (hostd_proxy.c)
 *	guest-lost    silent for GUEST_LOST_NS, or its channel closed for more than
 *	              GUEST_GRACE_NS; the session may still come back
 *
 * Time alone ends no session: a paused guest is silent, not down.  The id of the
 * agent that was announced is kept in guest.json, so that a restart of va-hostd
 * neither repeats an agent-up nor forgets an agent-down.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/hostd_agent.h"
#include "virtagent/hostd_announce.h"
#include "virtagent/hostd_guest_priv.h"
#include "virtagent/hostd_keys.h"

/* --- state -------------------------------------------------------------- */

const char *guest_state(const struct guest *g)
{
	if (!g->link.session_up || !g->link.channel_up)
		return "absent";
	return g->silent ? "silent" : "connected";
}

const char *guest_vm(const struct guest *g)
{
	const char *uuid = "";

	if (g->spec.uuid)
		return g->spec.uuid;
	/* Of a snapshot that was started anew QEMU alone knows what it is. */
	if (!g->spec.qmp)
		return agent_vm_uuid(g->agent);
	va_get_string(va_member(g->link.status, "vm-uuid"), &uuid);
	return uuid;
}

static void changed(struct guest *g)
{
	g->since = clock_wall();
}

static void session_up(struct guest *g, const char *why)
{
	g->link.session_up = true;
	g->counts.sessions++;
	g->silent = g->lost = false;
	changed(g);
	log_info("guest %s: session up: %s", g->spec.name, why);
	agent_ask(g->agent);
}

static void session_down(struct guest *g, const char *why)
{
	if (!g->link.session_up && !g->last_agent[0])
		return;
	g->link.session_up = false;
	g->silent = g->lost = false;
	changed(g);
	agent_forget(g->agent);
	guest_keys_down(g->keys);
	announce_session_down(g, why);
}

/* off: not by our own virtproxy's wish, so the machine ended. */
static void channel_changed(struct guest *g, bool up, bool off, const char *why)
{
	if (g->link.channel_up == up)
		return;
	g->link.channel_up = up;
	g->down_ns = up ? 0 : clock_now();
	g->was_off |= !up && off;
	changed(g);
	if (up)
		log_info("guest %s: channel up: %s", g->spec.name, why);
	else if (g->link.session_up)
		loop_timer_in(g->timer, GUEST_GRACE_NS);
}

static void lose(struct guest *g, const char *why)
{
	g->lost = true;
	g->counts.losses++;
	announce_event(g, "guest-lost", why);
}

/* Silent or not, lost or not, by what is known now. */
static void check_silence(struct guest *g)
{
	uint64_t now = clock_now(), waited = proxy_waited(g->proxy);
	uint64_t quiet, limit = g->link.silent_ns;
	const char *why = "no sign of life";

	if (!g->link.session_up)
		return;
	if (!g->link.channel_up) {
		if (!g->lost && now - g->down_ns >= GUEST_GRACE_NS) {
			g->was_off = true;
			lose(g, g->link.why[0] ? g->link.why :
						 "its channel is closed");
		}
		return;
	}
	quiet = now > g->link.heard_ns ? now - g->link.heard_ns : 0;
	if (waited >= GUEST_SILENT_NS) {
		/* When the guest was heard nobody can say. */
		quiet = waited;
		limit = GUEST_SILENT_NS;
		why = "its virtproxy does not answer";
	}
	if (quiet < limit) {
		if (g->silent || g->lost) {
			changed(g);
			announce_event(g, "guest-heard", NULL);
		}
		g->silent = g->lost = false;
		return;
	}
	if (!g->silent) {
		g->silent = true;
		g->counts.silences++;
		changed(g);
		announce_event(g, "guest-silent", why);
	}
	if (!g->lost && quiet >= GUEST_LOST_NS)
		lose(g, why);
}

/* --- what the virtproxy says -------------------------------------------- */

static void peer_heard(struct guest *g, bool heard)
{
	uint64_t now = clock_now();

	g->link.heard_ns = heard ? now : now - g->link.silent_ns;
	check_silence(g);
}

static void on_event(void *arg, char *line)
{
	struct guest *g = arg;
	char *save = NULL;
	const char *what = strtok_r(line, " ", &save);
	const char *dir = strtok_r(NULL, " ", &save);
	const char *why = strtok_r(NULL, "", &save);

	if (!what || !dir)
		return;
	if (why)
		log_escape(g->link.why, sizeof(g->link.why), why, strlen(why));
	if (strcmp(what, "session") == 0 && strcmp(dir, "up") == 0)
		session_up(g, g->link.why);
	else if (strcmp(what, "session") == 0)
		session_down(g, g->link.why);
	else if (strcmp(what, "channel") == 0)
		channel_changed(g, strcmp(dir, "up") == 0,
				strcmp(dir, "down") == 0, g->link.why);
	else if (strcmp(what, "peer") == 0)
		peer_heard(g, strcmp(dir, "heard") == 0);
	proxy_poll(g->proxy, NULL, NULL);
}

static bool says_up(const struct va_value *status, const char *name)
{
	const struct va_value *v = va_member(status, name);
	const char *text;
	bool yes = false;

	if (va_get_string(v, &text) == 0)
		return strcmp(text, "up") == 0;
	return va_get_bool(v, &yes) == 0 && yes;
}

static void take_heard(struct guest *g, const struct va_value *status)
{
	int64_t ms;

	if (va_get_int(va_member(status, "silent-after-ms"), &ms) == 0 && ms > 0 &&
	    (uint64_t)ms < GUEST_LOST_NS / NSEC_PER_MSEC)
		g->link.silent_ns = (uint64_t)ms * NSEC_PER_MSEC;
	if (va_get_int(va_member(status, "heard-ms-ago"), &ms) < 0 || ms < 0)
		return;
	g->link.heard_ns = clock_now() - (uint64_t)ms * NSEC_PER_MSEC;
	g->link.heard_wall = clock_wall() - (double)ms / 1000;
}

/* A number that grows with whatever the virtproxy does: the channel's bytes, and
 * what it does for local clients without moving any. */
static uint64_t work_done(const struct va_value *status)
{
	static const struct {
		const char *name;
		unsigned weight;
	} rows[] = {
		{ "bytes-in", 1 },		{ "bytes-out", 1 },
		{ "stream-bytes-in", 1 },	{ "stream-bytes-out", 1 },
		{ "streams-opened", 1024 },	{ "streams-accepted", 1024 },
		{ "channel-opens", 1024 },	{ "refused-absent", 1024 },
		{ "refused-here", 1024 },	{ "ctl-commands", 64 },
	};
	uint64_t work = 0;
	int64_t n;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (va_get_int(va_member(status, rows[i].name), &n) == 0 && n > 0)
			work += (uint64_t)n * rows[i].weight;
	return work;
}

static void on_status(void *arg, const char *json)
{
	struct guest *g = arg;
	struct va_value *v = NULL;
	char err[128] = "";
	bool up;

	if (va_from_json(json, strlen(json), &v, err, sizeof(err)) < 0) {
		log_warning("guest %s: virtproxy's status: %s", g->spec.name,
			    err);
		return;
	}
	va_value_free(g->link.status);
	g->link.status = v;
	take_heard(g, v);
	channel_changed(g, says_up(v, "channel"), false, "as virtproxy says");
	up = says_up(v, "session");
	if (up && !g->link.session_up)
		session_up(g, "as virtproxy says");
	else if (!up)
		session_down(g, "the session ended");
	guest_keys_vm(g->keys, guest_vm(g));
	check_silence(g);
	/* May end it. */
	proxy_worked(g->proxy, work_done(v));
}

/* Its virtproxy leaves a question unanswered, which is all we hear of the guest;
 * or it answers again. */
static void on_waits(void *arg)
{
	struct guest *g = arg;
	uint64_t waited = proxy_waited(g->proxy);

	if (waited >= GUEST_SILENT_NS)
		check_silence(g);
	else if (!waited && g->silent)
		proxy_poll(g->proxy, NULL, NULL);
}

static void on_up(void *arg, bool adopted)
{
	struct guest *g = arg;

	g->adopted = adopted;
	log_info("guest %s: virtproxy %d %s", g->spec.name,
		 (int)proxy_pid(g->proxy), adopted ? "adopted" : "started");
	proxy_poll(g->proxy, NULL, NULL);
	loop_timer_in(g->timer, watch_look_every(&g->h->conf.watch));
}

static void on_down(void *arg, enum proxy_end end, const char *why)
{
	static const char *const causes[] = {
		[PROXY_CRASHED] = "crashed", [PROXY_HUNG] = "hung", [PROXY_SPUN] = "spun",
	};
	struct guest *g = arg;
	CLEANUP_FREE char *text = str_printf("virtproxy ended: %s", why);
	struct va_value *data = va_struct();

	g->counts.ends[end]++;
	snprintf(g->link.why, sizeof(g->link.why), "%s", why);
	session_down(g, text ? text : why);
	if (va_set(data, "cause", va_string(causes[end])) == 0)
		announce_data(g, "proxy-died", why, data);
	g->link.channel_up = false;
	g->down_ns = clock_now();
}

const struct proxy_ops guest_proxy_ops = {
	.up = on_up,
	.down = on_down,
	.waits = on_waits,
	.event = on_event,
	.status = on_status,
	.stopped = guest_stopped,
};

void guest_on_timer(void *arg)
{
	struct guest *g = arg;

	/* When a guest that speaks was heard last is known as of the last status
	 * only: that it went silent the virtproxy says by itself. */
	if (g->silent || !g->link.channel_up) {
		check_silence(g);
		proxy_poll(g->proxy, NULL, NULL);
	} else {
		proxy_check(g->proxy);
	}
	loop_timer_in(g->timer, watch_look_every(&g->h->conf.watch));
}
