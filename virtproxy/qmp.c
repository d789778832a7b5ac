/*
 * qmp.c - hints from QEMU's monitor, when there is one to ask (R30, R33)
 *
 * Nothing here decides whether a session lives.  The hints are:
 *
 *	STOP		the VM pauses: its silence is no reason to reconnect.  If
 *			it stopped because it migrates away, the channel is frozen:
 *			what QEMU still hands out was received by the new host too.
 *			Until it has answered why, the channel's bytes are held back.
 *	RESUME		it runs here (again).
 *	RESET		the guest reboots; its agent will say so itself.
 *	VSERPORT_CHANGE	the guest opened or closed a port.
 *
 * And once, which machine it is (query-uuid), for the status.
 *
 * Messages are JSON objects, one per line.  Of each, only members with a string
 * value are looked at.  The other end is QEMU, which a hostile guest may have
 * taken over: lines are bounded.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/sock.h"
#include "virtproxy/endpoint.h"
#include "virtproxy/json_member.h"

#define QMP_LINE_MAX 65536u
#define QMP_READS 16
#define QMP_RETRY (2 * NSEC_PER_SEC)
#define ASK_CAPABILITIES "{\"execute\":\"qmp_capabilities\"}\n"
#define ASK_STATUS "{\"execute\":\"query-status\"}\n"
#define ASK_UUID "{\"execute\":\"query-uuid\"}\n"
#define UUID_BYTES 36u

struct vp_qmp {
	struct vp_endpoint *ep;
	char *path;
	int fd;
	struct loop_fd *src;
	struct loop_timer *retry;
	struct buf in;
	bool complained;
	char uuid[UUID_BYTES + 1]; /* "" = not known */
};

static void ask(struct vp_qmp *q, const char *what)
{
	/* A few dozen bytes into an empty socket: all or a dead monitor. */
	if (write(q->fd, what, strlen(what)) < 0)
		log_debug("%s: QMP: %s", q->ep->label, strerror(errno));
}

static void hint_stop(struct vp_qmp *q)
{
	q->ep->vm_paused = true;
	endpoint_hold(q->ep, true);
	ask(q, ASK_STATUS);
}

static void hint_resume(struct vp_qmp *q)
{
	q->ep->vm_paused = false;
	endpoint_hold(q->ep, false);
	endpoint_freeze(q->ep, false, "the VM runs here");
}

static void hint_reset(struct vp_qmp *q)
{
	ctl_event(q->ep, "event guest reset");
}

static void hint_port(struct vp_qmp *q)
{
	ctl_event(q->ep, "event guest port-change");
}

static const struct {
	const char *event;
	void (*fn)(struct vp_qmp *q);
} hints[] = {
	{ "STOP", hint_stop },	 { "RESUME", hint_resume },
	{ "RESET", hint_reset }, { "VSERPORT_CHANGE", hint_port },
};

/* A machine without one has the nil UUID. */
static void take_uuid(struct vp_qmp *q, const char *word)
{
	if (strlen(word) != UUID_BYTES ||
	    strspn(word, "0123456789abcdefABCDEF-") != UUID_BYTES ||
	    strspn(word, "0-") == UUID_BYTES || strcmp(word, q->uuid) == 0)
		return;
	memcpy(q->uuid, word, sizeof(q->uuid));
	ctl_event(q->ep, "event guest uuid");
}

static void take_line(struct vp_qmp *q, const char *line)
{
	char word[64];

	if (json_member(line, 1, "event", word, sizeof(word))) {
		log_debug("%s: QMP: %s", q->ep->label, word);
		for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
			if (strcmp(word, hints[i].event) == 0)
				hints[i].fn(q);
	} else if (json_member(line, 2, "UUID", word, sizeof(word))) {
		take_uuid(q, word);
	} else if (json_member(line, 2, "status", word, sizeof(word))) {
		/* The answer to query-status. */
		q->ep->vm_paused = strcmp(word, "running") != 0;
		if (strcmp(word, "postmigrate") == 0 ||
		    strcmp(word, "finish-migrate") == 0)
			endpoint_freeze(q->ep, true, "the VM migrates away");
		else if (!q->ep->vm_paused)
			endpoint_freeze(q->ep, false, "the VM runs here");
		endpoint_hold(q->ep, false);
	}
}

