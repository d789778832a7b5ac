/*
 * hotplug.c - the agent's port, by QEMU's monitor
 *
 * The socket is made here and handed over as a descriptor: QEMU often runs as a user
 * who could not make one in our directory.  A port needs a virtio-serial controller.
 * Where there is none, one is plugged in first: wherever QEMU puts it, else behind
 * one of the PCI ports that the machine was started with (the root bus of a q35
 * takes no new devices).  The controller stays when the port is taken out: the next
 * port needs it again, and taking it out needs the guest's consent.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/hotplug.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/sock.h"
#include "virtagent/client/ctl.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/qmp_machine.h"

#define CHARDEV "virtagent0"
#define DEVICE "virtagent0"
#define CONTROLLER "virtagent-serial"
#define BUSY_RETRY_NS (20 * NSEC_PER_MSEC)

/* A machine, its monitor, and what is being done to it. */
struct session {
	struct hotplug *h;
	struct qmp *q;
	struct qmp_machine m;
	char gone[256]; /* device of the last DEVICE_DELETED */
};

__attribute__((format(printf, 3, 4))) static int fail(struct hotplug *h, int error,
						      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(h->err, sizeof(h->err), fmt, ap);
	va_end(ap);
	return error;
}

/* --- talking ---------------------------------------------------------------------- */

/* The monitor's next bytes are worth a look; else the text of why not. */
static int wait_some(struct session *s)
{
	int r = wait_readable(qmp_fd(s->q), s->h->deadline_ns);

	if (interrupt_seen())
		return fail(s->h, -EINTR, "interrupted");
	if (r == -ETIMEDOUT)
		return fail(s->h, r, s->m.greeted ?
			    "QEMU does not answer on its monitor" :
			    "its monitor does not greet: another program holds it (libvirt, "
			    "if the machine is libvirt's: then use --libvirt)");
	return r < 0 ? fail(s->h, r, "%s", strerror(-r)) : 0;
}

