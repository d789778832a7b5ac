/*
 * rpc.c - see rpc.h
 *
 * What a failure means is decided here, in one place, from how far the request
 * got:
 *
 *	nothing sent                      exit 10, for every method
 *	fault                             by its code (the table below)
 *	deadline                          exit 124
 *	cut, and it may run twice         one more try, then exit 11, or 10 when
 *	                                  the guest is seen to be gone
 *	cut, and it must not run twice    rpc_outcome.c decides
 *
 * A server that gives no agent id (a stock one) gets no Virtagent-Call, and a
 * cut is exit 11.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/rpc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/ctl.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc_outcome.h"
#include "virtagent/codec.h"
#include "virtagent/fault.h"

#define RPC_REPLY_MAX VA_XML_MAX
#define RPC_REFUSED_WAIT_NS (NSEC_PER_SEC / 4)

struct rpc {
	const struct client *cl;
	struct target target;
	struct http_client *http;
	struct va_value *capabilities;
	char agent_id[80]; /* of method information; "" = not known */
	bool capabilities_asked, checked, have_deadline;
	bool deaf; /* to Ctrl-C */
	uint64_t deadline_ns;
	uint64_t refused; /* streams, before this call */
	int fault;
	char error[600];
};

/* How one attempt ended. */
enum attempt { ATTEMPT_DONE, ATTEMPT_CUT, ATTEMPT_FAILED };

struct rpc *rpc_open(const struct client *cl, const struct target *t)
{
	struct rpc *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->cl = cl;
	r->target = *t;
	r->http = http_client_new(t->rpc);
	if (!r->http) {
		free(r);
		return NULL;
	}
	return r;
}

void rpc_free(struct rpc *r)
{
	if (!r)
		return;
	http_client_free(r->http);
	va_value_free(r->capabilities);
	free(r);
}

int rpc_connect(const struct client *cl, enum target_side side,
		const char *guest, struct rpc **ret)
{
	struct target t;
	int code = target_resolve(cl, side, guest, &t);

	if (code)
		return code;
	*ret = rpc_open(cl, &t);
	if (*ret)
		return VAC_OK;
	out_error(t.name, NULL, "out of memory");
	return VAC_ERROR;
}

const struct target *rpc_target(const struct rpc *r)
{
	return &r->target;
}

const struct client *rpc_client(const struct rpc *r)
{
	return r->cl;
}

struct http_client *rpc_http(struct rpc *r)
{
	return r->http;
}

void rpc_set_deadline(struct rpc *r, uint64_t deadline_ns)
{
	r->deadline_ns = deadline_ns;
	r->have_deadline = true;
}

void rpc_ignore_interrupt(struct rpc *r)
{
	r->deaf = true;
}

const char *rpc_error(const struct rpc *r)
{
	return r->error;
}

int rpc_fault(const struct rpc *r)
{
	return r->fault;
}

void rpc_set_error(struct rpc *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->error, sizeof(r->error), fmt, ap);
	va_end(ap);
}

int rpc_fault_exit(int fault_code)
{
	static const struct {
		int fault, code;
	} table[] = {
		{ VA_FAULT_ERRNO + ENOENT, VAC_FALSE },
		{ VA_FAULT_ERRNO + ETIMEDOUT, VAC_TIMEOUT },
		{ VA_FAULT_TIMEOUT, VAC_TIMEOUT },
		{ VA_FAULT_NOT_CONNECTED, VAC_NOT_CONNECTED },
		{ VA_FAULT_UNKNOWN_OUTCOME, VAC_UNKNOWN },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].fault == fault_code)
			return table[i].code;
	return VAC_ERROR;
}

int rpc_check(struct rpc *r)
{
	int code;

	if (r->checked)
		return VAC_OK;
	code = target_check(&r->target, r->error, sizeof(r->error),
			    &r->refused);
	r->checked = code == VAC_OK;
	return code;
}

/* A status other than 200: its first line says why. */
static int http_failure(struct rpc *r, unsigned status, struct buf *reply)
{
	const char *text = buf_cstr(reply);
	int n = text ? (int)strcspn(text, "\r\n") : 0;

	rpc_set_error(r, "HTTP status %u%s%.*s", status, n ? ": " : "",
		      n > 300 ? 300 : n, text ? text : "");
	return VAC_ERROR;
}

static int take_reply(struct rpc *r, struct buf *reply, struct va_value **ret)
{
	struct va_fault fault = { 0 };
	int error = codec_decode_reply(buf_data(reply), buf_len(reply), ret,
				       &fault);

	if (!error)
		return VAC_OK;
	if (error == -EREMOTEIO) {
		r->fault = fault.code;
		rpc_set_error(r, "%s", fault.text);
		return rpc_fault_exit(fault.code);
	}
	rpc_set_error(r, "the reply is not valid: %s",
		      *fault.text ? fault.text : strerror(-error));
	return VAC_ERROR;
}

