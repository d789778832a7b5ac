/*
 * hostd_server.c - the host's HTTP server: hostd.sock and each guest's host.sock
 *
 * The loop accepts; each connection then has a thread of the HTTP server.  Which
 * guest calls is a property of the listening socket and of nothing else.  On a
 * guest's socket only this user's (or root's) processes are taken, which are the
 * virtproxies; the name the virtproxy's end is bound to tells the stream and who
 * opened it in the guest, which is shown in the audit line and decides nothing.
 *
 * There are two HTTP servers, so that no number of guests' connections keeps the
 * admin out, and what a guest has at once is counted (hostd_places.h).
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/sock.h"
#include "common/uuid.h"
#include "virtagent/audit.h"
#include "virtagent/codec.h"
#include "virtagent/fault.h"
#include "virtagent/host/commands.h"
#include "virtagent/host/host.h"
#include "virtagent/hostd_form.h"
#include "virtagent/hostd_ops.h"
#include "virtagent/hostd_server.h"
#include "virtagent/hostd_stream.h"
#include "virtagent/http_server.h"
#include "virtagent/limits.h"
#include "virtagent/rpc_server.h"

#define LOCAL_CONNECTIONS_MAX 256u
#define GUEST_CONNECTIONS_MAX 2048u
#define REQUEST_TIMEOUT_S 30u

struct hostd_server {
	struct hostd *h;
	struct host_context context;
	struct codec_registry *registry;
	struct http_server *local, *guests;
	pthread_rwlock_t policy_lock;
	struct policy_set *policies;
	struct outcomes *outcomes;
	struct places *places;
	atomic_size_t stream_buffer; /* bytes of a stream's direction */
};

struct server_port {
	struct hostd_server *s;
	char *guest;
	int fd;
	struct loop_fd *src;
	struct log_limit limit;
};

/* --- what a guest may do ------------------------------------------------ */

/* Runs on the connection's thread; a reload may be under way on the loop's. */
static int guard(struct va_call *call)
{
	struct hostd_server *s = (struct hostd_server *)call->server;
	const char *guest = call->caller->guest;
	size_t n = strlen(s->context.agent_id);
	char why[512] = "";
	bool ok;

	if (call->call_id &&
	    (strncmp(call->call_id, s->context.agent_id, n) != 0 ||
	     call->call_id[n] != '/'))
		return va_fault(call, VA_FAULT_FOREIGN_AGENT, ESTALE,
				"%s: the call was meant for another va-hostd; "
				"this one is %s",
				call->method->name, s->context.agent_id);
	if (!guest)
		return 0;
	if (call->method->cls == VA_CLASS_ADMIN) {
		va_fail(call, EPERM, "%s: refused by the host: class admin is "
			"for this host's own clients", call->method->name);
		call->fault.code = VA_FAULT_REFUSED;
		return -EPERM;
	}
	pthread_rwlock_rdlock(&s->policy_lock);
	ok = policy_allows(policy_set_for(s->policies, guest), call->method,
			   why, sizeof(why));
	pthread_rwlock_unlock(&s->policy_lock);
	if (ok)
		return 0;
	va_fail(call, EPERM, "%s", why);
	call->fault.code = VA_FAULT_REFUSED;
	return -EPERM;
}

/* The same, only told: what introspection shows as allowed. */
static bool row_allowed(const struct va_call *call, const struct va_method *m)
{
	struct hostd_server *s = (struct hostd_server *)call->server;
	const char *guest = call->caller->guest;
	bool ok;

	if (!guest)
		return true;
	if (m->cls == VA_CLASS_ADMIN)
		return false;
	pthread_rwlock_rdlock(&s->policy_lock);
	ok = policy_allows(policy_set_for(s->policies, guest), m, NULL, 0);
	pthread_rwlock_unlock(&s->policy_lock);
	return ok;
}

void hostd_server_set_policies(struct hostd_server *s,
			       struct policy_set *policies)
{
	struct policy_set *old;

	pthread_rwlock_wrlock(&s->policy_lock);
	old = s->policies;
	s->policies = policies;
	pthread_rwlock_unlock(&s->policy_lock);
	policy_set_free(old);
}

/* Where the configuration names none, the installed ones. */
static const char *command_dirs(const struct hostd *h)
{
	return h->conf.commands ? h->conf.commands : LIBDIR_VA "/commands";
}

void hostd_server_set_limits(struct hostd_server *s)
{
	places_set_max(s->places, PLACE_CALL, s->h->conf.guest_calls);
	places_set_max(s->places, PLACE_STREAM, s->h->conf.guest_streams);
	s->stream_buffer = s->h->conf.stream_buffer ? s->h->conf.stream_buffer :
						      VA_STREAM_BUFFER;
}

