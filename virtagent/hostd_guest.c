/*
 * hostd_guest.c - one guest: configuration, virtproxy, sockets, state
 *
 * The state is what the virtproxy's control socket says (channel, session, when
 * the guest was last heard) and what the guest's agent answered.  It is told as
 * events:
 *
 *	agent-up      a session, and its agent answered guest.capabilities
 *	agent-down    the session ended, or another agent answers in it: the reason
 *		      is in hostd_announce.c
 *	guest-silent  a session, but nothing heard for GUEST_SILENT_NS, or its
 *		      virtproxy has not answered for so long
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
#include "virtagent/hostd_feed.h"
#include "virtagent/hostd_guest.h"
#include "virtagent/hostd_keys.h"
#include "virtagent/hostd_proxy.h"
#include "virtagent/hostd_server.h"

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
	const char *why = "no sign of life";
	uint64_t quiet;

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
		why = "its virtproxy does not answer";
	}
	if (quiet < GUEST_SILENT_NS) {
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

	g->link.heard_ns = heard ? now : now - GUEST_SILENT_NS;
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

static void sync_later(void *arg)
{
	hostd_sync_guests(arg);
}

static void on_stopped(void *arg)
{
	struct guest *g = arg;
	struct hostd *h = g->h;

	for (struct guest **p = &h->guests; *p; p = &(*p)->next) {
		if (*p == g) {
			*p = g->next;
			h->nguests--;
			break;
		}
	}
	log_info("guest %s: removed", g->spec.name);
	guest_dir_remove(g->dir);
	guest_free(g);
	/* It may have come back, with another channel. */
	loop_post(h->loop, sync_later, h);
}

static const struct proxy_ops proxy_ops = {
	.up = on_up,
	.down = on_down,
	.waits = on_waits,
	.event = on_event,
	.status = on_status,
	.stopped = on_stopped,
};

static void on_timer(void *arg)
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

/* --- making ------------------------------------------------------------- */

#define ARGV_MAX 24

/* virtproxy's command line.  The words it needs to own are in made. */
struct command {
	const char *argv[ARGV_MAX];
	size_t n;
	char *made[4];
};

static void command_done(struct command *c)
{
	for (size_t i = 0; i < sizeof(c->made) / sizeof(c->made[0]); i++)
		free(c->made[i]);
}

static void add_word(struct command *c, const char *word)
{
	if (c->n < ARGV_MAX - 1)
		c->argv[c->n++] = word;
}

static void add_option(struct command *c, const char *option, const char *value)
{
	if (!value)
		return;
	add_word(c, option);
	add_word(c, value);
}

static int make_command(const struct guest *g, struct command *c)
{
	const struct hostd *h = g->h;

	c->made[0] = str_printf("virtagent:%s/rpc.sock:-", g->dir);
	c->made[1] = str_printf("virtagent-host:%s/host.sock:-", g->dir);
	c->made[2] = str_printf("%s/ctl.sock", g->dir);
	if (h->conf.gid != (gid_t)-1)
		c->made[3] = str_printf("%u", (unsigned)h->conf.gid);
	if (!c->made[0] || !c->made[1] || !c->made[2])
		return -ENOMEM;
	add_word(c, "virtproxy");
	add_option(c, "-c", g->spec.channel);
	add_option(c, "-o", c->made[0]);
	add_option(c, "-i", c->made[1]);
	add_option(c, "--ctl", c->made[2]);
	add_option(c, "--name", g->spec.name);
	add_option(c, "--qmp", g->spec.qmp);
	add_option(c, "--group", c->made[3]);
	add_option(c, "--log", h->opt.log);
	if (h->conf.no_sandbox)
		add_word(c, "--no-sandbox");
	if (h->opt.verbose)
		add_word(c, "-v");
	return 0;
}

static int make_proxy(struct guest *g)
{
	CLEANUP(command_done) struct command c = { .n = 0 };
	struct proxy_config cfg = {
		.loop = g->h->loop,
		.children = g->h->children,
		.label = g->spec.name,
		.program = g->h->program,
		.argv = c.argv,
		.limits = &g->h->conf.watch,
	};
	int err = make_command(g, &c);

	if (err < 0)
		return err;
	cfg.ctl_path = c.made[2];
	g->proxy = proxy_new(&cfg, &proxy_ops, g);
	return g->proxy ? 0 : -errno;
}

