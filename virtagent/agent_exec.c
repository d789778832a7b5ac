/*
 * agent_exec.c - programs over HTTP (PROTOCOL, "Programs")
 *
 * GET /exec?arg=A&arg=B...	runs a program.  Without an Upgrade its output is
 *	the response, chunked, as it comes (stderr=merge is the default, stderr=no
 *	leaves it out); the head's X-Va-Job names the job, whose exit status
 *	guest.exec.status tells.  With "Upgrade: va-exec/1" the connection carries
 *	the frames of exec_wire.h both ways.
 *	command=NAME instead runs a command of this guest (guest.command.run).
 * GET /jobs/N			the same for a job that runs already.
 *
 * A session has two threads: this connection's sends output, a second one takes
 * input, so that a program that does not read and a client that does not read
 * hold up only their own direction.  When the client leaves, the program is
 * ended, unless it was detached or had been there before the session.
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

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/str.h"
#include "virtagent/agent_form.h"
#include "virtagent/exec_wire.h"
#include "virtagent/guest/exec_request.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/jobs.h"

#define INPUT_STACK (128u << 10)
#define LINGER_MS 5000
#define KILL_PAUSE_NS (2 * NSEC_PER_SEC) /* between HUP and KILL */

/* --- the request ----------------------------------------------------------- */

static struct va_value *exec_params(struct http_request *rq, const char *command)
{
	CLEANUP_VALUE struct va_value *params = va_array(), *args = va_array();
	const char *arg;
	int r = command ? va_append(params, va_bytes(command, strlen(command))) : 0;

	for (size_t i = 0; r == 0 && (arg = http_request_query_n(rq, "arg", i)); i++)
		r = va_append(args, va_bytes(arg, strlen(arg)));
	r |= va_append(params, take_ptr(args));
	return r < 0 ? NULL : take_ptr(params);
}

static bool query_flag(struct http_request *rq, const char *key)
{
	const char *text = http_request_query(rq, key);

	return text && strcmp(text, "0") != 0;
}

/* What a command's caller may not choose. */
static int fill_command(struct form *f, struct http_request *rq,
			struct exec_request *ex, const char *command)
{
	static const char *const only_exec[] = { "env", "cwd", "user", "tty" };
	const char *guest = http_request_query(rq, "guest");

	for (size_t i = 0; i < sizeof(only_exec) / sizeof(only_exec[0]); i++)
		if (http_request_query(rq, only_exec[i]))
			return va_fail(&f->call, EINVAL, "a command takes no %s",
				       only_exec[i]);
	return guest_command_request(&f->call, command, guest ? guest : "", ex);
}

static int fill_request(struct form *f, struct http_request *rq,
			struct exec_request *ex, bool interactive)
{
	const char *text;
	const char *command = http_request_query(rq, "command");
	int64_t rows, cols;
	uint64_t ns;
	int r = command ? fill_command(f, rq, ex, command) : 0;

	for (size_t i = 0; r == 0 && (text = http_request_query_n(rq, "arg", i)); i++)
		r = exec_add_arg(&f->call, ex, text);
	for (size_t i = 0; r == 0 && (text = http_request_query_n(rq, "env", i)); i++)
		r = exec_add_env(&f->call, ex, text);
	if (r == 0 && (text = http_request_query(rq, "cwd")))
		r = exec_set_cwd(&f->call, ex, text);
	if (r == 0 && (text = http_request_query(rq, "user")))
		r = exec_set_user(&f->call, ex, text);
	if (r == 0 && (text = http_request_query(rq, "timeout"))) {
		if (str_to_duration(text, UINT64_MAX / 2, &ns) < 0)
			return va_fail(&f->call, EINVAL, "timeout=%s is no time", text);
		r = exec_set_timeout(&f->call, ex, (double)ns / (double)NSEC_PER_SEC);
	}
	if (r < 0)
		return r;
	if (form_query_int(rq, "rows", 24, 1, 10000, &rows) < 0 ||
	    form_query_int(rq, "cols", 80, 1, 10000, &cols) < 0)
		return -EALREADY;
	ex->job.rows = (unsigned)rows;
	ex->job.cols = (unsigned)cols;
	ex->job.tty = interactive && query_flag(rq, "tty");
	ex->job.stdin_open = interactive;
	return 0;
}