static void disconnect(struct vp_qmp *q, uint64_t retry_ns)
{
	loop_fd_free(q->src);
	q->src = NULL;
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
	buf_reset(&q->in);
	q->ep->vm_paused = false;
	endpoint_hold(q->ep, false);
	loop_timer_in(q->retry, retry_ns);
}

void qmp_release(struct vp_qmp *q, uint64_t ns)
{
	if (ns)
		log_info("%s: leaves the QMP socket alone for %llu s", q->ep->label,
			 (unsigned long long)(ns / NSEC_PER_SEC));
	disconnect(q, ns);
}

/* One read and what it completes; false when there is no more. */
static bool take_some(struct vp_qmp *q)
{
	ssize_t n = buf_read_fd(&q->in, q->fd, QMP_LINE_MAX);

	while (n > 0) {
		const uint8_t *data = buf_data(&q->in);
		const uint8_t *end = memchr(data, '\n', buf_len(&q->in));
		CLEANUP_FREE char *line = NULL;

		if (!end)
			break;
		line = strndup((const char *)data, (size_t)(end - data));
		buf_consume(&q->in, (size_t)(end - data) + 1);
		if (line)
			take_line(q, line);
	}
	if (n <= 0 && n != -EAGAIN)
		disconnect(q, QMP_RETRY);
	return n > 0;
}

void qmp_poll(struct vp_qmp *q)
{
	/* A monitor that talks without end is not waited for. */
	for (int i = 0; q && q->fd >= 0 && i < QMP_READS; i++)
		if (!take_some(q))
			break;
}

static void on_qmp(int fd, unsigned events, void *arg)
{
	struct vp_qmp *q = arg;

	qmp_poll(q);
	endpoint_pump(q->ep);
}

static void on_retry(void *arg)
{
	struct vp_qmp *q = arg;
	int fd = sock_unix_connect(q->path);

	if (fd >= 0)
		q->src = loop_fd_new(q->ep->loop, fd, LOOP_READ, on_qmp, q);
	if (!q->src) {
		if (!q->complained)
			log_info("%s: QMP socket %s: %s", q->ep->label, q->path,
				 strerror(fd < 0 ? -fd : errno));
		q->complained = true;
		if (fd >= 0)
			close(fd);
		loop_timer_in(q->retry, QMP_RETRY);
		return;
	}
	q->complained = false;
	q->fd = fd;
	ask(q, ASK_CAPABILITIES);
	ask(q, ASK_UUID);
	ask(q, ASK_STATUS);
}

struct vp_qmp *qmp_new(struct vp_endpoint *ep, const char *path)
{
	struct vp_qmp *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->ep = ep;
	q->fd = -1;
	buf_init(&q->in, QMP_LINE_MAX);
	q->path = strdup(path);
	q->retry = loop_timer_new(ep->loop, on_retry, q);
	if (!q->path || !q->retry) {
		qmp_free(q);
		errno = ENOMEM;
		return NULL;
	}
	loop_timer_in(q->retry, 0);
	return q;
}

void qmp_free(struct vp_qmp *q)
{
	if (!q)
		return;
	loop_fd_free(q->src);
	if (q->fd >= 0)
		close(q->fd);
	loop_timer_free(q->retry);
	buf_done(&q->in);
	free(q->path);
	free(q);
}

const char *qmp_uuid(const struct vp_qmp *q)
{
	return q ? q->uuid : "";
}

const char *qmp_word(const struct vp_qmp *q)
{
	return !q ? "off" : q->fd >= 0 ? "connected" : "waiting";
}
