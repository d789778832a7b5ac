/*
 * main.c - virtproxy(8): endpoints and forwards as the command line says
 *
 * Exit status: 0 ended in order, 1 failed, 2 wrong usage.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/loop.h"
#include "common/seal.h"
#include "common/sock.h"
#include "virtproxy/guest_agent.h"
#include "virtproxy/sandbox.h"
#include "virtproxy/settings.h"
#include "virtproxy/virtproxy.h"

#define EXIT_USAGE 2
#define STATUS_MS 5000
#define MMAP_FROM 32768
#define TOP_PAD 4096
#define STATUS_MAX 262144u

struct program {
	struct settings set;
	struct loop *loop;
	struct vp_endpoint *endpoints[CHANNELS_MAX];
	struct guest_agent *agents[CHANNELS_MAX];
	struct loop_signal *signals[4];
	size_t farewells; /* endpoints that have not said goodbye yet */
	bool ending;
	int pid_fd;
};

/* Asks a running virtproxy; its answer ends in an empty line. */
static int ask_status(const char *path, bool json)
{
	CLEANUP_CLOSE int fd = sock_unix_connect(path);
	CLEANUP_BUF struct buf answer = BUF_INIT(STATUS_MAX);
	const char *command = json ? "status json\n" : "status\n", *text = NULL;
	const char *end = NULL;
	ssize_t n = fd < 0 ? fd : write(fd, command, strlen(command));

	while (n > 0 && !end) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		n = poll(&p, 1, STATUS_MS) > 0 ? buf_read_fd(&answer, fd, 65536) :
						 -ETIMEDOUT;
		text = buf_cstr(&answer);
		end = text ? strstr(text, "\n\n") : NULL;
	}
	if (!end) {
		fprintf(stderr, "virtproxy: %s: %s\n", path,
			n < 0 ? strerror((int)-n) : "no answer");
		return EXIT_FAILURE;
	}
	fwrite(text, 1, (size_t)(end - text) + 1, stdout);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int make_endpoint(struct program *p, size_t i, char *err, size_t err_size)
{
	const struct channel_setting *c = &p->set.channels[i];
	struct vp_endpoint_config cfg = {
		.loop = p->loop,
		.channel = c->spec,
		.label = c->name,
		.guest = settings_is_guest(c),
		.probe_serial = c->probe,
		.long_rest = c->long_rest,
		.qmp_path = c->qmp,
		.compress = true,
	};

	p->endpoints[i] = vp_endpoint_new(&cfg, err, err_size);
	if (!p->endpoints[i])
		return -errno;
	if (p->agents[i]) {
		int r = guest_agent_serve(p->agents[i], p->endpoints[i], err, err_size);

		if (r < 0)
			return r;
	}
	if (c->ctl)
		return vp_endpoint_add_ctl(p->endpoints[i], c->ctl, p->set.gid, err,
					   err_size);
	return 0;
}

static struct vp_endpoint *endpoint_of(struct program *p, unsigned id)
{
	return p->endpoints[settings_channel(&p->set, id) - p->set.channels];
}

static int make_parts(struct program *p, char *err, size_t err_size)
{
	struct settings *s = &p->set;
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->nchannels; i++)
		r = make_endpoint(p, i, err, err_size);
	for (size_t i = 0; r == 0 && i < s->niforwards; i++)
		r = vp_endpoint_add_iforward(endpoint_of(p, s->iforwards[i].id),
					     &s->iforwards[i], err, err_size);
	for (size_t i = 0; r == 0 && i < s->noforwards; i++)
		r = vp_endpoint_add_oforward(endpoint_of(p, s->oforwards[i].id),
					     &s->oforwards[i], s->gid, err, err_size);
	return r;
}

static void on_farewell(void *arg)
{
	struct program *p = arg;

	if (--p->farewells == 0)
		loop_stop(p->loop);
}

