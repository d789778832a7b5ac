/*
 * hostd_exec.c - GET /exec?command=NAME: a command of this host, joined to a caller
 *
 * With "Upgrade: va-exec/1" the connection carries the frames of exec_wire.h, as in a
 * guest (agent_exec.c), but for jobs and terminals, which a host has not.
 *
 * One loop on the connection's thread.  The program is not read while the client has
 * not taken what there is, and the client not while the program has not.  When the
 * client leaves, the program's group gets HUP, and KILL after a while.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/exec_wire.h"
#include "virtagent/host/run.h"
#include "virtagent/host/host.h"
#include "virtagent/hostd_form.h"

#define OUT_MAX (4 * (EXEC_FRAME_MAX + EXEC_HEAD))
#define HUP_PAUSE_NS (2 * NSEC_PER_SEC) /* between HUP and KILL */
#define LINGER_MS 5000

struct session {
	struct form form; /* until the request's end */
	struct run *run;
	struct places *places;
	char *guest;
	bool counted;
	int fd;
	struct buf in, out;
	bool over;  /* the program has ended */
	bool ended; /* and so has its output; or it never ran */
	bool gone;  /* the client has left */
};

/* --- life ---------------------------------------------------------------------- */

static void session_free(struct session *s)
{
	if (s->run)
		run_leave(s->run);
	if (s->counted)
		places_give(s->places, s->guest, PLACE_CALL);
	buf_done(&s->in);
	buf_done(&s->out);
	free(s->guest);
	free(s);
}

static void request_free(void *data)
{
	struct session *s = data;

	form_end(&s->form);
	session_free(s);
}

static int ms_until(uint64_t deadline_ns)
{
	uint64_t now = clock_now();

	if (deadline_ns <= now)
		return 0;
	return (int)((deadline_ns - now) / NSEC_PER_MSEC % 3600000 + 1);
}

/* The client is not there any more. */
static void end_program(struct session *s)
{
	struct pollfd p = { .fd = s->run->end_fd, .events = POLLIN };

	if (s->over || s->run->error)
		return;
	run_signal(s->run, SIGHUP);
	if (poll(&p, 1, (int)(HUP_PAUSE_NS / NSEC_PER_MSEC)) <= 0)
		run_signal(s->run, SIGKILL);
}

/* --- frames of the client ---------------------------------------------------------- */

/* true once the frame is done with. */
static bool take_frame(struct session *s, uint8_t type, const uint8_t *data, size_t n)
{
	struct run *r = s->run;
	char name[32];
	int signo;

	switch (type) {
	case EXEC_STDIN:
		if (r->in >= 0 && !r->input_len) {
			r->input = data;
			r->input_len = n;
		}
		return r->in < 0 || n == 0;
	case EXEC_STDIN_EOF:
		run_close(&r->in);
		return true;
	case EXEC_SIGNAL:
		snprintf(name, sizeof(name), "%.*s", (int)(n < 31 ? n : 31), (const char *)data);
		signo = str_to_signal(name);
		if (signo > 0)
			run_signal(r, signo);
		return true;
	default:
		return true;
	}
}

/* All frames that are whole, up to input that the program has not taken. */
static void take_frames(struct session *s)
{
	const uint8_t *data;
	uint8_t type;
	size_t n;
	int r;

	while (!s->run->input_len &&
	       (r = exec_frame_peek(&s->in, &type, &data, &n)) != 0) {
		if (r < 0) {
			s->gone = true; /* it speaks something else */
			return;
		}
		if (!take_frame(s, type, data, n))
			return;
		exec_frame_next(&s->in);
	}
}

static void read_client(struct session *s)
{
	ssize_t n = buf_read_fd(&s->in, s->fd, EXEC_FRAME_MAX);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0)
		s->gone = true;
	else
		take_frames(s);
}

/* --- the program ----------------------------------------------------------------------- */