/* --- a plain response: output only ------------------------------------------ */

struct output {
	struct form form;
	struct job *job;
	bool merge;
	bool ours; /* started here: ends with the response */
	uint64_t at[2];
};

static void end_job(struct job *j)
{
	struct job_info info;

	job_info(j, &info);
	if (info.ended_ns)
		return;
	job_kill(j, SIGHUP);
	if (job_wait_over(j, -1, clock_now() + KILL_PAUSE_NS) == -ETIMEDOUT)
		job_kill(j, SIGKILL);
}

static void output_free(void *data)
{
	struct output *o = data;

	if (o->job) {
		job_unfollow(o->job, o->at);
		if (o->ours)
			end_job(o->job);
		job_put(o->job);
	}
	form_end(&o->form);
	free(o);
}

static void output_done(void *arg)
{
	/* The request's end, which follows, frees it (output_free). */
}

static ssize_t output_read(void *arg, void *buf, size_t max)
{
	struct output *o = arg;
	int streams = o->merge ? 2 : 1;

	for (;;) {
		bool ended = true;
		int r;

		for (int s = 0; s < streams; s++) {
			uint64_t old[2] = { o->at[0], o->at[1] };
			ssize_t n = job_read(o->job, (enum job_stream)s, &o->at[s], buf, max);

			if (n > 0) {
				o->at[s] += (uint64_t)n;
				job_seen(o->job, old, o->at);
				return n;
			}
			ended &= n == 0;
		}
		if (ended)
			return 0;
		if (!o->merge)
			o->at[1] = UINT64_MAX;
		r = job_wait(o->job, o->at, o->form.call.cancel_fd, -1, CLOCK_NEVER);
		if (r < 0)
			return r;
	}
}

static int respond_output(struct output *o, struct http_request *rq)
{
	const char *stderr_is = http_request_query(rq, "stderr");
	char number[16];

	o->merge = !stderr_is || strcmp(stderr_is, "no") != 0;
	job_follow(o->job, o->at);
	snprintf(number, sizeof(number), "%u", job_id(o->job));
	http_add_header(rq, "X-Va-Job", number);
	return http_respond_stream(rq, 200, "application/octet-stream", -1,
				   output_read, output_done, o);
}

/* --- a session of frames ------------------------------------------------------ */

struct session {
	struct job *job;
	bool ours;
	int fd;
	int stop_fd; /* eventfd: the session ends */
	bool detached; /* written by the input thread before it stops */
	struct buf in;
};

static void stop_session(struct session *s)
{
	uint64_t one = 1;

	if (write(s->stop_fd, &one, sizeof(one)) < 0)
		shutdown(s->fd, SHUT_RDWR);
}

/* A frame of the client; false ends the session. */
static bool take_frame(struct session *s, uint8_t type, const uint8_t *data, size_t n)
{
	char name[32];
	int signo;

	switch (type) {
	case EXEC_STDIN:
		/* A program that reads no more is no reason to end: its output
		 * and status are still to come. */
		return job_write(s->job, data, n, s->stop_fd) != -ECANCELED;
	case EXEC_STDIN_EOF:
		job_close_stdin(s->job);
		return true;
	case EXEC_RESIZE:
		if (n >= 4)
			job_resize(s->job, get_le16(data), get_le16(data + 2));
		return true;
	case EXEC_SIGNAL:
		snprintf(name, sizeof(name), "%.*s", (int)(n < 31 ? n : 31), (const char *)data);
		signo = str_to_signal(name);
		if (signo > 0)
			job_kill(s->job, signo);
		return true;
	case EXEC_DETACH:
		s->detached = true;
		return false;
	default:
		return true;
	}
}

static void *input_thread(void *arg)
{
	struct session *s = arg;
	bool go_on = true;

	while (go_on) {
		struct pollfd fds[2] = { { .fd = s->fd, .events = POLLIN },
					 { .fd = s->stop_fd, .events = POLLIN } };
		const uint8_t *data;
		uint8_t type;
		size_t n;
		ssize_t got;
		int r;

		while (go_on && (r = exec_frame_peek(&s->in, &type, &data, &n)) == 1) {
			go_on = take_frame(s, type, data, n);
			exec_frame_next(&s->in);
		}
		if (r < 0 || !go_on)
			break;
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents)
			break;
		got = buf_read_fd(&s->in, s->fd, EXEC_FRAME_MAX);
		if (got == 0 || (got < 0 && got != -EAGAIN))
			break;
	}
	stop_session(s);
	return NULL;
}

