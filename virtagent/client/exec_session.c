/*
 * exec_session.c - see exec_session.h
 *
 * One poll loop: standard input and the socket in, the socket and standard
 * output out.  What waits for the socket is bounded; while it is full, standard
 * input is not read.  Without a terminal, Ctrl-C goes to the program as SIGINT
 * and a second one ends us, which ends the program; with one, it is an ordinary
 * byte for the program's terminal.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/exec_session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "common/clock.h"
#include "virtagent/client/output.h"
#include "virtagent/exec_wire.h"

#define PENDING_MAX (4 * (EXEC_FRAME_MAX + EXEC_HEAD))

static volatile sig_atomic_t resized, interrupts;
static int signal_pipe[2] = { -1, -1 };

struct session {
	struct exec_session *s;
	struct buf in, out;
	bool input_open;
	bool over;
	bool told; /* the program, of our first Ctrl-C */
	int status;
	struct out_stream text[2]; /* stdout, stderr */
};

static void on_signal(int signo)
{
	int saved = errno;
	ssize_t n;

	if (signo == SIGWINCH)
		resized = 1;
	else
		interrupts++;
	/* Wakes the poll; a full pipe is a wake-up already. */
	n = write(signal_pipe[1], "", 1);
	(void)n;
	errno = saved;
}

static int catch_signals(const struct exec_session *s)
{
	struct sigaction sa = { .sa_handler = on_signal };

	if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	sigaction(SIGWINCH, &sa, NULL);
	if (!s->tty) {
		sigaction(SIGINT, &sa, NULL);
		sigaction(SIGTERM, &sa, NULL);
	}
	return 0;
}

static void release_signals(void)
{
	signal(SIGWINCH, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	close(signal_pipe[0]);
	close(signal_pipe[1]);
}

static void send_size(struct session *x)
{
	struct winsize size;
	uint8_t raw[4];

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_row || !size.ws_col)
		return;
	put_le16(raw, size.ws_row);
	put_le16(raw + 2, size.ws_col);
	exec_frame_put(&x->out, EXEC_RESIZE, raw, sizeof(raw));
}

static void end(struct session *x, int status)
{
	x->over = true;
	x->status = status;
}

static void on_exit_frame(struct session *x, const uint8_t *data, size_t n)
{
	uint32_t code, signo;

	if (n < 9) {
		out_error(x->s->who, "exec", "the agent's last frame is too short");
		end(x, EXEC_OWN_FAILURE);
		return;
	}
	code = get_le32(data);
	signo = get_le32(data + 4);
	if (data[8]) {
		out_error(x->s->who, "exec", "the time limit passed; the program was ended");
		end(x, VAC_TIMEOUT);
	} else {
		end(x, signo ? (int)(128 + (signo & 127)) : (int)(code & 255));
	}
}

static void on_failed_frame(struct session *x, const uint8_t *data, size_t n)
{
	uint32_t err = n >= 4 ? get_le32(data) : EPROTO;
	char text[256] = "";

	if (n > 4)
		snprintf(text, sizeof(text), "%.*s", (int)(n - 4), (const char *)data + 4);
	out_error(x->s->who, "exec", "%s", text[0] ? text : strerror((int)err));
	end(x, err == ENOENT ? 127 :
	       err == EACCES || err == ENOEXEC || err == EISDIR ? 126 : EXEC_OWN_FAILURE);
}

static void on_dropped(struct session *x, const uint8_t *data, size_t n)
{
	if (n >= 9)
		out_error(x->s->who, "exec", "%llu bytes of %s are no longer kept",
			  (unsigned long long)get_le64(data + 1),
			  data[0] ? "stderr" : "stdout");
}

static void on_frame(struct session *x, uint8_t type, const uint8_t *data, size_t n)
{
	switch (type) {
	case EXEC_STDOUT:
	case EXEC_STDERR:
		if (out_stream_write(&x->text[type == EXEC_STDERR], data, n) < 0 ||
		    fflush(x->text[type == EXEC_STDERR].to) == EOF)
			end(x, EXEC_OWN_FAILURE);
		break;
	case EXEC_JOB:
		if (n >= 8) {
			x->s->job = get_le32(data);
			x->s->pid = get_le32(data + 4);
			out_verbose(x->s->cl, "job %u, pid %u", x->s->job, x->s->pid);
		}
		break;
	case EXEC_DROPPED:
		on_dropped(x, data, n);
		break;
	case EXEC_EXIT:
		on_exit_frame(x, data, n);
		break;
	case EXEC_FAILED:
		on_failed_frame(x, data, n);
		break;
	default: /* of a newer agent */
		break;
	}
}

