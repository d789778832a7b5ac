/*
 * verb_forward.c - forward: connections to one side, made by the other
 *
 * A thread for each connection; it asks the other side for the stream (forward.h)
 * and then copies (stream.h).  At FORWARD_MAX connections nothing more is accepted:
 * who connects then waits in the kernel's queue.
 *
 * Reversed, a stream to the guest holds the listener there, and one request at a
 * time waits for its next connection.
 *
 * SIGINT and SIGTERM are blocked but while the main thread polls, so that they end
 * the wait and not a copy.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/forward.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/output.h"
#include "virtagent/limits.h"
#include "virtagent/stream.h"

/* What the other side grants is VA_STREAMS_MAX; one request waits of those. */
#define FORWARD_MAX (VA_STREAMS_MAX - 1)
#define CONN_STACK (256u << 10)
#define RETRY_NS (NSEC_PER_SEC / 5)

struct forward_opts {
	bool reverse;
};

DEFINE_FLAG(set_reverse, forward_opts, reverse);

static const struct option_row forward_rows[] = {
	{ 'R', "reverse", NULL, "listen in the guest, connect here", set_reverse },
	CLIENT_ROWS,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t left = PTHREAD_COND_INITIALIZER;
static unsigned connections;
static int wake_fd = -1; /* eventfd: a connection has ended */

struct conn {
	struct forward *f;
	int fd;		  /* the accepted one */
	struct buf extra; /* reversed: what came with it */
};

/* --- one connection --------------------------------------------------------- */

static void conn_ended(struct conn *c)
{
	uint64_t one = 1;

	close(c->fd);
	buf_done(&c->extra);
	free(c);
	pthread_mutex_lock(&lock);
	connections--;
	pthread_cond_signal(&left);
	pthread_mutex_unlock(&lock);
	if (write(wake_fd, &one, sizeof(one)) < 0)
		return; /* a full counter is a wake-up already */
}

/* To the other side's target. */
static void *there_main(void *arg)
{
	struct conn *c = arg;
	CLEANUP_BUF struct buf extra = BUF_INIT(64u << 10);
	int fd = -1;

	if (forward_open(c->f, FORWARD_CONNECT, &fd, &extra, true) == 0) {
		(void)stream_pump(fd, c->fd, buf_data(&extra), buf_len(&extra),
				  VA_STREAM_BUFFER, -1);
		close(fd);
	}
	conn_ended(c);
	return NULL;
}

/* From the guest to a target here. */
static void *here_main(void *arg)
{
	struct conn *c = arg;
	int fd = forward_connect_here(c->f);

	if (fd >= 0) {
		(void)stream_pump(c->fd, fd, buf_data(&c->extra), buf_len(&c->extra),
				  VA_STREAM_BUFFER, -1);
		close(fd);
	}
	conn_ended(c);
	return NULL;
}

/* Takes fd over. */
static void start(struct forward *f, int fd, struct buf *extra, void *(*run)(void *))
{
	struct conn *c = calloc(1, sizeof(*c));
	pthread_attr_t attr;
	pthread_t thread;
	int r = ENOMEM;

	if (!c) {
		close(fd);
		return;
	}
	*c = (struct conn){ .f = f, .fd = fd };
	if (extra) {
		c->extra = *extra;
		*extra = BUF_INIT(64u << 10);
	}
	pthread_mutex_lock(&lock);
	connections++;
	pthread_mutex_unlock(&lock);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, CONN_STACK);
	r = pthread_create(&thread, &attr, run, c);
	pthread_attr_destroy(&attr);
	if (r == 0)
		return;
	out_error(f->who, "forward", "a connection is closed: %s", strerror(r));
	conn_ended(c);
}

static bool full(void)
{
	bool ret;

	pthread_mutex_lock(&lock);
	ret = connections >= FORWARD_MAX;
	pthread_mutex_unlock(&lock);
	return ret;
}

/* --- waiting --------------------------------------------------------------------- */

static void block_signals(sigset_t *outside)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, outside);
	interrupt_catch();
}