static int send_frame(struct session *s, enum exec_frame type, const void *data,
		      size_t n)
{
	uint8_t frame[EXEC_HEAD + 512];

	exec_frame_head(frame, type, n);
	if (n > sizeof(frame) - EXEC_HEAD)
		return -EMSGSIZE;
	memcpy(frame + EXEC_HEAD, data, n);
	return exec_send_all(s->fd, frame, EXEC_HEAD + n, s->stop_fd);
}

static int send_output(struct session *s, uint8_t *piece, uint64_t at[2], bool *any)
{
	*any = false;
	for (int i = 0; i < 2; i++) {
		uint64_t old[2] = { at[0], at[1] };
		ssize_t n = job_read(s->job, (enum job_stream)i, &at[i], piece + EXEC_HEAD,
				     EXEC_FRAME_MAX);
		int r = 0;

		if (n > 0 && at[i] > old[i]) {
			uint8_t raw[9] = { (uint8_t)i };

			put_le64(raw + 1, at[i] - old[i]);
			r = send_frame(s, EXEC_DROPPED, raw, sizeof(raw));
		}
		if (n <= 0)
			continue;
		exec_frame_head(piece, i ? EXEC_STDERR : EXEC_STDOUT, (size_t)n);
		if (r == 0)
			r = exec_send_all(s->fd, piece, EXEC_HEAD + (size_t)n, s->stop_fd);
		if (r < 0)
			return r;
		at[i] += (uint64_t)n;
		job_seen(s->job, old, at);
		*any = true;
	}
	return 0;
}

static void send_end(struct session *s)
{
	struct job_info info;
	uint8_t raw[9];
	char text[300];

	job_info(s->job, &info);
	if (info.status.state == SPAWN_EXITED) {
		put_le32(raw, info.status.code);
		put_le32(raw + 4, info.status.signal);
		raw[8] = info.status.timed_out;
		send_frame(s, EXEC_EXIT, raw, sizeof(raw));
		return;
	}
	put_le32((uint8_t *)text, info.status.state == SPAWN_FAILED ?
					  (uint32_t)-info.status.error : EIO);
	snprintf(text + 4, sizeof(text) - 4, "%s: %s", info.label,
		 info.status.state == SPAWN_FAILED ? strerror(-info.status.error) :
		 "lost: the agent's spawner ended, the program may still run");
	send_frame(s, EXEC_FAILED, text, 4 + strlen(text + 4));
}

static void pump_output(struct session *s)
{
	CLEANUP_FREE uint8_t *piece = malloc(EXEC_HEAD + EXEC_FRAME_MAX);
	uint64_t at[2] = { 0, 0 }, first[2];
	struct job_info info;
	bool any;
	int r = piece ? 0 : -ENOMEM;

	job_follow(s->job, first);
	while (r == 0) {
		r = send_output(s, piece, at, &any);
		if (r < 0 || any)
			continue;
		job_info(s->job, &info);
		if (info.over && at[0] >= info.bytes[0] && at[1] >= info.bytes[1]) {
			send_end(s);
			break;
		}
		r = job_wait(s->job, at, s->stop_fd, -1, CLOCK_NEVER);
	}
	job_unfollow(s->job, at);
}

static void session_free(struct session *s)
{
	job_put(s->job);
	buf_done(&s->in);
	close(s->stop_fd);
	free(s);
}

/*
 * Waits for the client to close.  What it sent meanwhile (the end of its input)
 * would otherwise lie unread at our close, which resets the stream and may take
 * the last frame with it.
 */
static void linger(struct session *s)
{
	struct pollfd p = { .fd = s->stop_fd, .events = POLLIN };

	shutdown(s->fd, SHUT_WR);
	poll(&p, 1, LINGER_MS);
}

