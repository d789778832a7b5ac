/*
 * agent_endpoint.c - see agent_endpoint.h
 *
 * One thread on one event loop; nothing here may block.  So it neither opens nor
 * writes the log: lines go to the server (agent_log.h), until all runs to stderr.
 * Only when the server cannot be kept running are they written from here, by a
 * process forked for them, because nobody else would.
 *
 * Every connection, whether a stream of the host or of the local agent socket,
 * goes to the server as a descriptor; connections to the host socket become
 * streams to the host's service.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_endpoint.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/memory.h"
#include "virtagent/agent_child.h"
#include "virtagent/agent_end.h"
#include "virtagent/agent_spawn_child.h"
#include "virtagent/agent_stop.h"
#include "virtagent/agent_streams.h"
#include "virtproxy/virtproxy.h"

#define SERVICE_GUEST "virtagent"
#define SERVICE_HOST "virtagent-host"

/* Between two reminders that there is no host to talk to. */
#define REMIND_NS (5 * 60 * NSEC_PER_SEC)
/* Lines kept for a server that is being replaced. */
#define LINES_MAX 32u
#define LINE_BYTES 512u
/* Moved within MEMORY_TRIM_NS, this is more than a few calls. */
#define WORK_BYTES (64u << 10)
/* Lost so often in a row, the server does not get lines written. */
#define FAILURES_DIRECT 3u

struct agent {
	const struct agent_options *o;
	struct loop *loop;
	struct vp_endpoint *ep;
	struct agent_child *server, *spawner;
	struct agent_streams streams;
	int listen_fd;
	struct loop_fd *listen_src;
	struct loop_timer *remind;
	struct loop_signal *signals[2];
	struct agent_stop stop;
	struct agent_end before; /* how the last server, or endpoint, ended */
	bool session;	/* with the host */
	uint64_t bytes; /* of all streams, at trim_at */
	uint64_t trim_at; /* when memory was last given back, or not for them */
};

/* --- the log -------------------------------------------------------------- */

/* The sink has no argument; there is one endpoint in a process. */
static struct {
	struct agent *agent;
	size_t count;
	struct {
		uint8_t level;
		char *text;
	} kept[LINES_MAX];
} lines;

static int send_line(struct agent *a, enum log_level level, const char *text)
{
	CLEANUP_BUF struct buf b = BUF_INIT(LINE_BYTES + 1);
	size_t n = strlen(text);
	int r = buf_put_u8(&b, (uint8_t)level);

	if (r == 0)
		r = buf_put(&b, text, n < LINE_BYTES ? n : LINE_BYTES);
	return r < 0 ? r : agent_child_send(a->server, IPC_LOG, &b, NULL, 0);
}

static void drop_lines(size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(lines.kept[i].text);
	lines.count -= n;
	memmove(lines.kept, lines.kept + n, lines.count * sizeof(lines.kept[0]));
}

static void flush_lines(struct agent *a)
{
	size_t done = 0;

	while (done < lines.count &&
	       send_line(a, (enum log_level)lines.kept[done].level,
			 lines.kept[done].text) == 0)
		done++;
	drop_lines(done);
}

/* The process may hang in the log's file system; it has nothing of ours open. */
static void write_apart(struct agent *a)
{
	pid_t pid = lines.count ? fork() : 0;

	if (lines.count && pid == 0) {
		spawn_close_from(3, -1);
		(void)log_set_target(a->o->log);
		for (size_t i = 0; i < lines.count; i++)
			log_write((enum log_level)lines.kept[i].level,
				  lines.kept[i].text);
		_exit(0);
	}
	drop_lines(lines.count);
}

/* The sink while there is no server to send to: at the end. */
static void keep_line(enum log_level level, const char *text)
{
	if (lines.count == LINES_MAX)
		return;
	lines.kept[lines.count].level = (uint8_t)level;
	lines.kept[lines.count].text = strdup(text);
	if (lines.kept[lines.count].text)
		lines.count++;
}

static void sink(enum log_level level, const char *text)
{
	struct agent *a = lines.agent;

	flush_lines(a);
	if (lines.count == 0 && send_line(a, level, text) == 0)
		return;
	keep_line(level, text);
	if (agent_child_failures(a->server) >= FAILURES_DIRECT)
		write_apart(a);
}

