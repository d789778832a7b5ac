/*
 * hostd_ctl.c - one connection to a virtproxy's control socket
 *
 * One command per line; an answer is lines up to an empty one; a line that
 * begins with "event " is no part of an answer, wherever it comes.  The virtproxy
 * on the other side reads a hostile guest's bytes, so what it says is bounded
 * (LINE_MAX_BYTES, ANSWER_MAX) and breaking that ends the connection, which its
 * owner treats as the process's death.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/sock.h"
#include "virtagent/hostd_ctl.h"

#define LINE_MAX_BYTES (64u << 10) /* a status as one line of JSON is < 8 KiB */
#define ANSWER_MAX (256u << 10)	   /* 256 streams of about 100 bytes: 25 KiB */
#define COMMANDS_MAX 64u	   /* answers waited for at once */
#define OUT_MAX (16u << 10)

struct waiting {
	ctl_answer_fn fn;
	void *arg;
};

struct ctl {
	struct loop *loop;
	struct ctl_ops ops;
	void *arg;
	int fd;
	pid_t pid;
	struct loop_fd *src;
	struct buf in, out, answer;
	struct waiting waiting[COMMANDS_MAX]; /* a ring */
	unsigned first, nwaiting;
	bool *freed; /* set by ctl_free() while lines are being handled */
};

static void answer_one(struct ctl *c, const char *text)
{
	struct waiting w;

	if (!c->nwaiting)
		return;
	w = c->waiting[c->first];
	c->first = (c->first + 1) % COMMANDS_MAX;
	c->nwaiting--;
	if (w.fn)
		w.fn(w.arg, text);
}

/* An empty line: the answer is whole. */
static void end_answer(struct ctl *c)
{
	CLEANUP_BUF struct buf whole = c->answer;

	buf_init(&c->answer, ANSWER_MAX);
	answer_one(c, buf_cstr(&whole));
}

/* 0, or -EMSGSIZE. */
static int take_line(struct ctl *c, char *line)
{
	if (strncmp(line, "event ", 6) == 0) {
		c->ops.event(c->arg, line + 6);
		return 0;
	}
	if (!line[0]) {
		end_answer(c);
		return 0;
	}
	if (buf_len(&c->answer) && buf_puts(&c->answer, "\n") < 0)
		return -EMSGSIZE;
	return buf_puts(&c->answer, line);
}

/*
 * Hands over the whole lines that are there.  0; -EMSGSIZE; -ECANCELED when a
 * callback freed the ctl.
 */
static int take_lines(struct ctl *c)
{
	bool freed = false;
	int err = 0;

	c->freed = &freed;
	while (err == 0) {
		const uint8_t *data = buf_data(&c->in);
		const uint8_t *nl = memchr(data, '\n', buf_len(&c->in));
		CLEANUP_FREE char *line = NULL;

		if (!nl)
			break;
		line = strndup((const char *)data, (size_t)(nl - data));
		if (!line) {
			err = -ENOMEM;
			break;
		}
		buf_consume(&c->in, (size_t)(nl - data) + 1);
		err = take_line(c, line);
		if (freed)
			return -ECANCELED;
	}
	c->freed = NULL;
	if (err == 0 && buf_room(&c->in) == 0)
		err = -EMSGSIZE;
	return err;
}

static void update_events(struct ctl *c)
{
	loop_fd_set(c->src, LOOP_READ | (buf_len(&c->out) ? LOOP_WRITE : 0));
}

static void on_ctl(int fd, unsigned events, void *arg)
{
	struct ctl *c = arg;
	ssize_t n;
	int err;

	if ((events & LOOP_WRITE) && buf_len(&c->out)) {
		n = buf_write_fd(&c->out, fd);
		if (n < 0 && n != -EAGAIN && n != -EINTR) {
			c->ops.gone(c->arg, "the control connection broke");
			return;
		}
		update_events(c);
	}
	if (!(events & LOOP_READ))
		return;
	n = buf_read_fd(&c->in, fd, LINE_MAX_BYTES);
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		c->ops.gone(c->arg, n ? strerror((int)-n) :
				       "the control connection ended");
		return;
	}
	err = take_lines(c);
	/* There is one of these for each guest, and it says little. */
	if (err != -ECANCELED) {
		buf_release(&c->in);
		buf_release(&c->out);
	}
	if (err < 0 && err != -ECANCELED)
		c->ops.gone(c->arg, err == -EMSGSIZE ?
					    "an over-long answer" :
					    strerror(-err));
}

/* Only what this user or root started is taken for a virtproxy of ours. */
static int check_owner(struct ctl *c)
{
	struct peer_cred cred;
	int err = sock_peer_cred(c->fd, &cred);

	if (err < 0)
		return err;
	if (cred.uid != geteuid() && cred.uid != 0)
		return -EPERM;
	c->pid = cred.pid;
	return 0;
}

struct ctl *ctl_new(struct loop *loop, const char *path,
		    const struct ctl_ops *ops, void *arg)
{
	struct ctl *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return NULL;
	c->loop = loop;
	c->ops = *ops;
	c->arg = arg;
	buf_init(&c->in, LINE_MAX_BYTES);
	buf_init(&c->out, OUT_MAX);
	buf_init(&c->answer, ANSWER_MAX);
	c->fd = sock_unix_connect(path);
	err = c->fd < 0 ? c->fd : check_owner(c);
	if (err == 0) {
		c->src = loop_fd_new(loop, c->fd, LOOP_READ, on_ctl, c);
		if (!c->src)
			err = -errno;
	}
	if (err < 0) {
		ctl_free(c);
		errno = -err;
		return NULL;
	}
	return c;
}

void ctl_free(struct ctl *c)
{
	if (!c)
		return;
	if (c->freed)
		*c->freed = true;
	loop_fd_free(c->src);
	if (c->fd >= 0)
		close(c->fd);
	while (c->nwaiting)
		answer_one(c, NULL);
	buf_done(&c->in);
	buf_done(&c->out);
	buf_done(&c->answer);
	free(c);
}

pid_t ctl_pid(const struct ctl *c)
{
	return c->pid;
}

int ctl_command(struct ctl *c, const char *command, ctl_answer_fn fn, void *arg)
{
	struct waiting *w;
	int err;

	if (c->nwaiting == COMMANDS_MAX)
		return -EBUSY;
	err = buf_printf(&c->out, "%s\n", command);
	if (err < 0)
		return -EBUSY;
	w = &c->waiting[(c->first + c->nwaiting) % COMMANDS_MAX];
	*w = (struct waiting){ fn, arg };
	c->nwaiting++;
	update_events(c);
	return 0;
}