static void take_frames(struct session *x)
{
	const uint8_t *data;
	uint8_t type;
	size_t n;
	int r;

	while (!x->over && (r = exec_frame_peek(&x->in, &type, &data, &n)) != 0) {
		if (r < 0) {
			out_error(x->s->who, "exec",
				  "a frame passes the limit of %u bytes", EXEC_FRAME_MAX);
			end(x, EXEC_OWN_FAILURE);
			return;
		}
		on_frame(x, type, data, n);
		exec_frame_next(&x->in);
	}
}

static void read_socket(struct session *x)
{
	ssize_t n = buf_read_fd(&x->in, x->s->fd, EXEC_FRAME_MAX);

	if (n == -EAGAIN)
		return;
	if (n > 0) {
		take_frames(x);
		return;
	}
	out_error(x->s->who, "exec",
		  "the connection ended before the program did (%s); its outcome is unknown",
		  n == 0 ? "closed" : strerror((int)-n));
	end(x, EXEC_OWN_FAILURE);
}

static void read_stdin(struct session *x)
{
	static uint8_t data[EXEC_FRAME_MAX];
	ssize_t n = read(STDIN_FILENO, data, sizeof(data));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		exec_frame_put(&x->out, EXEC_STDIN, data, (size_t)n);
		return;
	}
	x->input_open = false;
	exec_frame_put(&x->out, EXEC_STDIN_EOF, NULL, 0);
}

static void write_socket(struct session *x)
{
	ssize_t n = send(x->s->fd, buf_data(&x->out), buf_len(&x->out),
			 MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0)
		buf_consume(&x->out, (size_t)n);
	/* A broken connection is reported where it is read. */
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		buf_reset(&x->out);
}

static void take_signals(struct session *x)
{
	char drain[64];

	while (read(signal_pipe[0], drain, sizeof(drain)) > 0)
		;
	if (resized) {
		resized = 0;
		send_size(x);
	}
	if (interrupts > 1 || (interrupts && x->s->input == EXEC_WATCH))
		end(x, 130);
	else if (interrupts && !x->told)
		exec_frame_put(&x->out, EXEC_SIGNAL, "INT", 3);
	x->told = interrupts != 0;
}

static int wait_ms(const struct session *x)
{
	uint64_t now = clock_now();

	if (x->s->deadline_ns == CLOCK_NEVER)
		return -1;
	if (now >= x->s->deadline_ns)
		return 0;
	return (int)((x->s->deadline_ns - now) / NSEC_PER_MSEC % 3600000 + 1);
}

static void pump(struct session *x)
{
	while (!x->over) {
		bool room = buf_room(&x->out) >= EXEC_FRAME_MAX + 64;
		struct pollfd fds[3] = {
			{ .fd = x->s->fd,
			  .events = (short)(POLLIN | (buf_len(&x->out) ? POLLOUT : 0)) },
			{ .fd = x->input_open && room ? STDIN_FILENO : -1, .events = POLLIN },
			{ .fd = signal_pipe[0], .events = POLLIN },
		};

		if (poll(fds, 3, wait_ms(x)) < 0 && errno != EINTR)
			end(x, EXEC_OWN_FAILURE);
		if (clock_now() >= x->s->deadline_ns) {
			out_error(x->s->who, "exec",
				  "no end within the time given; the program is ended");
			end(x, VAC_TIMEOUT);
		}
		take_signals(x);
		if (!x->over && fds[1].revents)
			read_stdin(x);
		if (!x->over && fds[0].revents & (POLLIN | POLLHUP | POLLERR))
			read_socket(x);
		if (buf_len(&x->out))
			write_socket(x);
	}
}

int exec_session_run(struct exec_session *s)
{
	struct session x = { .s = s };
	struct termios saved, raw;
	bool restore = false;

	buf_init(&x.in, 2 * (EXEC_FRAME_MAX + EXEC_HEAD));
	buf_init(&x.out, PENDING_MAX);
	/* The guest's terminal is ours for as long as the program runs. */
	out_stream_init(&x.text[0], s->cl, stdout);
	out_stream_init(&x.text[1], s->cl, stderr);
	if (s->tty)
		x.text[0].escape = x.text[1].escape = false;
	if (catch_signals(s) < 0)
		return EXEC_OWN_FAILURE;
	if (s->tty && tcgetattr(STDIN_FILENO, &saved) == 0) {
		raw = saved;
		cfmakeraw(&raw);
		restore = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
	x.input_open = s->input == EXEC_STDIN_OURS;
	if (s->input == EXEC_STDIN_NONE)
		exec_frame_put(&x.out, EXEC_STDIN_EOF, NULL, 0);
	if (buf_put(&x.in, buf_data(s->extra), buf_len(s->extra)) < 0)
		end(&x, EXEC_OWN_FAILURE);
	take_frames(&x);
	pump(&x);
	if (restore)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	if (!s->tty) {
		out_stream_end(&x.text[0]);
		out_stream_end(&x.text[1]);
	}
	release_signals();
	buf_done(&x.in);
	buf_done(&x.out);
	return x.status;
}
