/*
 * hostd_guest.c - one guest from its configuration to its end: directory, sockets,
 * virtproxy
 *
 * What is known of it while it is there is hostd_guest_state.c's.
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
#include "virtagent/hostd_guest_priv.h"
#include "virtagent/hostd_keys.h"
#include "virtagent/hostd_server.h"

/* --- making ------------------------------------------------------------- */

#define ARGV_MAX 24
#define MANY_GUESTS 200u /* more of them rest longer: PROTOCOL 7.4 of virtproxy */

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
	/* Beacons of very many guests would cost a good part of a core. */
	if (h->conf.nguests + h->nfound > MANY_GUESTS)
		add_word(c, "--long-rest");
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
	g->proxy = proxy_new(&cfg, &guest_proxy_ops, g);
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
	g->link.silent_ns = GUEST_SILENT_NS;
	if (copy_spec(&g->spec, spec) == 0)
		g->dir = guest_dir_path(spec->id);
	g->timer = loop_timer_new(h->loop, guest_on_timer, g);
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

/* --- ending -------------------------------------------------------------- */

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

static void sync_later(void *arg)
{
	hostd_sync_guests(arg);
}

void guest_stopped(void *arg)
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