struct place_counts hostd_server_counts(struct hostd_server *s, const char *guest,
					enum place_kind kind)
{
	return places_counts(s->places, guest, kind);
}

void hostd_server_set_commands(struct hostd_server *s)
{
	if (host_commands_set(s->context.commands, command_dirs(s->h)) < 0)
		log_error("the directories of commands stay as they were: out of memory");
}

static int check_connect(struct va_call *call, const char *asked, const char *real)
{
	struct hostd_server *s = (struct hostd_server *)call->server;
	const char *guest = call->caller->guest;
	char why[512];
	bool ok;

	if (!guest)
		return 0;
	pthread_rwlock_rdlock(&s->policy_lock);
	ok = policy_allows_connect(policy_set_for(s->policies, guest), asked, real,
				   why, sizeof(why));
	pthread_rwlock_unlock(&s->policy_lock);
	return ok ? 0 : va_fault(call, VA_FAULT_REFUSED, EPERM, "%s", why);
}

/* --- requests ----------------------------------------------------------- */

static int fail_busy(struct hostd_server *s, struct va_fault *fault,
		     enum place_kind kind)
{
	static const struct {
		const char *things, *limit;
	} text[PLACE_KINDS] = {
		[PLACE_CALL] = { "calls", "guest-calls" },
		[PLACE_STREAM] = { "forwarded connections", "guest-streams" },
	};

	fault->code = VA_FAULT_BUSY;
	snprintf(fault->text, sizeof(fault->text), "the host has %u %s of this guest "
		 "already, the limit (%s in hostd.conf)", places_max(s->places, kind),
		 text[kind].things, text[kind].limit);
	return -EBUSY;
}

static int answer_busy(struct hostd_server *s, struct http_request *rq)
{
	CLEANUP_BUF struct buf out = BUF_INIT(VA_XML_MAX);
	struct va_fault fault = { 0 };
	int err;

	fail_busy(s, &fault, PLACE_CALL);
	err = codec_encode_fault(&fault, &out);
	if (err < 0)
		return err;
	return http_respond(rq, 200, "text/xml; charset=utf-8", buf_data(&out),
			    buf_len(&out));
}

static int handle_rpc(struct http_request *rq, void *context)
{
	struct hostd_server *s = context;
	const char *guest = http_request_caller(rq)->guest;
	const struct va_call tmpl = {
		.server = (struct va_server *)s,
		.context = &s->context,
		.outcomes = s->outcomes,
		.server_id = s->context.agent_id,
	};
	int err;

	if (!places_take(s->places, guest, PLACE_CALL))
		return answer_busy(s, rq);
	err = rpc_serve(rq, s->registry, &tmpl);
	places_give(s->places, guest, PLACE_CALL);
	return err;
}

int hostd_form_begin(struct form *f, struct http_request *rq, void *context,
		     const char *method, struct va_value *params)
{
	struct hostd_server *s = context;
	const struct va_call tmpl = { .server = (struct va_server *)s,
				      .context = &s->context };

	return form_begin(f, rq, s->registry, &tmpl, method, params);
}

struct places *hostd_form_places(void *context)
{
	return ((struct hostd_server *)context)->places;
}

size_t hostd_form_stream_buffer(void *context)
{
	return ((struct hostd_server *)context)->stream_buffer;
}

int hostd_form_place(struct form *f, void *context, enum place_kind kind)
{
	struct hostd_server *s = context;

	if (places_take(s->places, f->caller.guest, kind))
		return 0;
	return fail_busy(s, &f->call.fault, kind);
}

static int handle_events(struct http_request *rq, void *context)
{
	struct hostd_server *s = context;

	return hostd_stream_events(rq, s->h->events);
}

static const struct http_route routes[] = {
	RPC_ROUTE(handle_rpc),
	{ .method = "GET", .path = "/events", .body = HTTP_BODY_NONE,
	  .handle = handle_events },
	{ .method = "GET", .path = "/connect", .handle = hostd_connect_get },
	{ .method = "GET", .path = "/exec", .handle = hostd_exec_get },
};

/* --- connections -------------------------------------------------------- */

/* Who is on a guest's socket; 0, or a negative errno to close it. */
static int identify_guest(const struct server_port *p, int fd,
			  struct va_caller *caller)
{
	struct peer_stream peer;
	int err = sock_peer_stream(fd, &peer);

	if (err < 0)
		return err;
	caller->stream = peer.stream;
	caller->cred = peer.cred;
	caller->guest = p->guest;
	caller->remote = true;
	return 0;
}

static int adopt(struct server_port *p, int fd)
{
	struct va_caller caller = { .cred = PEER_CRED_UNKNOWN };
	int err;

	if (p->guest)
		err = identify_guest(p, fd, &caller);
	else
		err = sock_peer_cred(fd, &caller.cred);
	if (err < 0) {
		close(fd);
		return err;
	}
	return http_server_adopt(p->guest ? p->s->guests : p->s->local, fd,
				 &caller);
}

