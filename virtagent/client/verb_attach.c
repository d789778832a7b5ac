/*
 * verb_attach.c - attach, detach, libvirt-xml: the agent's port of a running guest
 *
 * "attach GUEST" plugs a port in, "attach [GUEST] JOB" joins a job (verb_exec.c): a
 * number alone is a job's.
 *
 * All is done here, with the rights of who calls: va-hostd plugs nothing in and runs
 * no virsh for anybody.  It is told by a file in its runtime directory, or finds the
 * port by itself where libvirt made it or where the configuration names the path.
 * The monitor of a guest that is served is virtproxy's, which is asked to leave it
 * alone for a while.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/exec_session.h"
#include "virtagent/client/hotplug.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/output.h"
#include "virtagent/client/place.h"
#include "virtagent/client/target.h"
#include "virtagent/client/virsh.h"

#define PLUG_NS (30 * NSEC_PER_SEC) /* virsh, QEMU */
#define SERVED_NS (10 * NSEC_PER_SEC)
#define RELEASE_SECONDS 60u /* longer than both */

struct attach_opts {
	const char *qmp, *connect;
	bool libvirt, watch;
};

DEFINE_TEXT(set_qmp, attach_opts, qmp);
DEFINE_TEXT(set_connect, attach_opts, connect);
DEFINE_FLAG(set_libvirt, attach_opts, libvirt);
DEFINE_FLAG(set_watch, attach_opts, watch);

#define PLUG_ROWS                                                              \
	{ 0, "qmp", "PATH", "the QMP socket of the guest's QEMU", set_qmp },    \
	{ 0, "libvirt", NULL, "the guest is a domain of libvirt's: use virsh",  \
	  set_libvirt },                                                       \
	{ 0, "connect", "URI", "libvirt's connection, as virsh -c takes it",    \
	  set_connect }

static const struct option_row attach_rows[] = {
	{ 'n', "no-stdin", NULL, "a job: only watch, no input and no Ctrl-C goes to it",
	  set_watch },
	PLUG_ROWS,
	CLIENT_ROWS,
};

static const struct option_row detach_rows[] = { PLUG_ROWS, CLIENT_ROWS };

/* How a guest's port is reached. */
struct plug {
	struct client *cl;
	struct place place;
	const char *monitor; /* NULL = by virsh */
	bool keep;	     /* virtproxy may have that monitor */
	bool held;	     /* it has it */
	uint64_t deadline_ns;
};

static int complain(const struct plug *p, int code, const char *text)
{
	out_error(p->place.name, p->cl->verb->name, "%s", text);
	return code;
}

static int exit_of(int error)
{
	return error == -ETIMEDOUT ? VAC_TIMEOUT :
	       error == -EINTR	   ? interrupt_status() :
	       error == -ENOTCONN  ? VAC_NOT_CONNECTED :
				     VAC_ERROR;
}

/* Which way? */
static void choose(struct plug *p)
{
	const struct attach_opts *o = p->cl->opts;
	const struct place *at = &p->place;

	if (o->libvirt || o->connect)
		return;
	p->monitor = o->qmp	    ? o->qmp :
		     at->qmp[0]	    ? at->qmp :
		     at->monitor[0] ? at->monitor :
		     at->found[0]   ? at->found : NULL;
	p->held = p->monitor && strcmp(p->monitor, at->qmp) == 0;
	p->keep = p->held || (p->monitor && strcmp(p->monitor, at->found) == 0);
}

static int begin(struct client *cl, int argc, char **argv, struct plug *p)
{
	const struct attach_opts *o = cl->opts;
	const char *name = argc ? argv[0] : cl->guest;
	int code;

	*p = (struct plug){ .cl = cl, .deadline_ns = client_deadline(cl, PLUG_NS) };
	if (!name || str_starts(name, "unix:")) {
		out_error(NULL, cl->verb->name, "which guest?");
		return VAC_USAGE;
	}
	if (o->qmp && (o->libvirt || o->connect)) {
		out_error(name, cl->verb->name, "either --qmp or libvirt");
		return VAC_USAGE;
	}
	interrupt_catch();
	code = place_look(cl, name, &p->place);
	if (!code)
		choose(p);
	return code;
}

static int release(const struct plug *p)
{
	int r = p->held ? place_release(&p->place, RELEASE_SECONDS) : 0;

	if (r < 0)
		out_error(p->place.name, p->cl->verb->name,
			  "its virtproxy does not leave %s alone: %s", p->monitor,
			  strerror(-r));
	return r < 0 ? VAC_ERROR : VAC_OK;
}

static void give_back(const struct plug *p)
{
	if (p->held)
		place_release(&p->place, 0);
}

/* --- by the monitor ------------------------------------------------------------ */

/* Where the port's socket shall be: where the guest's channel is configured, else in
 * our own directory. */
