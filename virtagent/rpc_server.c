/*
 * rpc_server.c - see rpc_server.h
 *
 * Whatever is wrong with a call is a fault in a reply of status 200, as XML-RPC
 * wants it; only what is wrong with the HTTP request has a status of its own.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/rpc_server.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "virtagent/fault.h"

/* "text/xml; charset=utf-8", or none at all. */
static bool type_ok(const char *type)
{
	static const char *const known[] = { "text/xml", "application/xml" };

	if (!type)
		return true;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		size_t n = strlen(known[i]);

		if (strncasecmp(type, known[i], n) == 0 &&
		    (!type[n] || strchr("; \t", type[n])))
			return true;
	}
	return false;
}

/* Is the call refused because of its id?  Then with the fault. */
static int begin(const struct va_call *call, struct va_fault *fault)
{
	int r = -EINVAL;

	fault->code = VA_FAULT_TYPE;
	if (!outcome_id_valid(call->call_id)) {
		snprintf(fault->text, sizeof(fault->text),
			 "Virtagent-Call must be AGENT-ID/UUID, at most %u bytes",
			 VA_CALL_ID_MAX);
		return r;
	}
	r = outcome_begin(call->outcomes, call->call_id);
	if (r == -EALREADY) {
		fault->code = VA_FAULT_DUPLICATE;
		snprintf(fault->text, sizeof(fault->text),
			 "call %s came before; it is not run again",
			 call->call_id);
	} else if (r == -EMFILE) {
		fault->code = VA_FAULT_BUSY;
		snprintf(fault->text, sizeof(fault->text),
			 "too many marked calls are running");
	} else if (r < 0) {
		fault->code = 0;
		va_fault_complete(fault, -r);
	}
	return r;
}

int rpc_serve(struct http_request *rq, struct codec_registry *registry,
	      const struct va_call *tmpl)
{
	const struct buf *body = http_request_body(rq);
	CLEANUP_BUF struct buf out = BUF_INIT(2 * VA_XML_MAX);
	struct va_fault fault = { 0 };
	struct va_call call = *tmpl;
	int r = 0;

	if (!type_ok(http_request_header(rq, "Content-Type")))
		return http_respond_text(rq, 415, "415 Unsupported Media Type: "
					 "a call is text/xml");
	call.caller = http_request_caller(rq);
	call.call_id = http_request_header(rq, "Virtagent-Call");
	call.cancel_fd = call.call_id && call.outcomes ?
				 http_request_stop_fd(rq) :
				 http_request_cancel_fd(rq);
	if (call.call_id && call.outcomes)
		r = begin(&call, &fault);
	if (r < 0) {
		r = codec_encode_fault(&fault, &out);
	} else {
		r = codec_dispatch(registry, buf_data(body), buf_len(body), &call,
				   &out);
		if (call.call_id && call.outcomes)
			outcome_end(call.outcomes, call.call_id, &out);
	}
	if (r < 0)
		return r;
	/* The buffer becomes the response's: no copy of a large reply. */
	r = http_respond_take(rq, 200, "text/xml; charset=utf-8", out.mem,
			      buf_len(&out));
	out.mem = NULL;
	return r;
}