static void on_end_signal(int signo, void *arg)
{
	struct program *p = arg;

	if (p->ending) {
		loop_stop(p->loop);
		return;
	}
	p->ending = true;
	log_info("ending: %s", strsignal(signo));
	p->farewells = p->set.nchannels;
	for (size_t i = 0; i < p->set.nchannels; i++)
		vp_endpoint_shutdown(p->endpoints[i], NULL, on_farewell, p);
}

static void on_hangup(int signo, void *arg)
{
	int r = log_reopen();

	if (r < 0)
		log_warning("log: %s", strerror(-r));
}

static void on_child(int signo, void *arg)
{
	struct program *p = arg;

	for (size_t i = 0; i < p->set.nchannels; i++)
		if (p->agents[i])
			guest_agent_reap(p->agents[i]);
}

static const struct {
	int signo;
	loop_signal_fn fn;
} signal_rows[] = {
	{ SIGTERM, on_end_signal },
	{ SIGINT, on_end_signal },
	{ SIGHUP, on_hangup },
	{ SIGCHLD, on_child },
};

static int make_signals(struct program *p)
{
	for (size_t i = 0; i < sizeof(signal_rows) / sizeof(signal_rows[0]); i++) {
		p->signals[i] = loop_signal_new(p->loop, signal_rows[i].signo,
						signal_rows[i].fn, p);
		if (!p->signals[i])
			return -errno;
	}
	return 0;
}

static int make_pidfile(struct program *p, char *err, size_t err_size)
{
	pid_t holder = 0;
	int r = daemon_pidfile(p->set.pidfile, &p->pid_fd, &holder);

	if (r == -EBUSY)
		snprintf(err, err_size, "%s is held by process %d", p->set.pidfile,
			 (int)holder);
	else if (r < 0)
		snprintf(err, err_size, "%s: %s", p->set.pidfile, strerror(-r));
	return r;
}

static void tear_down(struct program *p)
{
	for (size_t i = 0; i < CHANNELS_MAX; i++) {
		guest_agent_free(p->agents[i]);
		vp_endpoint_free(p->endpoints[i]);
	}
	for (size_t i = 0; i < sizeof(signal_rows) / sizeof(signal_rows[0]); i++)
		loop_signal_free(p->signals[i]);
	loop_free(p->loop);
	if (p->pid_fd >= 0)
		daemon_pidfile_remove(p->set.pidfile, p->pid_fd);
}

/* First of all: what they fork shall hold no descriptor of ours. */
static int make_agents(struct program *p, char *err, size_t err_size)
{
	for (size_t i = 0; i < p->set.nchannels; i++) {
		const struct channel_setting *c = &p->set.channels[i];

		if (!c->guest_agent)
			continue;
		p->agents[i] = guest_agent_new(c->spec.id, err, err_size);
		if (!p->agents[i])
			return -EINVAL;
	}
	return 0;
}

static int start(struct program *p, char *err, size_t err_size)
{
	int r = make_agents(p, err, err_size);

	if (r < 0)
		return r;
	snprintf(err, err_size, "the event loop cannot be made");
	if (p->set.pidfile)
		r = make_pidfile(p, err, err_size);
	if (r == 0 && !(p->loop = loop_new()))
		r = -errno;
	if (r == 0)
		r = make_signals(p);
	return r < 0 ? r : make_parts(p, err, err_size);
}

/* --- confinement --------------------------------------------------------- */

static int seal_service(const struct vp_spec *spec, struct sandbox *sb)
{
	if (strcmp(spec->port, "-") == 0)
		return sock_unix_seal(spec->addr);
	sb->tcp = true;
	return sock_tcp_seal(spec->addr, spec->port);
}