/* --- server and spawner --------------------------------------------------- */

/* Connects the two, anew whenever one of them is new. */
static void join(struct agent *a)
{
	int pair[2], r;

	if (!agent_child_up(a->server) || !agent_child_up(a->spawner))
		return;
	r = ipc_pair(pair);
	if (r == 0) {
		r = agent_child_send(a->spawner, IPC_SERVER, NULL, &pair[1], 1);
		if (r == 0)
			r = agent_child_send(a->server, IPC_SPAWNER, NULL,
					     &pair[0], 1);
		close(pair[0]);
		close(pair[1]);
	}
	if (r < 0)
		log_error("programs cannot be started: %s", strerror(-r));
}

static void tell_end(struct agent *a, const struct agent_end *end)
{
	CLEANUP_BUF struct buf b = BUF_INIT(64);

	if (end->process[0] && agent_end_put(&b, end) == 0)
		(void)agent_child_send(a->server, IPC_ENDED, &b, NULL, 0);
}

/* The server asks nothing of a host that is away. */
static void tell_session(struct agent *a)
{
	CLEANUP_BUF struct buf b = BUF_INIT(8);

	if (buf_put_u8(&b, a->session) == 0)
		(void)agent_child_send(a->server, IPC_SESSION, &b, NULL, 0);
}

static void server_started(void *arg)
{
	struct agent *a = arg;

	join(a);
	tell_session(a);
	tell_end(a, &a->before);
	flush_lines(a);
	agent_streams_offer(&a->streams, true);
}

/* Heartbeats are brisk while a caller may wait for a child: while the host has
 * streams open, the server has not taken one, or a program is started or runs. */
static void pace(struct agent *a)
{
	bool brisk = a->streams.count || agent_child_busy(a->server) ||
		     (a->ep && vp_endpoint_serves(a->ep));

	agent_child_pace(a->server, brisk);
	agent_child_pace(a->spawner, brisk);
}

/* Gives memory back now and then, unless streams are at work. */
static void trim(struct agent *a)
{
	uint64_t bytes = vp_endpoint_bytes(a->ep), now = clock_now();

	if (now - a->trim_at < MEMORY_TRIM_NS)
		return;
	if (bytes - a->bytes < WORK_BYTES)
		memory_trim();
	a->bytes = bytes;
	a->trim_at = now;
}

static void server_message(void *arg, struct ipc_msg *m)
{
	struct agent *a = arg;
	uint64_t ticket;

	if (m->type == IPC_TAKEN && buf_get_u64(&m->body, &ticket) == 0)
		agent_streams_taken(&a->streams, (uint32_t)ticket);
	else if (m->type == IPC_STOPPED && buf_cstr(&m->body))
		agent_stop_said(&a->stop, buf_cstr(&m->body));
	agent_streams_offer(&a->streams, false);
	pace(a);
	if (m->type == IPC_PONG && !agent_child_busy(a->server))
		trim(a);
}

static bool still_waits(void *arg, uint32_t stream)
{
	struct agent *a = arg;

	return agent_streams_waits(&a->streams, stream);
}

/* The old server may hang for ever and keep its descriptors: what it served is
 * ended from here. */
static void server_gone(void *arg, const struct agent_end *end)
{
	struct agent *a = arg;

	a->before = *end;
	agent_stop_server_gone(&a->stop);
	vp_endpoint_reset_accepted(a->ep, SERVICE_GUEST, still_waits, a,
				   "the agent's server was replaced");
}

static void spawner_started(void *arg)
{
	join(arg);
}

static void ignore_message(void *arg, struct ipc_msg *m)
{
}

static void spawner_gone(void *arg, const struct agent_end *end)
{
	tell_end(arg, end);
}

static const struct agent_child_ops server_ops = {
	.started = server_started,
	.message = server_message,
	.gone = server_gone,
};

static const struct agent_child_ops spawner_ops = {
	.started = spawner_started,
	.message = ignore_message,
	.gone = spawner_gone,
};