static int next_message(struct session *s, struct va_value **ret)
{
	int r;

	while ((r = qmp_next(s->q, ret)) == -EAGAIN) {
		r = wait_some(s);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return fail(s->h, -ENOTCONN, "QEMU closed its monitor");
	if (strcmp(member_text(*ret, "event"), "DEVICE_DELETED") == 0)
		snprintf(s->gone, sizeof(s->gone), "%s",
			 member_text(va_member(*ret, "data"), "path"));
	return 0;
}

/* One command; 0, or -EPROTO with QEMU's reason in h->err. */
static int command(struct session *s, const char *name, struct va_value *arguments, int fd)
{
	int r = arguments ? qmp_send(s->q, name, arguments, fd) : -ENOMEM;

	if (r < 0)
		return fail(s->h, r, "%s: %s", name, strerror(-r));
	for (;;) {
		CLEANUP_VALUE struct va_value *v = NULL;

		r = next_message(s, &v);
		if (r < 0 || qmp_kind(v) == QMP_RETURN)
			return r;
		if (qmp_kind(v) == QMP_ERROR)
			return fail(s->h, -EPROTO, "%s: %s", name, qmp_error(v));
	}
}

static int open_session(struct session *s, struct hotplug *h)
{
	int r;

	*s = (struct session){ .h = h };
	qmp_machine_begin(&s->m, NULL);
	s->q = qmp_open(h->monitor);
	if (!s->q)
		return fail(h, errno == EACCES ? -EACCES : -ENOTCONN, "QMP socket %s: %s",
			    h->monitor, errno == ECONNREFUSED ? "no QEMU listens there" :
								strerror(errno));
	while ((r = qmp_machine_take(&s->m, s->q)) == -EAGAIN) {
		r = wait_some(s);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return fail(h, -ENOTCONN, "QMP socket %s: %s", h->monitor, s->m.why);
	snprintf(h->name, sizeof(h->name), "%s", s->m.name);
	snprintf(h->uuid, sizeof(h->uuid), "%s", s->m.uuid);
	return 0;
}

static void close_session(struct session *s)
{
	qmp_close(s->q);
	qmp_machine_done(&s->m);
}

/* --- plugging in -------------------------------------------------------------------- */

static int remove_chardev(struct session *s, const char *id)
{
	return command(s, "chardev-remove", qmp_arguments("id", id, NULL), -1);
}

/* { "addr": { "type": "fd", "data": { "str": NAME } }, "server": true, "wait": false } */
static struct va_value *socket_backend(void)
{
	struct va_value *data = va_struct(), *addr = va_struct(), *v = va_struct();

	if (va_set(addr, "data", qmp_arguments("str", CHARDEV, NULL)) == 0 &&
	    va_set(addr, "type", va_string("fd")) == 0 &&
	    va_set(data, "addr", take_ptr(addr)) == 0 &&
	    va_set(data, "server", va_bool(true)) == 0 &&
	    va_set(data, "wait", va_bool(false)) == 0 &&
	    va_set(v, "type", va_string("socket")) == 0 &&
	    va_set(v, "data", take_ptr(data)) == 0)
		return v;
	va_value_free(addr);
	va_value_free(data);
	va_value_free(v);
	return NULL;
}

static int add_chardev(struct session *s, int listener)
{
	struct va_value *v = qmp_arguments("id", CHARDEV, NULL);
	int r = command(s, "getfd", qmp_arguments("fdname", CHARDEV, NULL), listener);

	if (r == 0 && va_set(v, "backend", socket_backend()) == 0)
		return command(s, "chardev-add", v, -1);
	va_value_free(v);
	return r < 0 ? r : fail(s->h, -ENOMEM, "out of memory");
}

static int add_controller(struct session *s)
{
	char first[sizeof(s->h->err)];
	struct va_value *v = qmp_arguments("driver", "virtio-serial-pci", "id", CONTROLLER,
					   NULL);
	int r = command(s, "device_add", v, -1);

	snprintf(first, sizeof(first), "%s", s->h->err);
	for (size_t i = 0; r == -EPROTO && i < s->m.nslots; i++)
		r = command(s, "device_add",
			    qmp_arguments("driver", "virtio-serial-pci", "id", CONTROLLER,
					  "bus", s->m.slots[i], NULL), -1);
	if (r != -EPROTO)
		return r;
	return fail(s->h, r, "no hot-plug slot for a virtio-serial controller, and the "
		    "machine was started without one (%zu PCI ports tried): %.300s",
		    s->m.nslots, first);
}

static int add_port(struct session *s)
{
	int r = s->m.bus ? 0 : add_controller(s);

	if (r == 0)
		r = command(s, "device_add",
			    qmp_arguments("driver", "virtserialport", "id", DEVICE, "name",
					  VA_PORT_NAME, "chardev", CHARDEV, NULL), -1);
	return r;
}

/* With the port's socket listening. */
static int plug(struct session *s, int listener)
{
	char why[sizeof(s->h->err)];
	int r;

	/* What an attach that was killed left behind. */
	remove_chardev(s, CHARDEV);
	r = add_chardev(s, listener);
	if (r < 0)
		return r;
	r = add_port(s);
	if (r == 0)
		return 0;
	snprintf(why, sizeof(why), "%s", s->h->err);
	remove_chardev(s, CHARDEV);
	snprintf(s->h->err, sizeof(s->h->err), "%s", why);
	return r;
}

static int add(struct session *s, hotplug_path_fn path, void *arg)
{
	char at[256];
	int fd, r;

	if (s->m.port)
		return fail(s->h, -EEXIST, "it has a port " VA_PORT_NAME " already: %s, "
			    "character device %s", s->m.port,
			    s->m.chardev ? s->m.chardev : "unknown");
	r = path(arg, s->h, at, sizeof(at));
	if (r < 0)
		return r;
	fd = sock_unix_listen_named(at);
	if (fd < 0)
		return fail(s->h, fd, "%s: %s", at, fd == -EADDRINUSE ?
			    "somebody listens there already" : strerror(-fd));
	r = plug(s, fd);
	close(fd);
	if (r < 0)
		unlink(at);
	return r;
}

int hotplug_add(struct hotplug *h, hotplug_path_fn path, void *arg)
{
	struct session s;
	int r = open_session(&s, h);

	if (r == 0)
		r = add(&s, path, arg);
	close_session(&s);
	return r;
}

/* --- taking out --------------------------------------------------------------------- */

static int wait_deleted(struct session *s)
{
	int r = 0;

	while (r == 0 && strcmp(s->gone, s->m.port) != 0) {
		CLEANUP_VALUE struct va_value *v = NULL;

		r = next_message(s, &v);
	}
	return r == -ETIMEDOUT ? fail(s->h, r, "QEMU has not said that %s is gone",
				      s->m.port) : r;
}

static int take_out(struct session *s)
{
	int r;

	if (!s->m.port)
		return fail(s->h, -ENOENT, "it has no port " VA_PORT_NAME);
	r = command(s, "device_del", qmp_arguments("id", s->m.port, NULL), -1);
	if (r == 0)
		r = wait_deleted(s);
	if (r < 0 || !s->m.chardev)
		return r;
	/* For a moment the device may still hold it. */
	while ((r = remove_chardev(s, s->m.chardev)) == -EPROTO &&
	       clock_now() + BUSY_RETRY_NS < s->h->deadline_ns && !interrupt_seen())
		interrupt_sleep_until(clock_now() + BUSY_RETRY_NS);
	return r;
}

int hotplug_remove(struct hotplug *h)
{
	struct session s;
	int r = open_session(&s, h);

	if (r == 0)
		r = take_out(&s);
	close_session(&s);
	return r;
}
