/*
 * ctl.c - the control socket
 *
 * Lines in, answers out; the commands are in virtproxy.h.  A client that does
 * not read its answers is cut off when CTL_OUT_MAX bytes wait for it; one that
 * sends a longer line than CTL_LINE_MAX too.  Who may connect is decided by the
 * socket's mode.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/seal.h"
#include "common/sock.h"
#include "common/str.h"
#include "virtproxy/endpoint.h"

#define CTL_LINE_MAX 256u
#define CTL_OUT_MAX 262144u
#define QUIESCE_DEFAULT 60u /* seconds: a snapshot, the end of a migration */
#define QUIESCE_MAX 3600u   /* seconds */
#define RELEASE_MAX 600u    /* seconds */
#define CTL_CLIENTS_MAX 64u /* each va-client asks once before its call */

struct ctl_client {
	struct ctl_client *next;
	struct vp_ctl *ctl;
	struct loop_fd *src;
	int fd;
	bool supervisor;
	bool over; /* to be freed when its callback has returned */
	struct buf in, out;
};

struct vp_ctl {
	struct vp_ctl *next;
	struct vp_endpoint *ep;
	struct loop_fd *src;
	int fd;
	char *path;
	struct ctl_client *clients;
	size_t nclients;
};

static int cmd_ping(struct vp_endpoint *ep, struct buf *answer)
{
	return buf_puts(answer, "ok\n");
}

static int cmd_status(struct vp_endpoint *ep, struct buf *answer)
{
	return status_text(ep, answer);
}

static int cmd_status_json(struct vp_endpoint *ep, struct buf *answer)
{
	return status_json(ep, answer);
}

static int cmd_streams(struct vp_endpoint *ep, struct buf *answer)
{
	return forward_list(ep, answer);
}

static int cmd_refused(struct vp_endpoint *ep, struct buf *answer)
{
	size_t n = ep->refused_total, from = n > VP_REFUSED_KEPT ? n - VP_REFUSED_KEPT : 0;
	int r = 0;

	for (size_t i = from; i < n && r == 0; i++) {
		const struct vp_refused *x = &ep->refused[i % VP_REFUSED_KEPT];

		r = buf_printf(answer, "%u %s %s\n", x->number, x->service, x->reason);
	}
	return r;
}

static void go_on(struct vp_endpoint *ep, const char *why)
{
	if (!vp_mux_quiesced(ep->mux))
		return;
	log_info("%s: goes on: %s", ep->label, why);
	loop_timer_stop(ep->quiesce_timer);
	vp_mux_quiesce(ep->mux, false);
}

void ctl_on_quiesce_over(void *arg)
{
	struct vp_endpoint *ep = arg;

	go_on(ep, "held still for long enough, and nobody said resume");
	endpoint_pump(ep);
}

/* For arg seconds at most: who asked for it may be gone. */
static int cmd_quiesce(struct vp_endpoint *ep, const char *arg, struct buf *answer)
{
	uint64_t seconds = QUIESCE_DEFAULT;

	if (*arg && (str_to_u64(arg, QUIESCE_MAX, &seconds) || !seconds))
		return buf_printf(answer, "error not 1 to %u seconds\n", QUIESCE_MAX);
	if (!vp_mux_quiesced(ep->mux))
		log_info("%s: holds still for up to %llu s", ep->label,
			 (unsigned long long)seconds);
	vp_mux_quiesce(ep->mux, true);
	loop_timer_in(ep->quiesce_timer, seconds * NSEC_PER_SEC);
	return buf_puts(answer, vp_mux_is_idle(ep->mux) ? "idle\n" : "busy\n");
}

static int cmd_resume(struct vp_endpoint *ep, struct buf *answer)
{
	go_on(ep, "resume");
	return buf_puts(answer, "ok\n");
}

/* For a program that needs the monitor for a moment: it has one client at a time. */
static int cmd_release(struct vp_endpoint *ep, const char *arg, struct buf *answer)
{
	uint64_t seconds = 0;

	if (str_to_u64(arg, RELEASE_MAX, &seconds))
		return buf_printf(answer, "error not 0 to %u seconds\n", RELEASE_MAX);
	if (!ep->qmp)
		return buf_puts(answer, "error there is no QMP socket\n");
	qmp_release(ep->qmp, seconds * NSEC_PER_SEC);
	return buf_puts(answer, "ok\n");
}

static int cmd_reconnect(struct vp_endpoint *ep, struct buf *answer)
{
	if (ep->spec.method == VP_FD)
		return buf_puts(answer, "error an inherited channel cannot be opened "
					"again\n");
	endpoint_reopen(ep, "asked to reconnect");
	return buf_puts(answer, "ok\n");
}

/* The owner of the process ends it in order, as on any SIGTERM. */
static int cmd_shutdown(struct vp_endpoint *ep, struct buf *answer)
{
	kill(getpid(), SIGTERM);
	return buf_puts(answer, "ok\n");
}

static const struct {
	const char *line;
	int (*fn)(struct vp_endpoint *ep, struct buf *answer);
} commands[] = {
	{ "ping", cmd_ping },
	{ "status", cmd_status },
	{ "status json", cmd_status_json },
	{ "streams", cmd_streams },
	{ "refused", cmd_refused },
	{ "resume", cmd_resume },
	{ "reconnect", cmd_reconnect },
	{ "shutdown", cmd_shutdown },
};