/* One POST.  ATTEMPT_FAILED leaves the exit code in *code. */
static enum attempt attempt(struct rpc *r, const struct buf *body,
			    const char *call_id, bool repeatable,
			    uint64_t deadline_ns, struct va_value **ret,
			    int *code)
{
	CLEANUP_BUF struct buf reply = BUF_INIT(RPC_REPLY_MAX);
	char id_header[160];
	const char *headers[] = { "Content-Type: text/xml", NULL, NULL };
	struct http_call call = {
		.method = "POST",
		.target = "/RPC2",
		.headers = headers,
		.body = buf_data(body),
		.body_len = buf_len(body),
		.reply = &reply,
		.deadline_ns = deadline_ns,
		.repeatable = repeatable,
		.cancel = r->deaf ? NULL : interrupt_flag(),
	};
	int error;

	if (call_id) {
		snprintf(id_header, sizeof(id_header), "Virtagent-Call: %s",
			 call_id);
		headers[1] = id_header;
	}
	r->fault = 0;
	error = http_client_perform(r->http, &call);
	if (!error) {
		*code = call.status == 200 ?
				take_reply(r, &reply, ret) :
				http_failure(r, call.status, &reply);
		return *code ? ATTEMPT_FAILED : ATTEMPT_DONE;
	}
	rpc_set_error(r, "%s", *call.error ? call.error : strerror(-error));
	*code = VAC_ERROR;
	if (error == -ETIMEDOUT) {
		rpc_set_error(r, call.progress == HTTP_NOT_CONNECTED ?
					 "timed out before it was sent" :
					 "timed out; it may still be running");
		*code = VAC_TIMEOUT;
	} else if (call.progress == HTTP_NOT_CONNECTED) {
		*code = error == -EACCES || error == -EPERM ?
				VAC_ERROR : VAC_NOT_CONNECTED;
	} else if (error == -EINTR) {
		rpc_set_error(r, "interrupted");
		*code = interrupt_status();
	} else if (error != -EMSGSIZE) {
		return ATTEMPT_CUT;
	}
	return ATTEMPT_FAILED;
}

static bool session_is_up(struct rpc *r)
{
	r->checked = false;
	return rpc_check(r) == VAC_OK;
}

/* A connection that ended without a reply, twice, of a call that may run
 * again: say the most that is known. */
static int explain_cut(struct rpc *r, uint64_t refused_before)
{
	char reason[256];

	if (!session_is_up(r))
		return VAC_NOT_CONNECTED;
	if (*r->target.ctl && r->refused > refused_before &&
	    !ctl_refused(r->target.ctl, "virtagent",
			 clock_now() + RPC_REFUSED_WAIT_NS, reason,
			 sizeof(reason))) {
		rpc_set_error(r, "refused: %s", reason);
		return VAC_NOT_CONNECTED;
	}
	rpc_set_error(r, "the connection ended without a reply");
	return VAC_UNKNOWN;
}

static int send_idempotent(struct rpc *r, const struct buf *body,
			   uint64_t deadline_ns, struct va_value **ret)
{
	uint64_t refused = r->refused;
	int code = VAC_ERROR;

	for (int tries = 0; tries < 2; tries++) {
		enum attempt a = attempt(r, body, NULL, true, deadline_ns,
					 ret, &code);

		if (a != ATTEMPT_CUT)
			return code;
		out_verbose(r->cl, "the connection ended without a reply");
		if (!session_is_up(r))
			return VAC_NOT_CONNECTED;
	}
	return explain_cut(r, refused);
}

/* outcome's way to ask: "guest.outcome" or "host.outcome" on this connection.
 * 0, or a negative errno: -EREMOTEIO = a fault, its code in *fault. */
static int ask_outcome(void *arg, const char *call_id, uint64_t deadline_ns,
		       struct va_value **ret, int *fault)
{
	CLEANUP_BUF struct buf body = BUF_INIT(4096);
	CLEANUP_VALUE struct va_value *params = va_array();
	struct rpc *r = arg;
	int code = VAC_ERROR;
	int error = va_append(params, va_string(call_id));

	if (!error)
		error = codec_encode_call(r->target.side == SIDE_HOST ?
						  "host.outcome" :
						  "guest.outcome",
					  params, &body);
	if (error)
		return error;
	if (attempt(r, &body, NULL, true, deadline_ns, ret, &code) ==
	    ATTEMPT_DONE)
		return 0;
	*fault = r->fault;
	return r->fault ? -EREMOTEIO : -EAGAIN;
}