static void run_session(void *arg, int fd, const void *extra, size_t extra_len)
{
	struct session *s = arg;
	pthread_t thread;
	pthread_attr_t attr;
	struct job_info info;
	uint8_t raw[8];
	int r;

	s->fd = fd;
	if (fd < 0) {
		if (s->ours)
			job_kill(s->job, SIGKILL);
		session_free(s);
		return;
	}
	job_info(s->job, &info);
	put_le32(raw, info.id);
	put_le32(raw + 4, (uint32_t)info.status.pid);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, INPUT_STACK);
	r = buf_put(&s->in, extra, extra_len);
	if (r == 0)
		r = send_frame(s, EXEC_JOB, raw, sizeof(raw));
	if (r == 0 && pthread_create(&thread, &attr, input_thread, s) == 0) {
		pump_output(s);
		linger(s);
		stop_session(s);
		pthread_join(thread, NULL);
	}
	pthread_attr_destroy(&attr);
	if (s->ours && !s->detached)
		end_job(s->job);
	session_free(s);
}

static int respond_session(struct http_request *rq, struct job *j, bool ours)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->job = j;
	s->ours = ours;
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	buf_init(&s->in, 2 * (EXEC_FRAME_MAX + EXEC_HEAD));
	if (s->stop_fd < 0) {
		free(s);
		return -errno;
	}
	return http_respond_upgrade(rq, EXEC_TOKEN, run_session, s);
}

static bool wants_session(struct http_request *rq)
{
	const char *token = http_request_header(rq, "Upgrade");

	return token && !strcmp(token, EXEC_TOKEN);
}

static int respond_job(struct http_request *rq, struct output *o, bool session)
{
	struct job *j = o->job;
	int r;

	if (!session)
		return respond_output(o, rq);
	r = respond_session(rq, j, o->ours);
	/* The session holds the job now. */
	if (r == 0)
		o->job = NULL;
	return r;
}

/* A session tells it in a frame; a plain response has but its status. */
static int check_started(struct output *o)
{
	struct job_info info;

	job_info(o->job, &info);
	if (info.status.state != SPAWN_FAILED)
		return 0;
	return va_fail(&o->form.call, -info.status.error, "%s: %s", info.label,
		       strerror(-info.status.error));
}

int agent_exec_get(struct http_request *rq, void *context)
{
	CLEANUP_FREE struct exec_request *ex = calloc(1, sizeof(*ex));
	struct output *o = calloc(1, sizeof(*o));
	bool session = wants_session(rq);
	const char *command;
	int r;

	if (!o || !ex) {
		free(o);
		return -ENOMEM;
	}
	http_request_set_data(rq, o, output_free);
	command = http_request_query(rq, "command");
	if (agent_form_begin(&o->form, rq, context,
			     command ? "guest.command.run" : "guest.exec.start",
			     exec_params(rq, command)) < 0)
		return 0;
	r = fill_request(&o->form, rq, ex, session);
	if (r == 0)
		r = exec_start(&o->form.call, ex, &o->job);
	exec_request_done(ex);
	if (r == -EALREADY)
		return 0;
	if (r < 0)
		return form_fail(&o->form, rq, r);
	o->ours = true;
	r = session ? 0 : check_started(o);
	return r < 0 ? form_fail(&o->form, rq, r) : respond_job(rq, o, session);
}

int agent_job_get(struct http_request *rq, void *context)
{
	const char *number = http_request_path(rq) + strlen("/jobs/");
	struct output *o = calloc(1, sizeof(*o));
	struct va_value *params = va_array();
	uint64_t id = 0;

	if (!o) {
		va_value_free(params);
		return -ENOMEM;
	}
	http_request_set_data(rq, o, output_free);
	str_to_u64(number, UINT32_MAX, &id);
	va_append(params, va_int((int64_t)id));
	/* Joining a program's input is as much as starting one. */
	if (agent_form_begin(&o->form, rq, context,
			     wants_session(rq) ? "guest.exec.kill" : "guest.exec.read", params) < 0)
		return 0;
	o->job = job_find(guest_context(&o->form.call)->jobs, (uint32_t)id);
	if (!o->job)
		return form_fail(&o->form, rq, va_fail(&o->form.call, ENOENT,
				 "there is no job %s", number));
	return respond_job(rq, o, wants_session(rq));
}