/* Until fd (-1 = none) is readable or a connection has ended: true when fd is. */
static bool wait_input(int fd, const sigset_t *outside)
{
	struct pollfd p[] = { { .fd = fd, .events = POLLIN },
			      { .fd = wake_fd, .events = POLLIN } };
	uint64_t count;

	if (ppoll(p, 2, NULL, outside) <= 0)
		return false;
	if (p[1].revents && read(wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return false;
	return p[0].revents != 0;
}

static int say(struct forward *f, const char *listen, const char *there)
{
	CLEANUP_VALUE struct va_value *v = NULL;

	if (f->cl->json) {
		v = va_struct();
		va_set(v, "listen", va_string(listen));
		va_set(v, "to", va_bytes(f->target, strlen(f->target)));
		if (out_json(f->cl, v) < 0)
			return VAC_ERROR;
	} else {
		printf("%s -> %s%s\n", listen, f->target, there);
	}
	return fflush(stdout) ? VAC_ERROR : VAC_OK;
}

/* --- listening here ------------------------------------------------------------- */

static int run_here(struct forward *f, const sigset_t *outside)
{
	CLEANUP_CLOSE int fd = -1;
	char listen[200], there[300];
	int code;

	fd = forward_listen_here(f, listen, sizeof(listen));
	if (fd < 0)
		return VAC_ERROR;
	snprintf(there, sizeof(there), " of %s", f->who);
	code = say(f, listen, there);
	while (!code && !interrupt_seen()) {
		int c;

		if (!wait_input(full() ? -1 : fd, outside))
			continue;
		c = sock_accept(fd);
		if (c >= 0)
			start(f, c, NULL, there_main);
		else if (c != -EAGAIN)
			interrupt_sleep_until(clock_now() + RETRY_NS);
	}
	forward_unlisten(f);
	return code ? code : interrupt_status();
}

/* --- listening in the guest ------------------------------------------------------ */

/* One request at a time waits for a connection of the guest's listener. */
static void *accept_main(void *arg)
{
	struct forward *f = arg;
	bool told = false;

	for (;;) {
		CLEANUP_BUF struct buf extra = BUF_INIT(64u << 10);
		int fd = -1;

		pthread_mutex_lock(&lock);
		while (connections >= FORWARD_MAX)
			pthread_cond_wait(&left, &lock);
		pthread_mutex_unlock(&lock);
		if (forward_open(f, FORWARD_ACCEPT, &fd, &extra, !told && !f->over) == 0) {
			start(f, fd, &extra, here_main);
			told = false;
			continue;
		}
		if (f->over)
			return NULL;
		told = true;
		interrupt_sleep_until(clock_now() + RETRY_NS);
	}
}

static int run_reverse(struct forward *f, const sigset_t *outside)
{
	CLEANUP_CLOSE int fd = -1;
	char listen[100];
	pthread_t thread;
	int code = forward_listen_there(f, &fd, listen, sizeof(listen));

	if (code)
		return code;
	if (pthread_create(&thread, NULL, accept_main, f) != 0)
		return VAC_ERROR;
	pthread_detach(thread);
	snprintf(listen + strlen(listen), sizeof(listen) - strlen(listen), " of %.40s",
		 f->who);
	code = say(f, listen, "");
	while (!code && !interrupt_seen()) {
		char drop[64];

		if (wait_input(fd, outside) && recv(fd, drop, sizeof(drop), MSG_DONTWAIT) == 0) {
			out_error(f->who, "forward", "the guest listens no more: its agent "
				  "or the connection ended");
			code = VAC_ERROR;
		}
	}
	f->over = true;
	return code ? code : interrupt_status();
}

/* --- the verb ---------------------------------------------------------------------- */

/* [ADDRESS:]PORT or unix:PATH, by its looks. */
static bool is_place(const char *word)
{
	const char *colon = strrchr(word, ':'), *port = colon ? colon + 1 : word;

	return str_starts(word, "unix:") ||
	       (*port && port[strspn(port, "0123456789")] == '\0');
}

static int run_forward(struct client *cl, int argc, char **argv)
{
	const struct forward_opts *o = cl->opts;
	/* Threads use it until the process ends. */
	static struct forward f;
	bool host = cl->up || (argc == 2 && !cl->guest && !target_on_host(cl));
	sigset_t outside;
	int code;

	if (!is_place(argv[argc - 2])) {
		out_error(NULL, "forward", "%s is not where to listen: [ADDRESS:]PORT or "
			  "unix:PATH, then the target; for instance: " PROGRAM
			  " forward %s 8080 80", argv[argc - 2],
			  argc == 3 ? argv[0] : argv[argc - 2]);
		return VAC_USAGE;
	}
	f = (struct forward){ .cl = cl, .listen = argv[argc - 2],
			      .target = argv[argc - 1] };
	if (host && o->reverse) {
		out_error(NULL, "forward", "a host does not listen for its guests; on the "
			  "host, \"forward\" does");
		return VAC_USAGE;
	}
	code = target_resolve(cl, host ? SIDE_HOST : SIDE_GUEST,
			      argc == 3 ? argv[0] : NULL, &f.to);
	if (code)
		return code;
	f.who = f.to.name;
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake_fd < 0)
		return VAC_ERROR;
	block_signals(&outside);
	return o->reverse ? run_reverse(&f, &outside) : run_here(&f, &outside);
}

const struct verb verb_forward = {
	.name = "forward",
	.usage = "[GUEST] LISTEN TARGET",
	.help = "forward connections to a target that the guest reaches",
	.about = "Listens here at LISTEN, [ADDRESS:]PORT or unix:PATH; each connection goes to\n"
		 "TARGET, HOST:PORT, PORT or unix:PATH as the guest sees it.  With --reverse the\n"
		 "guest listens and this machine connects.  In a guest: to what the host reaches.",
	.rows = forward_rows,
	.nrows = NROWS(forward_rows),
	.opts_size = sizeof(struct forward_opts),
	.min_args = 2,
	.max_args = 3,
	.run = run_forward,
};