static int start_children(struct agent *a)
{
	int r;

	a->server = agent_child_new(a->loop, a->o, "server", &server_ops, a);
	a->spawner = agent_child_new(a->loop, a->o, "spawner", &spawner_ops, a);
	if (!a->server || !a->spawner)
		return -ENOMEM;
	a->streams.server = a->stop.server = a->server;
	a->stop.spawner = a->spawner;
	r = agent_child_run(a->spawner);
	if (r == 0)
		r = agent_child_run(a->server);
	if (r < 0)
		return r;
	lines.agent = a;
	log_set_sink(sink);
	return 0;
}

/* --- connections ---------------------------------------------------------- */

static int on_incoming(void *arg, const struct vp_incoming *in)
{
	struct agent *a = arg;
	struct ipc_stream head = {
		.stream = in->stream,
		.cred = { (uid_t)in->uid, (gid_t)in->gid, (pid_t)in->pid },
		.remote = true,
	};
	int r = agent_streams_add(&a->streams, in->fd, &head);

	pace(a);
	return r;
}

static void on_local(int listen_fd, unsigned events, void *arg)
{
	struct agent *a = arg;
	struct ipc_stream head = { .cred = PEER_CRED_UNKNOWN };
	int fd = sock_accept(listen_fd);

	if (fd < 0 && fd != -EAGAIN)
		loop_fd_pause(a->listen_src, LOOP_ACCEPT_PAUSE);
	if (fd < 0)
		return;
	(void)sock_peer_cred(fd, &head.cred);
	if (agent_streams_add(&a->streams, fd, &head) < 0)
		close(fd);
	pace(a);
}

/* The directory of a socket below the runtime directory. */
static int make_dir(void)
{
	int r = dir_make_private(dir_runtime());

	if (r < 0)
		log_error("%s: %s", dir_runtime(), strerror(-r));
	return r;
}

static int listen_local(struct agent *a)
{
	const char *path = a->o->agent_socket;
	int fd = sock_unix_listen(path, a->o->gid);

	if (fd < 0) {
		log_error("%s: %s%s", path, strerror(-fd),
			  fd == -EADDRINUSE ? " (is another va-agent running?)" : "");
		return fd;
	}
	a->listen_fd = fd;
	a->listen_src = loop_fd_new(a->loop, fd, LOOP_READ, on_local, a);
	return a->listen_src ? 0 : -errno;
}

/* --- the link ------------------------------------------------------------- */

static void on_session(void *arg, bool up, const char *why)
{
	struct agent *a = arg;

	a->session = up;
	tell_session(a);
	if (up)
		loop_timer_stop(a->remind);
	else if (!agent_stopping(&a->stop))
		loop_timer_in(a->remind, REMIND_NS);
}

static void on_remind(void *arg)
{
	struct agent *a = arg;

	log_info("still waiting for the host on %s", a->o->channel);
	loop_timer_in(a->remind, REMIND_NS);
}

static int add_sockets(struct agent *a, char *err, size_t err_size)
{
	struct vp_spec host = { .name = SERVICE_HOST, .port = "-" };
	int r;

	if (strlen(a->o->host_socket) >= sizeof(host.addr)) {
		snprintf(err, err_size, "the host socket's path is longer than "
			 "%zu bytes", sizeof(host.addr) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(host.addr, a->o->host_socket, strlen(a->o->host_socket));
	r = vp_endpoint_add_oforward(a->ep, &host, a->o->gid, err, err_size);
	if (r == 0)
		r = vp_endpoint_add_ctl(a->ep, a->o->ctl_socket, a->o->gid, err,
					err_size);
	return r;
}

static int open_link(struct agent *a)
{
	struct vp_endpoint_config cfg = { .loop = a->loop, .guest = true,
					  .compress = true };
	char err[256] = "";
	int r = vp_parse_channel(a->o->channel, &cfg.channel, err, sizeof(err));

	cfg.label = a->o->channel;
	if (r == 0) {
		a->ep = vp_endpoint_new(&cfg, err, sizeof(err));
		r = a->ep ? 0 : -errno;
	}
	if (r == 0)
		r = vp_endpoint_add_acceptor(a->ep, SERVICE_GUEST, on_incoming, a);
	if (r == 0)
		r = add_sockets(a, err, sizeof(err));
	if (r < 0) {
		log_error("%s: %s", a->o->channel, err[0] ? err : strerror(-r));
		return r;
	}
	a->stop.ep = a->ep;
	vp_endpoint_on_session(a->ep, on_session, a);
	loop_timer_in(a->remind, REMIND_NS);
	return 0;
}

/* --- the end -------------------------------------------------------------- */

static void stop_begins(void *arg, int signo)
{
	struct agent *a = arg;

	loop_timer_stop(a->remind);
	loop_fd_free(a->listen_src);
	a->listen_src = NULL;
}

static void stop_ends(void *arg)
{
	log_set_sink(keep_line);
}

static const struct agent_stop_ops stop_ops = { stop_begins, stop_ends };

static void reap(struct agent *a)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (agent_child_reaped(a->server, pid, status) ||
		    agent_child_reaped(a->spawner, pid, status))
			continue;
		agent_stop_reaped(&a->stop, pid);
	}
}

