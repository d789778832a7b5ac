/*
 * agent_server.c - see agent_server.h
 *
 * The main thread polls: messages of the endpoint, reports of the spawner,
 * signals.  It runs no method, writes no log (agent_log.h) and waits for no
 * lock that a method holds while it works, so it answers the heartbeat even when
 * every method hangs.  Methods run on the threads of their connections.
 *
 * When the endpoint goes, the process ends at once: threads that hang are not
 * waited for.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_server.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/daemon.h"
#include "common/memory.h"
#include "common/str.h"
#include "virtagent/audit.h"
#include "virtagent/agent_end.h"
#include "virtagent/agent_farewell.h"
#include "virtagent/agent_form.h"
#include "virtagent/agent_keys.h"
#include "virtagent/agent_log.h"
#include "virtagent/agent_server_priv.h"
#include "virtagent/agent_spawn_client.h"
#include "virtagent/fault.h"
#include "virtagent/guest/jobs.h"
#include "virtagent/guest/keys.h"
#include "virtagent/http_client.h"
#include "virtagent/limits.h"
#include "virtagent/rpc_server.h"

/* Between two starts of a spawner, without an endpoint that does it. */
#define SPAWNER_PAUSE_MS 1000
#define FLUSH_MS 200
/* Without a request for this long, memory is given back. */
#define QUIET_NS (2 * NSEC_PER_SEC)

/* --- events ----------------------------------------------------------------- */

static void on_ended(struct agent_server *s, struct ipc_msg *m)
{
	CLEANUP_VALUE struct va_value *data = NULL;
	struct agent_end end;

	if (agent_end_get(&m->body, &end) < 0)
		return;
	data = agent_end_value(&end);
	if (!data)
		return;
	/* Before any stream is taken: nobody reads it yet. */
	if (strcmp(end.process, "spawner") != 0 && !s->ctx.last_end)
		s->ctx.last_end = va_value_copy(data);
	agent_events_post(s->events, "agent-process-ended", take_ptr(data));
}

static void on_stopping(struct agent_server *s, struct ipc_msg *m)
{
	struct agent_farewell f = { .ctx = &s->ctx, .events = s->events,
				    .ipc_fd = s->ipc_fd };

	if (agent_farewell_get(&m->body, &f) < 0 || agent_farewell_start(&f) < 0)
		log_warning("the host is not told why the agent ends");
}

static int post_event(struct guest_context *ctx, const char *name,
		      struct va_value *data)
{
	struct agent_server *s = ctx->server;

	return agent_events_post(s->events, name, data);
}

static int flush_events(struct guest_context *ctx, uint64_t deadline_ns)
{
	struct agent_server *s = ctx->server;

	return agent_events_flush(s->events, deadline_ns);
}

/* --- HTTP ----------------------------------------------------------------- */

static int rpc(struct http_request *rq, void *context)
{
	struct agent_server *s = context;
	const struct va_call tmpl = {
		.context = &s->ctx,
		.outcomes = s->outcomes,
		.server_id = s->ctx.agent_id,
	};

	return rpc_serve(rq, s->registry, &tmpl);
}

int agent_form_begin(struct form *f, struct http_request *rq, void *context,
		     const char *method, struct va_value *params)
{
	struct agent_server *s = context;
	const struct va_call tmpl = { .context = &s->ctx };

	return form_begin(f, rq, s->registry, &tmpl, method, params);
}

static const struct http_route routes[] = {
	{ .method = "GET", .path = "/file", .handle = agent_file_get },
	{ .method = "PUT", .path = "/file", .body = HTTP_BODY_STREAM,
	  .handle = agent_file_put, .piece = agent_file_piece,
	  .end = agent_file_end },
	{ .method = "GET", .path = "/exec", .handle = agent_exec_get },
	{ .method = "GET", .path = "/jobs/*", .handle = agent_job_get },
	{ .method = "GET", .path = "/dmesg", .handle = agent_dmesg_get },
	{ .method = "GET", .path = "/connect", .handle = agent_connect_get },
	{ .method = "GET", .path = "/listen", .handle = agent_listen_get },
	{ .method = "GET", .path = "/accept", .handle = agent_accept_get },
	RPC_ROUTE(rpc),
};

/* --- the main thread ------------------------------------------------------ */

void agent_server_adopt(struct agent_server *s, int fd, const struct ipc_stream *st)
{
	static struct log_limit limit = LOG_LIMIT_INIT;
	struct va_caller caller = { .cred = st->cred, .stream = st->stream,
				    .remote = st->remote };
	int r = http_server_adopt(s->http, fd, &caller);

	if (r < 0)
		log_ratelimited(&limit, LOG_LVL_WARNING,
				"stream %u was closed: %s (at most %u connections)",
				st->stream, strerror(-r),
				VA_HTTP_CONNECTIONS_MAX);
}