static int choose_path(void *arg, struct hotplug *h, char *path, size_t size)
{
	static const char method[] = "unix-connect:";
	const struct plug *p = arg;
	const char *channel = p->place.channel;
	size_t n = strlen(channel);
	int r;

	if (p->place.configured && str_starts(channel, method) && n > sizeof(method) + 2 &&
	    strcmp(channel + n - 2, ":-") == 0) {
		n -= sizeof(method) - 1 + 2;
		if (n >= size)
			return -ENAMETOOLONG;
		memcpy(path, channel + sizeof(method) - 1, n);
		path[n] = '\0';
		return 0;
	}
	if (p->place.configured) {
		snprintf(h->err, sizeof(h->err), "its channel is configured as %s, which is "
			 "no port that could be plugged in", channel);
		return -EINVAL;
	}
	r = place_path(&p->place, ".sock", path, size);
	if (r < 0)
		snprintf(h->err, sizeof(h->err), "%s/attached: %s", target_runtime(),
			 strerror(-r));
	return r;
}

/* The port is there; now va-hostd. */
static int serve(struct plug *p, const char *channel)
{
	int r = p->place.hostd ? place_wait(&p->place, true, channel, clock_now() +
					    (uint64_t)(clock_scale() * SERVED_NS)) :
				 -ENOTCONN;

	if (r == 0)
		return VAC_OK;
	if (r == -ENOTCONN) {
		out_error(p->place.name, p->cl->verb->name, "its port is plugged in; va-hostd, "
			  "which would serve it, does not run");
		return VAC_OK;
	}
	out_error(p->place.name, p->cl->verb->name, "its port is plugged in%s%s, but va-hostd "
		  "does not serve it: %s", channel ? " as " : "", channel ? channel : "",
		  channel ? "[discover] in hostd.conf needs \"libvirt = yes\"" :
			    "its log says why");
	return VAC_ERROR;
}

static int attach_by_monitor(struct plug *p)
{
	struct hotplug h = { .monitor = p->monitor, .deadline_ns = p->deadline_ns };
	int r = release(p);

	if (r)
		return r;
	r = hotplug_add(&h, choose_path, p);
	if (r == 0 && !p->place.configured)
		r = place_write(&p->place, h.uuid, p->monitor, p->keep);
	if (r < 0 && !h.err[0])
		snprintf(h.err, sizeof(h.err), "%s/attached: %s", target_runtime(), strerror(-r));
	give_back(p);
	return r < 0 ? complain(p, exit_of(r), h.err) : serve(p, NULL);
}

static int detach_by_monitor(struct plug *p)
{
	struct hotplug h = { .monitor = p->monitor, .deadline_ns = p->deadline_ns };
	int r = release(p);

	if (r)
		return r;
	r = hotplug_remove(&h);
	/* Of a machine that is gone only our own files are left. */
	if (r == 0 || ((r == -ENOTCONN || r == -ENOENT) && p->place.monitor[0])) {
		place_remove(&p->place);
		r = 0;
	}
	give_back(p);
	if (r < 0)
		return complain(p, exit_of(r), h.err);
	if (p->place.hostd && p->place.guest && !p->place.configured &&
	    place_wait(&p->place, false, NULL, clock_now() +
		       (uint64_t)(clock_scale() * SERVED_NS)) == -ETIMEDOUT)
		return complain(p, VAC_ERROR, "its port is taken out, but va-hostd still "
						 "has the guest: its log says why");
	return VAC_OK;
}

/* --- by libvirt -------------------------------------------------------------------- */

static int virsh_failed(const struct plug *p, const struct virsh *v, int r)
{
	const struct attach_opts *o = p->cl->opts;

	if (o->libvirt || o->connect || r == -EEXIST || r == -ESRCH ||
	    r == -ENODEV || r == -EINTR)
		return complain(p, exit_of(r), v->err);
	out_error(p->place.name, p->cl->verb->name, "%s knows no QMP socket of such a machine "
		  "(--qmp names one), and by libvirt: %s",
		  p->place.hostd ? "va-hostd" : "va-hostd, which does not run,", v->err);
	return exit_of(r);
}

static int attach_by_virsh(struct plug *p)
{
	const struct attach_opts *o = p->cl->opts;
	struct virsh v = { .uri = o->connect, .domain = p->place.name,
			   .deadline_ns = p->deadline_ns };
	CLEANUP_FREE char *channel = NULL;
	int r = virsh_attach(&v);

	if (r < 0)
		return virsh_failed(p, &v, r);
	channel = str_printf("unix-connect:%s:-", v.socket);
	return channel ? serve(p, channel) : VAC_ERROR;
}