static void feed_program(struct session *s)
{
	struct run *r = s->run;
	ssize_t n = write(r->in, r->input, r->input_len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* A program that reads no more: its output and status are still to come. */
	if (n < 0) {
		run_close(&r->in);
		n = (ssize_t)r->input_len;
	}
	r->input += n;
	r->input_len -= (size_t)n;
	if (r->input_len)
		return;
	exec_frame_next(&s->in);
	take_frames(s);
}

static void read_program(struct session *s, int i)
{
	static const enum exec_frame types[2] = { EXEC_STDOUT, EXEC_STDERR };
	uint8_t piece[16384];
	ssize_t n = read(s->run->out[i], piece, sizeof(piece));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		run_close(&s->run->out[i]);
	else
		exec_frame_put(&s->out, types[i], piece, (size_t)n);
}

static void write_client(struct session *s)
{
	ssize_t n = send(s->fd, buf_data(&s->out), buf_len(&s->out),
			 MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0)
		buf_consume(&s->out, (size_t)n);
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		s->gone = true;
}

static void put_end(struct session *s)
{
	struct run *r = s->run;
	uint8_t raw[9];
	char text[300];
	int signo, code = run_exit_code(r, &signo);

	s->ended = true;
	if (!r->error) {
		put_le32(raw, (uint32_t)code);
		put_le32(raw + 4, (uint32_t)signo);
		raw[8] = r->timed_out;
		exec_frame_put(&s->out, EXEC_EXIT, raw, sizeof(raw));
		return;
	}
	put_le32((uint8_t *)text, (uint32_t)-r->error);
	snprintf(text + 4, sizeof(text) - 4, "%s: %s", r->argv[0], strerror(-r->error));
	exec_frame_put(&s->out, EXEC_FAILED, text, 4 + strlen(text + 4));
}

/* --- the loop ---------------------------------------------------------------------------- */

static void on_timeout(struct session *s)
{
	struct run *r = s->run;

	if (s->over) { /* somebody else holds its pipes */
		run_close(&r->out[0]);
		run_close(&r->out[1]);
	} else if (!r->killed) {
		run_time_over(r);
	} else {
		r->error = -ETIMEDOUT; /* it cannot be killed */
		put_end(s);
	}
}

static void on_over(struct session *s)
{
	s->over = true;
	run_close(&s->run->in);
	s->run->input_len = 0;
	s->run->deadline_ns = clock_now() + RUN_DRAIN_NS;
}

static void step(struct session *s)
{
	struct run *r = s->run;
	bool room = buf_room(&s->out) >= EXEC_FRAME_MAX + EXEC_HEAD;
	bool listen = !r->input_len && !s->ended;
	struct pollfd p[] = {
		{ .fd = s->fd, .events = (short)((listen ? POLLIN : 0) |
						 (buf_len(&s->out) ? POLLOUT : 0)) },
		{ .fd = room ? r->out[0] : -1, .events = POLLIN },
		{ .fd = room ? r->out[1] : -1, .events = POLLIN },
		{ .fd = r->input_len ? r->in : -1, .events = POLLOUT },
		{ .fd = s->over || s->ended ? -1 : r->end_fd, .events = POLLIN },
	};
	/* A client that does not take the output is waited for. */
	int n = poll(p, 5, s->ended || !room ? -1 : ms_until(r->deadline_ns));

	if (n < 0 && errno != EINTR)
		s->gone = true;
	if (n == 0)
		on_timeout(s);
	if (n <= 0)
		return;
	for (int i = 0; i < 2; i++)
		if (p[1 + i].revents)
			read_program(s, i);
	if (p[3].revents)
		feed_program(s);
	if (p[4].revents)
		on_over(s);
	if (p[0].revents & POLLIN)
		read_client(s);
	else if (p[0].revents & (POLLHUP | POLLERR))
		s->gone = true;
	if (!s->gone && buf_len(&s->out))
		write_client(s);
}

/* Waits for the client to close (agent_exec.c says why). */
static void linger(struct session *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	uint64_t deadline = clock_now() + LINGER_MS * NSEC_PER_MSEC;
	char drop[4096];

	shutdown(s->fd, SHUT_WR);
	while (poll(&p, 1, ms_until(deadline)) > 0)
		if (recv(s->fd, drop, sizeof(drop), MSG_DONTWAIT) <= 0)
			break;
}

static void run_session(void *arg, int fd, const void *extra, size_t extra_len)
{
	struct session *s = arg;
	uint8_t raw[8];

	s->fd = fd;
	s->gone = fd < 0 || buf_put(&s->in, extra, extra_len) < 0;
	put_le32(raw, 0);
	put_le32(raw + 4, s->run->pid > 0 ? (uint32_t)s->run->pid : 0);
	exec_frame_put(&s->out, EXEC_JOB, raw, sizeof(raw));
	if (s->run->error)
		put_end(s);
	else
		take_frames(s);
	while (!s->gone && !(s->ended && !buf_len(&s->out))) {
		step(s);
		if (s->over && !s->ended && s->run->out[0] < 0 && s->run->out[1] < 0)
			put_end(s);
	}
	if (!s->gone)
		linger(s);
	end_program(s);
	session_free(s);
}

/* --- the request ------------------------------------------------------------------------- */

static struct va_value *params_of(struct http_request *rq, const char *command)
{
	CLEANUP_VALUE struct va_value *params = va_array(), *args = va_array();
	CLEANUP_VALUE struct va_value *options = va_struct();
	const char *text;
	uint64_t ns;
	int r = va_append(params, va_bytes(command, strlen(command)));

	for (size_t i = 0; r == 0 && (text = http_request_query_n(rq, "arg", i)); i++)
		r = va_append(args, va_bytes(text, strlen(text)));
	if (r == 0)
		r = va_append(params, take_ptr(args));
	text = http_request_query(rq, "timeout");
	/* What is no time is refused as the option would be. */
	if (r == 0 && text)
		r = va_set(options, "timeout",
			   str_to_duration(text, UINT64_MAX / 2, &ns) < 0 ?
				   va_string(text) :
				   va_double((double)ns / (double)NSEC_PER_SEC));
	if (r == 0)
		r = va_append(params, take_ptr(options));
	return r < 0 ? NULL : take_ptr(params);
}

static struct session *session_new(struct http_request *rq, void *context)
{
	const char *guest = http_request_caller(rq)->guest;
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->places = hostd_form_places(context);
	buf_init(&s->in, 2 * (EXEC_FRAME_MAX + EXEC_HEAD));
	buf_init(&s->out, OUT_MAX);
	http_request_set_data(rq, s, request_free);
	if (guest && !(s->guest = strdup(guest)))
		return NULL;
	return s;
}

static int upgrade(struct session *s, struct http_request *rq)
{
	struct session *own = calloc(1, sizeof(*own));
	int r;

	if (!own)
		return -ENOMEM;
	*own = *s;
	memset(&own->form, 0, sizeof(own->form));
	s->run = NULL;
	s->counted = false;
	s->guest = NULL;
	r = http_respond_upgrade(rq, EXEC_TOKEN, run_session, own);
	if (r < 0)
		run_session(own, -1, NULL, 0);
	return r;
}

int hostd_exec_get(struct http_request *rq, void *context)
{
	const char *command = http_request_query(rq, "command");
	struct session *s = session_new(rq, context);
	struct va_call *call;
	int r;

	if (!s)
		return -ENOMEM;
	call = &s->form.call;
	if (hostd_form_begin(&s->form, rq, context, "host.command.run",
			     params_of(rq, command ? command : "")) < 0)
		return 0;
	r = form_wants(&s->form, rq, EXEC_TOKEN);
	if (r == 0)
		r = hostd_form_place(&s->form, context, PLACE_CALL);
	s->counted = r == 0;
	if (r == 0 && !(s->run = run_new(host_context(call)->commands)))
		r = -ENOMEM;
	if (r == 0) {
		s->run->session = true;
		r = run_from_params(call, s->run);
	}
	if (r == 0)
		r = run_start(s->run);
	return r < 0 ? form_fail(&s->form, rq, r) : upgrade(s, rq);
}
