/*
 * agent_judge.c - policy and limits of the server: what codec and methods ask
 *
 * Both come from agent.conf and are replaced as a whole on a reload; methods on
 * their threads read them under the server's lock.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "virtagent/agent_conf.h"
#include "virtagent/agent_form.h"
#include "virtagent/agent_limits.h"
#include "virtagent/agent_log.h"
#include "virtagent/agent_server_priv.h"
#include "virtagent/fault.h"
#include "virtagent/guest/jobs.h"

/* --- what methods ask ------------------------------------------------------- */

static bool allowed(struct guest_context *ctx, const struct va_method *m)
{
	struct agent_server *s = ctx->server;
	bool ok;

	pthread_rwlock_rdlock(&s->lock);
	ok = policy_allows(s->policy, m, NULL, 0);
	pthread_rwlock_unlock(&s->lock);
	return ok;
}

static int refuse(struct va_call *call, const char *why)
{
	return va_fault(call, VA_FAULT_REFUSED, EPERM, "%s: %s",
			call->method->name, why);
}

static int check_path(struct va_call *call, const char *real_path)
{
	struct agent_server *s = guest_context(call)->server;
	char why[512];
	bool ok;

	pthread_rwlock_rdlock(&s->lock);
	ok = !policy_has_paths(s->policy) ||
	     policy_allows_path(s->policy, call->method, real_path, why,
				sizeof(why));
	pthread_rwlock_unlock(&s->lock);
	return ok ? 0 : refuse(call, why);
}

static int check_user(struct va_call *call, const char *user)
{
	struct agent_server *s = guest_context(call)->server;
	char why[512];
	bool ok;

	pthread_rwlock_rdlock(&s->lock);
	ok = policy_allows_user(s->policy, user, why, sizeof(why));
	pthread_rwlock_unlock(&s->lock);
	return ok ? 0 : refuse(call, why);
}

static int check_connect(struct va_call *call, const char *asked, const char *real)
{
	struct agent_server *s = guest_context(call)->server;
	char why[512];
	bool ok;

	pthread_rwlock_rdlock(&s->lock);
	ok = policy_allows_connect(s->policy, asked, real, why, sizeof(why));
	pthread_rwlock_unlock(&s->lock);
	return ok ? 0 : refuse(call, why);
}

static struct guest_limits limits_now(struct guest_context *ctx)
{
	struct agent_server *s = ctx->server;
	struct guest_limits l;

	pthread_rwlock_rdlock(&s->lock);
	l = s->limits;
	pthread_rwlock_unlock(&s->lock);
	return l;
}

void agent_judge_init(struct agent_server *s)
{
	s->ctx.allowed = allowed;
	s->ctx.check_path = check_path;
	s->ctx.check_user = check_user;
	s->ctx.check_connect = check_connect;
	s->ctx.limits = limits_now;
}

/* --- what codec asks about each call ---------------------------------------- */

bool agent_judge_row(const struct va_call *call, const struct va_method *m)
{
	return allowed(guest_context(call), m);
}

int agent_judge_guard(struct va_call *call)
{
	struct guest_context *ctx = guest_context(call);
	struct agent_server *s = ctx->server;
	size_t n = strlen(ctx->agent_id);
	char why[512];
	bool ok;

	if (call->call_id && (strncmp(call->call_id, ctx->agent_id, n) != 0 ||
			      call->call_id[n] != '/'))
		return va_fault(call, VA_FAULT_FOREIGN_AGENT, ESTALE,
				"%s: the call was meant for another agent; this "
				"one is %s", call->method->name, ctx->agent_id);
	pthread_rwlock_rdlock(&s->lock);
	ok = policy_allows(s->policy, call->method, why, sizeof(why));
	pthread_rwlock_unlock(&s->lock);
	return ok ? 0 : refuse(call, why);
}

/* --- agent.conf --------------------------------------------------------------- */

void agent_judge_limits(struct agent_server *s)
{
	const struct guest_limits *l = &s->limits;

	codec_set_limits(s->registry, (unsigned)l->calls, (unsigned)l->client_calls,
			 "agent.conf");
	agent_forward_set_max((unsigned)l->streams, (unsigned)l->listeners,
			      (unsigned)l->stream_buffer);
	if (s->ctx.jobs)
		jobs_set_limits(s->ctx.jobs, l->jobs, l->output);
	agent_events_set_max(s->events, l->event_queue);
}

int agent_judge_read(struct agent_server *s, char *err, size_t err_size)
{
	struct policy *new = NULL, *old;
	struct guest_limits limits;
	struct conf conf;
	int r = agent_conf_read(s->options, &conf, err, err_size);

	if (r < 0)
		return r;
	r = agent_limits_read(&conf, &limits, err, err_size);
	if (r == 0)
		r = policy_new(&conf, "guest", NULL, &new, err, err_size);
	conf_done(&conf);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&s->lock);
	old = s->policy;
	s->policy = new;
	s->limits = limits;
	pthread_rwlock_unlock(&s->lock);
	policy_free(old);
	if (s->registry)
		agent_judge_limits(s);
	return 0;
}

void agent_judge_reload(struct agent_server *s)
{
	char err[512];

	agent_log_reopen();
	if (agent_judge_read(s, err, sizeof(err)) < 0)
		log_error("the policy stays as it was: %s", err);
	else
		log_info("the policy was read anew");
}
