/*
 * hostd_feed.c - one guest's events, read-only, on GUESTDIR/events.sock
 *
 * A client gets one line of JSON per event from the moment it connects; after a
 * line "since N" from it, those kept after N first.  Each client is a position
 * in the store and at most one batch of lines: what it does not read waits in
 * the store, not here.  Anything else than "since N" closes the connection.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/sock.h"
#include "common/str.h"
#include "virtagent/hostd_feed.h"

#define FEED_CLIENTS_MAX 32u
#define FEED_BATCH 100u
#define FEED_LINES_MAX (1u << 20) /* as a batch of events.h */
#define FEED_COMMAND_MAX 64u

struct feed_client {
	struct feed_client *next;
	struct guest_feed *f; /* NULL: gone, a fetch is still under way */
	int fd;
	struct loop_fd *src;
	struct buf in, out;
	uint64_t since; /* it has everything up to here */
	uint64_t asked; /* since of the fetch under way */
	bool fetching;
};

struct guest_feed {
	struct loop *loop;
	struct events *events;
	struct events_watch *watch;
	char *guest, *path;
	int fd;
	struct loop_fd *src;
	struct feed_client *clients;
	unsigned nclients;
};

static void client_release(struct feed_client *c)
{
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
}

static void client_close(struct feed_client *c)
{
	struct guest_feed *f = c->f;

	for (struct feed_client **p = &f->clients; *p; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			break;
		}
	}
	f->nclients--;
	loop_fd_free(c->src);
	close(c->fd);
	c->f = NULL;
	if (!c->fetching)
		client_release(c);
}

static void client_fetch(struct feed_client *c);

static void client_write(struct feed_client *c)
{
	while (buf_len(&c->out)) {
		ssize_t n = buf_write_fd(&c->out, c->fd);

		if (n == -EAGAIN)
			break;
		if (n < 0) {
			client_close(c);
			return;
		}
	}
	loop_fd_set(c->src, LOOP_READ | (buf_len(&c->out) ? LOOP_WRITE : 0));
	if (!buf_len(&c->out))
		client_fetch(c);
}

static void on_batch(void *arg, const struct event_batch *batch)
{
	struct feed_client *c = arg;

	c->fetching = false;
	if (!c->f) {
		client_release(c);
		return;
	}
	/* "since N" arrived meanwhile: this batch is not what it wants. */
	if (c->since != c->asked) {
		client_fetch(c);
		return;
	}
	if (!batch->count)
		return;
	c->since = batch->last;
	if (buf_put(&c->out, buf_data(&batch->lines), buf_len(&batch->lines)) <
	    0) {
		client_close(c);
		return;
	}
	client_write(c);
}

/* Reads on, when there may be something and the last batch has gone out. */
static void client_fetch(struct feed_client *c)
{
	struct guest_feed *f = c->f;

	if (c->fetching || buf_len(&c->out) ||
	    events_last(f->events) <= c->since)
		return;
	c->asked = c->since;
	c->fetching = events_fetch(f->events, c->since, f->guest, FEED_BATCH,
				   on_batch, c) == 0;
}

/* 0, or -EINVAL. */
static int take_command(struct feed_client *c, const char *line)
{
	uint64_t since;

	if (!str_starts(line, "since ") ||
	    str_to_u64(line + 6, UINT64_MAX, &since) < 0)
		return -EINVAL;
	c->since = since;
	return 0;
}

static int take_input(struct feed_client *c)
{
	const uint8_t *nl;
	ssize_t n = buf_read_fd(&c->in, c->fd, FEED_COMMAND_MAX);

	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return n < 0 ? (int)n : -ECONNRESET;
	while ((nl = memchr(buf_data(&c->in), '\n', buf_len(&c->in)))) {
		size_t len = (size_t)(nl - buf_data(&c->in));
		CLEANUP_FREE char *line = strndup(
			(const char *)buf_data(&c->in), len);
		int err = line ? take_command(c, line) : -ENOMEM;

		if (err < 0)
			return err;
		buf_consume(&c->in, len + 1);
	}
	return buf_room(&c->in) ? 0 : -EMSGSIZE;
}

static void on_client(int fd, unsigned events, void *arg)
{
	struct feed_client *c = arg;

	if ((events & LOOP_READ) && take_input(c) < 0) {
		client_close(c);
		return;
	}
	client_write(c);
}

static void client_new(struct guest_feed *f, int fd)
{
	struct feed_client *c = calloc(1, sizeof(*c));

	if (c) {
		c->f = f;
		c->fd = fd;
		c->since = events_last(f->events);
		buf_init(&c->in, FEED_COMMAND_MAX);
		buf_init(&c->out, FEED_LINES_MAX);
		c->src = loop_fd_new(f->loop, fd, LOOP_READ, on_client, c);
	}
	if (!c || !c->src) {
		free(c);
		close(fd);
		return;
	}
	c->next = f->clients;
	f->clients = c;
	f->nclients++;
}

static void on_accept(int listen_fd, unsigned events, void *arg)
{
	struct guest_feed *f = arg;
	int fd = sock_accept(listen_fd);

	if (fd < 0 && fd != -EAGAIN)
		loop_fd_pause(f->src, LOOP_ACCEPT_PAUSE);
	if (fd < 0)
		return;
	if (f->nclients >= FEED_CLIENTS_MAX) {
		log_warning("guest %s: more than %u readers of its events",
			    f->guest, FEED_CLIENTS_MAX);
		close(fd);
		return;
	}
	client_new(f, fd);
}

static void on_events(void *arg)
{
	struct guest_feed *f = arg;

	for (struct feed_client *c = f->clients; c; c = c->next)
		client_fetch(c);
}

struct guest_feed *feed_new(struct loop *loop, struct events *events,
			    const char *guest, const char *path, gid_t gid)
{
	struct guest_feed *f = calloc(1, sizeof(*f));
	int err = ENOMEM;

	if (!f)
		return NULL;
	f->loop = loop;
	f->events = events;
	f->fd = sock_unix_listen(path, gid);
	if (f->fd < 0) {
		err = -f->fd;
	} else {
		f->guest = strdup(guest);
		f->path = strdup(path);
		f->src = loop_fd_new(loop, f->fd, LOOP_READ, on_accept, f);
		f->watch = events_watch_new(events, on_events, f);
		if (f->guest && f->path && f->src && f->watch)
			return f;
	}
	feed_free(f);
	errno = err;
	return NULL;
}

void feed_free(struct guest_feed *f)
{
	if (!f)
		return;
	while (f->clients)
		client_close(f->clients);
	events_watch_free(f->watch);
	loop_fd_free(f->src);
	if (f->fd >= 0)
		close(f->fd);
	free(f->guest);
	free(f->path);
	free(f);
}