static int seal_channel(const struct channel_setting *c, struct sandbox *sb)
{
	int r = c->qmp ? sock_unix_seal(c->qmp) : 0;

	sb->foreign |= c->qmp != NULL;
	if (r == 0)
		r = seal_add_path(SEAL_REMOVE, c->ctl);
	if (r < 0)
		return r;
	switch (c->spec.method) {
	case VP_UNIX_CONNECT:
		sb->foreign = true;
		return sock_unix_seal(c->spec.addr);
	case VP_TCP_CONNECT:
		return seal_service(&c->spec, sb);
	case VP_UNIX_LISTEN:
		return seal_add_path(SEAL_REMOVE, c->spec.addr);
	case VP_PTY_OPEN:
		sb->foreign = true;
		return seal_add_path(SEAL_OPEN, c->spec.addr);
	case VP_VIRTSERIAL_OPEN:
	case VP_ISASERIAL_OPEN:
		sb->devices = sb->foreign = true;
		return 0;
	case VP_TCP_LISTEN:
	case VP_FD:
		return 0;
	}
	return 0;
}

static bool log_is_file(const char *target)
{
	return target && strcmp(target, "stderr") != 0 && strcmp(target, "syslog") != 0;
}

/* All that this process will still have to reach when it is confined. */
static int seal_all(const struct program *p, struct sandbox *sb)
{
	const struct settings *s = &p->set;
	int r = seal_add_path(SEAL_REMOVE, s->pidfile);

	if (r == 0 && log_is_file(s->log))
		r = seal_add_path(SEAL_APPEND, s->log);
	for (size_t i = 0; r == 0 && i < s->nchannels; i++) {
		r = seal_channel(&s->channels[i], sb);
		if (r == 0 && p->agents[i])
			r = guest_agent_seal(p->agents[i]);
	}
	for (size_t i = 0; r == 0 && i < s->noforwards; i++)
		if (strcmp(s->oforwards[i].port, "-") == 0)
			r = seal_add_path(SEAL_REMOVE, s->oforwards[i].addr);
	for (size_t i = 0; r == 0 && i < s->niforwards; i++)
		r = seal_service(&s->iforwards[i], sb);
	return r;
}

static int confine(const struct program *p)
{
	struct sandbox sb = { .tcp = false };
	const char *why = "";
	int r;

	if (p->set.no_sandbox)
		return 0;
	r = sandbox_limits(p->set.nchannels);
	if (r < 0)
		log_warning("limits: %s", strerror(-r));
	r = seal_all(p, &sb);
	if (r < 0)
		log_warning("not confined: %s", strerror(-r));
	if (r < 0)
		return 0;
	r = sandbox_enter(&sb, &why);
	if (r == -ENOTSUP) {
		log_info("not confined: %s", why);
		return sandbox_no_children();
	}
	if (r < 0)
		log_error("confinement: %s: %s", why, strerror(-r));
	return r;
}

static int run(struct program *p)
{
	char err[512];
	int r = 0;

	if (p->set.daemon)
		r = daemon_detach();
	if (r < 0) {
		log_error("to the background: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	r = start(p, err, sizeof(err));
	if (r < 0) {
		log_error("%s", err);
	} else {
		daemon_ready();
		r = confine(p);
		if (r == 0)
			r = loop_run(p->loop);
	}
	tear_down(p);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* A host has many of us.  The large tables of a link shall come as untouched pages
 * and not as zeros that calloc() writes, which it does where it finds room. */
static void save_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, MMAP_FROM);
	mallopt(M_TOP_PAD, TOP_PAD);
}

int main(int argc, char **argv)
{
	static struct program p; /* 52 KB of zeros that cost nothing */
	int r;

	save_memory();
	r = settings_parse(&p.set, argc, argv);
	p.pid_fd = -1;
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	daemon_early_init();
	memory_large_apart();
	if (p.set.status)
		return ask_status(p.set.status, p.set.json);
	log_init("virtproxy");
	if (p.set.verbose)
		log_set_level(LOG_LVL_DEBUG);
	r = p.set.daemon ? settings_make_absolute(&p.set) : 0;
	if (r < 0) {
		fprintf(stderr, "virtproxy: a path too long: %s\n", strerror(-r));
		return EXIT_FAILURE;
	}
	r = p.set.log ? log_set_target(p.set.log) : 0;
	if (r < 0) {
		fprintf(stderr, "virtproxy: log %s: %s\n", p.set.log, strerror(-r));
		return EXIT_FAILURE;
	}
	return run(&p);
}