static int detach_by_virsh(struct plug *p)
{
	const struct attach_opts *o = p->cl->opts;
	struct virsh v = { .uri = o->connect, .domain = p->place.name,
			   .deadline_ns = p->deadline_ns };
	int r = virsh_detach(&v);

	return r < 0 ? virsh_failed(p, &v, r) : VAC_OK;
}

/* --- the verbs ----------------------------------------------------------------------- */

static bool is_number(const char *text)
{
	return *text && text[strspn(text, "0123456789")] == '\0';
}

static int run_attach(struct client *cl, int argc, char **argv)
{
	const struct attach_opts *o = cl->opts;
	bool plug = o->qmp || o->libvirt || o->connect;
	bool job = argc && !plug && (o->watch || is_number(argv[argc - 1]));
	struct plug p;
	int code;

	if (argc > 1 || job)
		return exec_attach_job(cl, argc, argv, o->watch);
	code = begin(cl, argc, argv, &p);
	if (code)
		return code;
	return p.monitor ? attach_by_monitor(&p) : attach_by_virsh(&p);
}

const struct verb verb_attach = {
	.name = "attach",
	.usage = "GUEST | [GUEST] JOB",
	.help = "plug the agent's port into a running guest, or join a job",
	.about = "With a GUEST: plugs a virtio port for the agent into the running machine, by its\n"
		 "QMP socket or by libvirt; the agent inside finds it, no reboot is needed.\n\n"
		 "With a JOB (a number): shows the job's kept output and goes on from there, and\n"
		 "exits with its status.  Ctrl-C goes to the job, as from its own terminal.  Leaving\n"
		 "ends the job only if exec without --detach started it and is still joined to it.",
	.rows = attach_rows,
	.nrows = NROWS(attach_rows),
	.opts_size = sizeof(struct attach_opts),
	.max_args = 2,
	.run = run_attach,
};

static int run_detach(struct client *cl, int argc, char **argv)
{
	struct plug p;
	int code = begin(cl, argc, argv, &p);

	if (code)
		return code;
	return p.monitor ? detach_by_monitor(&p) : detach_by_virsh(&p);
}

const struct verb verb_detach = {
	.name = "detach",
	.usage = "[GUEST]",
	.help = "take the agent's port out of a running guest",
	.rows = detach_rows,
	.nrows = NROWS(detach_rows),
	.opts_size = sizeof(struct attach_opts),
	.max_args = 1,
	.run = run_detach,
};

struct xml_opts {
	bool serial;
	const char *path;
};

DEFINE_FLAG(set_serial, xml_opts, serial);
DEFINE_TEXT(set_path, xml_opts, path);

static const struct option_row xml_rows[] = {
	{ 0, "isa-serial", NULL, "a serial line, for guests without virtio", set_serial },
	{ 0, "path", "PATH", "where the serial line's socket shall be", set_path },
	CLIENT_ROWS_BUT_TIMEOUT,
};

/* For an attribute in single quotes. */
static void put_attribute(const char *text)
{
	for (; *text; text++) {
		if (strchr("&<'", *text))
			printf("&#%d;", *text);
		else
			putchar(*text);
	}
}

static int run_libvirt_xml(struct client *cl, int argc, char **argv)
{
	const struct xml_opts *o = cl->opts;
	const char *name = argc ? argv[0] : cl->guest;

	if (!o->serial && o->path) {
		out_error(NULL, "libvirt-xml", "--path is for --isa-serial: libvirt chooses "
			  "the path of a port by itself");
		return VAC_USAGE;
	}
	if (!o->serial) {
		fputs(VIRSH_CHANNEL_XML, stdout);
		return VAC_OK;
	}
	if (o->path ? o->path[0] != '/' : !name || strchr(name, '/')) {
		out_error(NULL, "libvirt-xml", "a serial line's socket has a path of its own: "
			  "name the guest, or --path=PATH");
		return VAC_USAGE;
	}
	fputs("<serial type='unix'>\n  <source mode='bind' path='", stdout);
	put_attribute(o->path ? o->path : target_runtime());
	if (!o->path) {
		fputs("/serial/", stdout);
		put_attribute(name);
		fputs(".sock", stdout);
	}
	/* Port 0 is the console's, in most domains. */
	fputs("'/>\n  <target type='isa-serial' port='1'/>\n</serial>\n", stdout);
	return VAC_OK;
}

const struct verb verb_libvirt_xml = {
	.name = "libvirt-xml",
	.usage = "[GUEST]",
	.help = "the element of a libvirt domain's XML that makes the agent's channel",
	.about = "Prints what stands in <devices> of a domain that has an agent; with \"libvirt = yes\"\n"
		 "in hostd.conf va-hostd finds such a domain by itself.",
	.rows = xml_rows,
	.nrows = NROWS(xml_rows),
	.opts_size = sizeof(struct xml_opts),
	.max_args = 1,
	.run = run_libvirt_xml,
};
