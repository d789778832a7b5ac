/*
 * stream.c - see stream.h
 *
 * A socket whose both directions are over reports POLLHUP whether it is asked or
 * not.  What still comes from it is taken, nothing more is sent to it, and then it
 * is not polled any more, so that a slow reader at the other side makes no busy
 * loop of it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "virtagent/limits.h"

struct way {
	int from, to;
	bool hup;  /* from is over in both directions */
	bool eof;  /* nothing more comes */
	bool done; /* and that was passed on, or nobody takes it any more */
	struct buf b;
};

static int take(struct way *w)
{
	ssize_t n = buf_read_fd(&w->b, w->from, VA_STREAM_BLOCK);

	if (n == -EAGAIN || n == -EINTR)
		return 0;
	w->eof = n <= 0;
	return n < 0 ? (int)n : 0;
}

static int give(struct way *w)
{
	while (buf_len(&w->b) && !w->done) {
		ssize_t n = send(w->to, buf_data(&w->b), buf_len(&w->b),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n < 0)
			return -errno;
		buf_consume(&w->b, (size_t)n);
	}
	if (w->eof && !w->done) {
		shutdown(w->to, SHUT_WR);
		w->done = true;
	}
	return 0;
}

static bool wants_input(const struct way *w)
{
	return !w->eof && !w->done && buf_room(&w->b);
}

/* What to ask of w->from; its other way is back.  Without any wish its end is
 * still told, once. */
static struct pollfd ask(const struct way *w, const struct way *back)
{
	short events = wants_input(w) ? POLLIN : 0;

	if (buf_len(&back->b) && !back->done)
		events |= POLLOUT;
	return (struct pollfd){ .fd = w->hup && !events ? -1 : w->from,
				.events = events };
}

/* What poll said of w->from. */
static int serve(struct way *w, struct way *back, short revents)
{
	int r = 0;

	if (revents & (POLLHUP | POLLERR)) {
		w->hup = true;
		/* Nobody there takes anything. */
		back->done = true;
	}
	if (revents && wants_input(w))
		r = take(w);
	if (r == 0)
		r = give(w);
	return r < 0 ? r : give(back);
}

static int pump(struct way w[2], int stop_fd)
{
	int r = 0;

	while (r == 0 && !(w[0].done && w[1].done)) {
		struct pollfd p[3] = { ask(&w[0], &w[1]), ask(&w[1], &w[0]),
				       { .fd = stop_fd, .events = POLLIN } };

		if (poll(p, 3, -1) < 0) {
			if (errno != EINTR)
				return -errno;
			continue;
		}
		if (p[2].revents)
			return -ECANCELED;
		for (int i = 0; i < 2 && r == 0; i++)
			if (p[i].revents)
				r = serve(&w[i], &w[!i], p[i].revents);
	}
	return r;
}

int stream_pump(int a, int b, const void *extra, size_t extra_len, size_t buffer,
		int stop_fd)
{
	struct way w[2] = { { .from = a, .to = b }, { .from = b, .to = a } };
	int r;

	buf_init(&w[0].b, buffer + extra_len);
	buf_init(&w[1].b, buffer);
	r = extra_len ? buf_put(&w[0].b, extra, extra_len) : 0;
	if (r == 0)
		r = give(&w[0]);
	if (r == 0)
		r = pump(w, stop_fd);
	buf_done(&w[0].b);
	buf_done(&w[1].b);
	return r;
}