static void on_signal(int signo, void *arg)
{
	struct agent *a = arg;

	if (signo == SIGCHLD)
		reap(a);
	else
		(void)agent_child_send(a->server, IPC_RELOAD, NULL, NULL, 0);
}

static int watch_signals(struct agent *a)
{
	static const int numbers[] = { SIGHUP, SIGCHLD };

	for (size_t i = 0; i < 2; i++) {
		a->signals[i] = loop_signal_new(a->loop, numbers[i], on_signal, a);
		if (!a->signals[i])
			return -ENOMEM;
	}
	return agent_stop_init(&a->stop);
}

static void agent_done(struct agent *a)
{
	if (lines.agent)
		log_set_sink(keep_line);
	if (a->ep)
		vp_endpoint_free(a->ep);
	agent_child_free(a->server);
	agent_child_free(a->spawner);
	agent_streams_done(&a->streams);
	loop_fd_free(a->listen_src);
	if (a->listen_fd >= 0) {
		close(a->listen_fd);
		unlink(a->o->agent_socket);
	}
	for (size_t i = 0; i < 2; i++)
		if (a->signals[i])
			loop_signal_free(a->signals[i]);
	if (a->remind)
		loop_timer_free(a->remind);
	agent_stop_done(&a->stop);
	if (a->loop)
		loop_free(a->loop);
	/* To the last, this process waits for no log. */
	write_apart(a);
	log_set_sink(NULL);
}

/* Could a log file be made there?  Without opening it, which may wait. */
static int check_log(const char *target)
{
	char dir[PATH_MAX];
	char *slash;
	int r;

	snprintf(dir, sizeof(dir), "%s", target);
	slash = strrchr(dir, '/');
	if (!slash)
		return 0;
	slash[slash == dir] = 0;
	r = access(dir, W_OK | X_OK) < 0 ? -errno : 0;
	if (r < 0)
		log_error("log %s: %s", target, strerror(-r));
	return r;
}

int agent_endpoint_main(const struct agent_options *o)
{
	struct agent a = { .o = o, .listen_fd = -1 };
	bool marked = false;
	int r;

	memory_large_apart();
	a.loop = loop_new();
	if (!a.loop)
		return 1;
	a.stop = (struct agent_stop){ .loop = a.loop, .ops = &stop_ops, .arg = &a,
				      .signal_fd = -1 };
	a.remind = loop_timer_new(a.loop, on_remind, &a);
	r = a.remind ? watch_signals(&a) : -ENOMEM;
	if (r == 0)
		r = make_dir();
	if (r == 0)
		r = open_link(&a);
	if (r == 0)
		r = listen_local(&a);
	if (r == 0)
		r = check_log(o->log);
	/* It has the channel and the socket: there is no other agent. */
	if (r == 0) {
		agent_end_begin(&a.before);
		marked = true;
		r = start_children(&a);
	}
	if (r == 0) {
		log_info("va-agent %s on %s", PACKAGE_VERSION, o->channel);
		daemon_ready();
		r = loop_run(a.loop);
	}
	if (marked)
		agent_end_clean();
	agent_done(&a);
	return r < 0 ? 1 : 0;
}