struct va_value *rpc_method_info(struct rpc *r, const char *method)
{
	struct va_value *v = NULL;

	if (rpc_try(r, "system.methodInfo", RPC_IDEMPOTENT,
		    rpc_params(method, NULL), &v))
		return NULL;
	snprintf(r->agent_id, sizeof(r->agent_id), "%s",
		 member_text(v, "agent_id"));
	return v;
}

/* Whom a marked call is meant for; "" = a server that has no such ids. */
static const char *agent_of(struct rpc *r, const char *method)
{
	if (!r->capabilities_asked && !*r->agent_id)
		va_value_free(rpc_method_info(r, method));
	return *r->agent_id ? r->agent_id :
			      member_text(rpc_capabilities(r), "agent_id");
}

static int send_once(struct rpc *r, const struct buf *body, const char *method,
		     bool marked, uint64_t deadline_ns, struct va_value **ret)
{
	char call_id[OUTCOME_ID_MAX];
	const char *agent;
	int code = VAC_ERROR;

	for (int tries = 0; tries < 2; tries++) {
		agent = marked ? agent_of(r, method) : "";
		if (outcome_new_id(agent, call_id))
			call_id[0] = '\0';
		switch (attempt(r, body, *call_id ? call_id : NULL, false,
				deadline_ns, ret, &code)) {
		case ATTEMPT_DONE:
			return VAC_OK;
		case ATTEMPT_CUT:
			if (!*call_id) {
				rpc_set_error(r, "the connection ended without "
						 "a reply; whether it ran is "
						 "not known");
				return VAC_UNKNOWN;
			}
			out_verbose(r->cl, "%s: no reply; asking what became "
					   "of call %s", method, call_id);
			return outcome_ask(ask_outcome, r, call_id, deadline_ns,
					   ret, &r->fault, r->error,
					   sizeof(r->error));
		case ATTEMPT_FAILED:
			break;
		}
		/* The agent was replaced since we asked for its id; it has
		 * refused the call, so it did not run. */
		if (r->fault != VA_FAULT_FOREIGN_AGENT)
			return code;
		va_value_free(take_ptr(r->capabilities));
		r->capabilities_asked = false;
		r->agent_id[0] = '\0';
	}
	return code;
}

int rpc_try(struct rpc *r, const char *method, unsigned flags,
	    struct va_value *params, struct va_value **ret)
{
	CLEANUP_BUF struct buf body = BUF_INIT(VA_XML_MAX);
	CLEANUP_VALUE struct va_value *owned = params;
	uint64_t deadline = r->have_deadline ?
				    r->deadline_ns :
				    client_deadline(r->cl, CLIENT_CALL_NS);
	int code, error;

	r->fault = 0;
	error = owned ? codec_encode_call(method, owned, &body) : -ENOMEM;
	if (error) {
		if (error == -EMSGSIZE)
			rpc_set_error(r, "the call is longer than %u bytes",
				      VA_XML_MAX);
		else
			rpc_set_error(r, "cannot make the call: %s",
				      strerror(-error));
		return VAC_ERROR;
	}
	code = rpc_check(r);
	if (code)
		return code;
	out_verbose(r->cl, "%s: calling %s", r->target.name, method);
	if (flags & RPC_IDEMPOTENT)
		return send_idempotent(r, &body, deadline, ret);
	return send_once(r, &body, method, !(flags & RPC_UNMARKED), deadline, ret);
}

int rpc_report(struct rpc *r, const char *method, int code)
{
	if (code)
		out_error(r->target.name, method, "%s", r->error);
	return code;
}

int rpc_call(struct rpc *r, const char *method, unsigned flags,
	     struct va_value *params, struct va_value **ret)
{
	return rpc_report(r, method, rpc_try(r, method, flags, params, ret));
}

const struct va_value *rpc_capabilities(struct rpc *r)
{
	const char *method = r->target.side == SIDE_HOST ? "host.capabilities" :
							   "guest.capabilities";

	if (!r->capabilities_asked) {
		struct va_value *v = NULL;

		r->capabilities_asked = true;
		if (!rpc_try(r, method, RPC_IDEMPOTENT, va_array(), &v))
			r->capabilities = v;
	}
	return r->capabilities;
}

struct va_value *rpc_text(const char *s)
{
	return str_is_clean_text(s, strlen(s), "\n\t") ? va_string(s) :
							 va_bytes(s, strlen(s));
}

struct va_value *rpc_params(const char *first, ...)
{
	struct va_value *params = va_array();
	va_list ap;

	va_start(ap, first);
	for (const char *s = first; s; s = va_arg(ap, const char *)) {
		if (va_append(params, rpc_text(s))) {
			va_value_free(take_ptr(params));
			break;
		}
	}
	va_end(ap);
	return params;
}