int vp_endpoint_command(struct vp_endpoint *ep, const char *line, struct buf *answer)
{
	char shown[64];
	int r = -ENOSYS;

	ep->counts.ctl_commands++;
	if (strcmp(line, "quiesce") == 0 || str_starts(line, "quiesce "))
		r = cmd_quiesce(ep, line[7] ? line + 8 : "", answer);
	if (str_starts(line, "release-qmp "))
		r = cmd_release(ep, line + strlen("release-qmp "), answer);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(line, commands[i].line) == 0)
			r = commands[i].fn(ep, answer);
	if (r == -ENOSYS)
		r = buf_printf(answer, "error unknown command \"%s\"\n",
			       log_escape(shown, sizeof(shown), line, strlen(line)));
	return r < 0 ? r : buf_puts(answer, "\n");
}

static void client_free(struct ctl_client *c)
{
	struct ctl_client **at = &c->ctl->clients;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->ctl->nclients--;
	loop_fd_free(c->src);
	close(c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
}

static void client_flush(struct ctl_client *c)
{
	ssize_t n = buf_write_fd(&c->out, c->fd);

	if (n < 0 && n != -EAGAIN)
		c->over = true;
	if (!c->over)
		loop_fd_set(c->src, buf_len(&c->out) ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

static void client_line(struct ctl_client *c, const char *line)
{
	struct vp_endpoint *ep = c->ctl->ep;
	int r;

	if (strcmp(line, "adopt") == 0) {
		c->supervisor = true;
		r = buf_puts(&c->out, "ok\n\n");
	} else {
		r = vp_endpoint_command(ep, line, &c->out);
	}
	if (r < 0)
		c->over = true;
}

static void client_lines(struct ctl_client *c)
{
	while (!c->over) {
		const uint8_t *data = buf_data(&c->in);
		const uint8_t *end = memchr(data, '\n', buf_len(&c->in));
		char line[CTL_LINE_MAX + 1];
		size_t n;

		if (!end) {
			if (buf_len(&c->in) >= CTL_LINE_MAX)
				c->over = true;
			return;
		}
		n = (size_t)(end - data);
		memcpy(line, data, n);
		line[n > 0 && line[n - 1] == '\r' ? n - 1 : n] = 0;
		buf_consume(&c->in, (size_t)(end - data) + 1);
		client_line(c, line);
	}
}

static void on_client(int fd, unsigned events, void *arg)
{
	struct ctl_client *c = arg;
	struct vp_endpoint *ep = c->ctl->ep;
	ssize_t n;

	if (events & LOOP_READ) {
		n = buf_read_fd(&c->in, fd, CTL_LINE_MAX);
		if (n > 0)
			client_lines(c);
		else if (n != -EAGAIN)
			c->over = true;
	}
	if (buf_len(&c->out))
		client_flush(c);
	else
		loop_fd_set(c->src, LOOP_READ);
	if (c->over) {
		client_free(c);
	} else {
		buf_release(&c->in);
		buf_release(&c->out);
	}
	endpoint_pump(ep);
}

static void on_ctl(int listen_fd, unsigned events, void *arg)
{
	struct vp_ctl *ctl = arg;
	struct ctl_client *c;
	int fd;

	while ((fd = sock_accept(listen_fd)) >= 0) {
		c = ctl->nclients < CTL_CLIENTS_MAX ? calloc(1, sizeof(*c)) : NULL;
		if (c)
			c->src = loop_fd_new(ctl->ep->loop, fd, LOOP_READ, on_client, c);
		if (!c || !c->src) {
			free(c);
			close(fd);
			continue;
		}
		c->ctl = ctl;
		c->fd = fd;
		buf_init(&c->in, CTL_LINE_MAX);
		buf_init(&c->out, CTL_OUT_MAX);
		c->next = ctl->clients;
		ctl->clients = c;
		ctl->nclients++;
	}
	if (fd != -EAGAIN)
		loop_fd_pause(ctl->src, LOOP_ACCEPT_PAUSE);
}

/* May be called from within a client's own callback: nothing is freed here. */
void ctl_event(struct vp_endpoint *ep, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	for (struct vp_ctl *ctl = ep->ctls; ctl; ctl = ctl->next)
		for (struct ctl_client *c = ctl->clients; c; c = c->next) {
			if (!c->supervisor || c->over)
				continue;
			if (buf_put(&c->out, line, (size_t)n) < 0)
				shutdown(c->fd, SHUT_RDWR); /* its end follows */
			else
				loop_fd_set(c->src, LOOP_READ | LOOP_WRITE);
		}
}

static void ctl_free(struct vp_ctl *ctl)
{
	while (ctl->clients)
		client_free(ctl->clients);
	loop_fd_free(ctl->src);
	if (ctl->fd >= 0) {
		close(ctl->fd);
		unlink(seal_path(ctl->path));
	}
	free(ctl->path);
	free(ctl);
}

int vp_endpoint_add_ctl(struct vp_endpoint *ep, const char *path, gid_t gid,
			char *err, size_t err_size)
{
	struct vp_ctl *ctl = calloc(1, sizeof(*ctl));
	int r = -ENOMEM;

	if (ctl) {
		ctl->ep = ep;
		ctl->path = strdup(path);
		ctl->fd = r = ctl->path ? sock_unix_listen(path, gid) : -ENOMEM;
	}
	if (r >= 0) {
		ctl->src = loop_fd_new(ep->loop, ctl->fd, LOOP_READ, on_ctl, ctl);
		r = ctl->src ? 0 : -errno;
	}
	if (r < 0) {
		snprintf(err, err_size, "control socket %s: %s", path, strerror(-r));
		if (ctl)
			ctl_free(ctl);
		return r;
	}
	ctl->next = ep->ctls;
	ep->ctls = ctl;
	return 0;
}

void ctl_free_all(struct vp_endpoint *ep)
{
	while (ep->ctls) {
		struct vp_ctl *ctl = ep->ctls;

		ep->ctls = ctl->next;
		ctl_free(ctl);
	}
}