static void on_accept(int listen_fd, unsigned events, void *arg)
{
	struct server_port *p = arg;
	int fd = sock_accept(listen_fd);
	int err;

	if (fd == -EAGAIN)
		return;
	if (fd < 0)
		loop_fd_pause(p->src, LOOP_ACCEPT_PAUSE);
	err = fd < 0 ? fd : adopt(p, fd);
	if (err < 0)
		log_ratelimited(&p->limit, LOG_LVL_WARNING,
				"%s%s: a connection is refused: %s",
				p->guest ? "guest " : "hostd.sock",
				p->guest ? p->guest : "", strerror(-err));
}

struct server_port *server_port_new(struct hostd_server *s, const char *path,
				    const char *guest, gid_t gid)
{
	struct server_port *p = calloc(1, sizeof(*p));
	int err = ENOMEM;

	if (!p)
		return NULL;
	p->s = s;
	p->limit = (struct log_limit)LOG_LIMIT_INIT;
	p->guest = guest ? strdup(guest) : NULL;
	p->fd = sock_unix_listen(path, gid);
	if (p->fd < 0)
		err = -p->fd;
	else if (p->guest || !guest)
		p->src = loop_fd_new(s->h->loop, p->fd, LOOP_READ, on_accept, p);
	if (p->src)
		return p;
	server_port_free(p);
	errno = err;
	return NULL;
}

void server_port_free(struct server_port *p)
{
	if (!p)
		return;
	loop_fd_free(p->src);
	if (p->fd >= 0)
		close(p->fd);
	free(p->guest);
	free(p);
}

/* --- the whole ---------------------------------------------------------- */

static struct http_server *make_http(struct hostd_server *s, unsigned max)
{
	const struct http_config cfg = {
		.routes = routes,
		.nroutes = sizeof(routes) / sizeof(routes[0]),
		.max_connections = max,
		.request_timeout_s = REQUEST_TIMEOUT_S,
		.context = s,
	};

	return http_server_new(&cfg);
}

struct hostd_server *hostd_server_new(struct hostd *h)
{
	static struct va_family families[8];
	struct hostd_server *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	families[0] = host_basic_family;
	families[1] = host_guests_family;
	families[2] = host_events_family;
	families[3] = host_original_family;
	families[4] = va_host_outcome_family;
	families[5] = host_commands_family;
	families[6] = host_keys_family;
	families[7] = host_net_family;
	s->h = h;
	pthread_rwlock_init(&s->policy_lock, NULL);
	hostd_server_set_policies(s, take_ptr(h->conf.policies));
	s->context = (struct host_context){
		.ops = &hostd_ops,
		.arg = h,
		.events = h->events,
		.commands = host_commands_new(h->loop, h->children,
					      command_dirs(h)),
		.keys = h->keys,
		.families = families,
		.nfamilies = sizeof(families) / sizeof(families[0]),
		.started = clock_wall(),
		.allowed = row_allowed,
		.check_connect = check_connect,
	};
	hostd_conf_hostname(&h->conf, s->context.hostname,
			    sizeof(s->context.hostname));
	s->registry = codec_registry_new(families, s->context.nfamilies, guard,
					 audit_call);
	if (s->registry) {
		codec_set_allowed(s->registry, row_allowed);
		/* Guests' calls are counted for each of them, and each guest that keeps
		 * keys has one that waits. */
		codec_set_limits(s->registry, LOCAL_CONNECTIONS_MAX + GUEST_CONNECTIONS_MAX,
				 VA_CLIENT_CALLS_MAX, NULL);
	}
	s->outcomes = outcomes_new();
	s->places = places_new();
	if (s->registry && s->outcomes && s->places && s->context.commands &&
	    uuid_random(s->context.agent_id) == 0)
		s->local = make_http(s, LOCAL_CONNECTIONS_MAX);
	if (s->local)
		s->guests = make_http(s, GUEST_CONNECTIONS_MAX);
	if (s->guests) {
		hostd_server_set_limits(s);
		return s;
	}
	hostd_server_free(s);
	errno = ENOMEM;
	return NULL;
}

void hostd_server_free(struct hostd_server *s)
{
	if (!s)
		return;
	if (s->guests)
		http_server_free(s->guests);
	if (s->local)
		http_server_free(s->local);
	if (s->registry)
		codec_registry_free(s->registry);
	places_free(s->places);
	host_commands_free(s->context.commands);
	outcomes_free(s->outcomes);
	policy_set_free(s->policies);
	pthread_rwlock_destroy(&s->policy_lock);
	free(s);
}