static int make_sockets(struct guest *g, char *err, size_t err_size)
{
	CLEANUP_FREE char *host = str_printf("%s/host.sock", g->dir);
	CLEANUP_FREE char *feed = str_printf("%s/events.sock", g->dir);

	if (!host || !feed)
		return -ENOMEM;
	/* Only this user's virtproxy dials host.sock: never the group. */
	g->port = server_port_new(g->h->server, host, g->spec.name, (gid_t)-1);
	if (!g->port) {
		snprintf(err, err_size, "%s: %s", host, strerror(errno));
		return -errno;
	}
	g->feed = feed_new(g->h->loop, g->h->events, g->spec.name, feed,
			   g->h->conf.gid);
	if (!g->feed) {
		snprintf(err, err_size, "%s: %s", feed, strerror(errno));
		return -errno;
	}
	return 0;
}

static int copy_spec(struct guest_spec *to, const struct guest_spec *from)
{
	*to = *from;
	to->name = strdup(from->name);
	to->channel = strdup(from->channel);
	to->file = strdup(from->file);
	to->qmp = from->qmp ? strdup(from->qmp) : NULL;
	to->uuid = from->uuid ? strdup(from->uuid) : NULL;
	to->mark = from->mark ? strdup(from->mark) : NULL;
	return to->name && to->channel && to->file ? 0 : -ENOMEM;
}

/* What an earlier va-hostd left; a virtproxy that it started for another channel
 * is ended first. */
static void take_record(struct guest *g)
{
	CLEANUP(guest_record_done) struct guest_record r = { 0 };

	if (guest_record_read(g->dir, &r) < 0)
		return;
	snprintf(g->last_agent, sizeof(g->last_agent), "%s", r.agent);
	if (strcmp(r.channel, g->spec.channel) != 0 ||
	    strcmp(r.qmp, g->spec.qmp ? g->spec.qmp : "") != 0)
		proxy_replace(g->proxy);
}

struct guest *guest_new(struct hostd *h, const struct guest_spec *spec,
			char *err, size_t err_size)
{
	struct guest *g = calloc(1, sizeof(*g));
	int res = -ENOMEM;

	if (!g)
		return NULL;
	err[0] = '\0';
	g->h = h;
	g->since = clock_wall();
	g->down_ns = clock_now();
	if (copy_spec(&g->spec, spec) == 0)
		g->dir = guest_dir_path(spec->id);
	g->timer = loop_timer_new(h->loop, on_timer, g);
	g->agent = agent_new(h, g);
	g->keys = guest_keys_new(h, g);
	g->announce = announce_new(g);
	if (g->dir && g->timer && g->agent && g->keys && g->announce)
		res = guest_dir_make(g->dir, spec, h->conf.gid, err, err_size);
	if (res == 0)
		res = make_sockets(g, err, err_size);
	if (res == 0)
		res = make_proxy(g);
	if (res < 0) {
		if (!err[0])
			snprintf(err, err_size, "%s", strerror(-res));
		guest_free(g);
		return NULL;
	}
	take_record(g);
	announce_remember(g, g->last_agent);
	res = keys_add_guest(h->keys, spec->name);
	if (res < 0)
		log_warning("guest %s: keys of its groups: %s", spec->name,
			    strerror(-res));
	proxy_begin(g->proxy);
	return g;
}

void guest_free(struct guest *g)
{
	proxy_free(g->proxy);
	agent_free(g->agent);
	announce_free(g->announce);
	guest_keys_free(g->keys);
	feed_free(g->feed);
	server_port_free(g->port);
	loop_timer_free(g->timer);
	va_value_free(g->link.status);
	guest_spec_done(&g->spec);
	free(g->dir);
	free(g);
}

void guest_stop(struct guest *g)
{
	if (g->stopping)
		return;
	g->stopping = true;
	keys_drop_guest(g->h->keys, g->spec.name);
	announce_down(g, "removed", "the guest left the configuration");
	proxy_stop(g->proxy);
}

struct guest *guest_find(struct hostd *h, const char *name)
{
	for (struct guest *g = h->guests; g; g = g->next) {
		if (!g->stopping && strcmp(g->spec.name, name) == 0)
			return g;
	}
	return NULL;
}

int guest_refresh(struct guest *g, loop_fn fn, void *arg)
{
	return proxy_poll(g->proxy, fn, arg);
}