static void on_stream(struct agent_server *s, struct ipc_msg *m)
{
	struct ipc_stream st;

	static struct log_limit limit = LOG_LIMIT_INIT;

	if (ipc_get_stream(&m->body, &st) < 0)
		return;
	/* Out of descriptors the kernel drops the one that came along; the
	 * endpoint must not keep its own for ever. */
	if (m->nfds == 1)
		agent_server_adopt(s, take_fd(m->fds[0]), &st);
	else
		log_ratelimited(&limit, LOG_LVL_WARNING, "stream %u was closed: "
				"no descriptor is left for it", st.stream);
	(void)ipc_send_u64(s->ipc_fd, IPC_TAKEN, st.ticket);
}

static void on_log(struct ipc_msg *m)
{
	uint8_t level;
	const char *text;

	if (buf_get_u8(&m->body, &level) < 0 || level > LOG_LVL_DEBUG)
		return;
	text = buf_cstr(&m->body);
	if (text)
		agent_log_add((enum log_level)level, text);
}

static void on_session(struct agent_server *s, struct ipc_msg *m)
{
	uint8_t up;

	if (buf_get_u8(&m->body, &up) == 0)
		agent_events_host(s->events, up != 0);
}

/* Called by threads that start programs. */
static void on_busy(void *arg)
{
	struct agent_server *s = arg;

	(void)ipc_send(s->ipc_fd, IPC_BUSY, NULL, NULL, 0);
}

/* Gives memory back when no request has come or gone for a while; again and
 * again, because other threads have their timers. */
static void trim(struct agent_server *s)
{
	uint64_t now = clock_now();

	if (now - s->trimmed_at < MEMORY_TRIM_NS ||
	    now - http_server_moved(s->http) < QUIET_NS)
		return;
	memory_trim();
	s->trimmed_at = now;
}

static void on_ping(struct agent_server *s, uint64_t number)
{
	CLEANUP_BUF struct buf b = BUF_INIT(16);
	bool busy = spawn_client_busy(s->ctx.spawn);

	if (buf_put_u64(&b, number) == 0 && buf_put_u8(&b, busy) == 0)
		(void)ipc_send(s->ipc_fd, IPC_PONG, &b, NULL, 0);
	if (!busy)
		trim(s);
}

/* false = the endpoint is gone. */
static bool ipc_input(struct agent_server *s)
{
	CLEANUP_IPC_MSG struct ipc_msg m = IPC_MSG_INIT;
	int r = ipc_recv(s->ipc_fd, &m);
	uint64_t number;

	if (r != 1)
		return r == -EAGAIN || r == -EBADMSG || r == -ENOMEM;
	if (m.type == IPC_PING && buf_get_u64(&m.body, &number) == 0)
		on_ping(s, number);
	else if (m.type == IPC_STREAM)
		on_stream(s, &m);
	else if (m.type == IPC_SPAWNER && m.nfds == 1)
		spawn_client_attach(s->ctx.spawn, take_fd(m.fds[0]));
	else if (m.type == IPC_LOG)
		on_log(&m);
	else if (m.type == IPC_ENDED)
		on_ended(s, &m);
	else if (m.type == IPC_STOPPING)
		on_stopping(s, &m);
	else if (m.type == IPC_SESSION)
		on_session(s, &m);
	else if (m.type == IPC_RELOAD)
		agent_judge_reload(s);
	return true;
}

/* --- the loop ------------------------------------------------------------- */

/* false = to end. */
static bool on_signal(struct agent_server *s)
{
	struct signalfd_siginfo si;

	if (read(s->signal_fd, &si, sizeof(si)) != sizeof(si))
		return true;
	if (si.ssi_signo == SIGCHLD)
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	else if (si.ssi_signo == SIGHUP && s->ipc_fd < 0)
		agent_judge_reload(s);
	/* With an endpoint, that one is told to end and tells us. */
	return s->ipc_fd >= 0 || si.ssi_signo != SIGTERM;
}

static void serve(struct agent_server *s)
{
	bool alone = s->ipc_fd < 0, go_on = true;

	while (go_on) {
		bool pause = alone && clock_now() < s->accept_at;
		struct pollfd p[] = {
			{ !alone ? s->ipc_fd : pause ? -1 : s->options->server_fd,
			  POLLIN, 0 },
			{ s->signal_fd, POLLIN, 0 },
			{ spawn_client_fd(s->ctx.spawn), POLLIN, 0 },
		};

		if (poll(p, 3, pause ? ACCEPT_PAUSE_MS :
			 alone && p[2].fd < 0 ? SPAWNER_PAUSE_MS : -1) < 0)
			continue;
		if (p[0].revents && alone)
			agent_alone_accept(s);
		else if (p[0].revents)
			go_on = ipc_input(s);
		if (p[1].revents && go_on)
			go_on = on_signal(s);
		if (p[2].revents)
			spawn_client_input(s->ctx.spawn);
		if (alone && spawn_client_fd(s->ctx.spawn) < 0 &&
		    clock_now() - s->spawner_at >
			    SPAWNER_PAUSE_MS * NSEC_PER_MSEC)
			(void)agent_alone_spawner(s);
	}
}

static int block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	/* Before the first thread: they inherit it. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int start_events(struct agent_server *s)
{
	char booted[PATH_MAX];

	snprintf(booted, sizeof(booted), "%s/booted", dir_runtime());
	/* An endpoint tells of the session, after its start. */
	s->events = agent_events_new(s->options->host_socket, s->ctx.agent_id,
				     s->ctx.boot_id,
				     s->ipc_fd >= 0 ? booted : NULL, s->ipc_fd < 0);
	return s->events ? 0 : -ENOMEM;
}

/* A guest without a place for keys does everything else. */
static void start_keys(struct agent_server *s)
{
	CLEANUP_FREE char *dir = str_printf("%s/kv", dir_runtime());
	int r = dir ? dir_make_private(dir_runtime()) : -ENOMEM;

	s->ctx.keys = r == 0 ? keyring_open(dir) : NULL;
	if (!s->ctx.keys) {
		log_warning("no keys: %s/kv: %s", dir_runtime(),
			    strerror(r < 0 ? -r : errno));
		return;
	}
	r = key_hooks_start(s->ctx.keys, s->ctx.spawn);
	if (r == 0)
		r = agent_keys_start(s->ctx.keys, s->options->host_socket);
	if (r < 0)
		log_warning("keys: %s", strerror(-r));
}

/* Of an agent, not of a server that serves one socket: there may be several. */
static void start_power(struct agent_server *s)
{
	if (s->ipc_fd < 0)
		return;
	s->ctx.power_file = str_printf("%s/shutdown", dir_runtime());
	guest_power_resume(&s->ctx);
}

static int server_init(struct agent_server *s, char *err, size_t err_size)
{
	const struct http_config http = {
		.routes = routes,
		.nroutes = sizeof(routes) / sizeof(routes[0]),
		.max_connections = VA_HTTP_CONNECTIONS_MAX,
		.request_timeout_s = VA_HTTP_REQUEST_S,
		.context = s,
	};
	int r;

	pthread_rwlock_init(&s->lock, NULL);
	r = agent_judge_read(s, err, err_size);
	if (r < 0)
		return r;
	s->signal_fd = block_signals();
	r = guest_context_init(&s->ctx);
	if (r < 0 || s->signal_fd < 0 || http_global_init() < 0 ||
	    codec_global_init() < 0)
		return -EIO;
	agent_judge_init(s);
	s->ctx.post_event = post_event;
	s->ctx.flush_events = flush_events;
	s->ctx.server = s;
	s->ctx.commands = s->options->commands;
	s->ctx.spawn = spawn_client_new();
	s->ctx.jobs = s->ctx.spawn ? jobs_new(s->ctx.spawn) : NULL;
	if (s->ctx.spawn && s->ipc_fd >= 0)
		spawn_client_on_busy(s->ctx.spawn, on_busy, s);
	r = start_events(s);
	if (r < 0)
		return r;
	if (s->ctx.jobs)
		jobs_on_end(s->ctx.jobs, guest_job_ended, &s->ctx);
	s->registry = codec_registry_new(s->ctx.families, s->ctx.nfamilies, agent_judge_guard,
					 audit_call);
	if (s->registry) {
		codec_set_allowed(s->registry, agent_judge_row);
		agent_judge_limits(s);
	}
	s->outcomes = outcomes_new();
	if (s->ctx.jobs && s->registry) {
		start_keys(s);
		start_power(s);
	}
	s->http = http_server_new(&http);
	return s->ctx.jobs && s->registry && s->outcomes && s->http ? 0 : -ENOMEM;
}

int agent_server_program(int *ret)
{
	*ret = -1;
	return 0;
}

int agent_server_main(const struct agent_options *o, int ipc_fd)
{
	static struct agent_server s; /* methods may outlive this function */
	pid_t parent = getppid();
	char err[512] = "";
	int r;

	/* A server that hangs does not see the end of its pair. */
	prctl(PR_SET_PDEATHSIG, ipc_fd >= 0 ? SIGKILL : SIGTERM);
	if (getppid() != parent)
		return 0;
	s = (struct agent_server){ .options = o, .ipc_fd = ipc_fd,
				   .signal_fd = -1, .spawner_ctl = -1 };
	memory_one_arena();
	agent_log_queue(o->log);
	r = server_init(&s, err, sizeof(err));
	if (r < 0) {
		log_error("the server cannot start: %s", err[0] ? err : strerror(-r));
		agent_log_flush(FLUSH_MS);
		_exit(1);
	}
	if (ipc_fd < 0) {
		fd_set_nonblock(o->server_fd, true);
		fd_set_cloexec(o->server_fd, true);
		r = agent_alone_spawner(&s);
		if (r < 0)
			log_warning("programs cannot be started: %s", strerror(-r));
	}
	serve(&s);
	agent_log_flush(FLUSH_MS);
	_exit(0);
}
