/*
 * rpc_server.h - POST /RPC2: from an HTTP request to a registry and back
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_RPC_SERVER_H
#define VA_RPC_SERVER_H

#include "virtagent/codec.h"
#include "virtagent/http_server.h"
#include "virtagent/outcome.h"

/* The route; handler(rq, context) ends in rpc_serve(). */
#define RPC_ROUTE(handler)                                                     \
	{ .method = "POST", .path = "/RPC2", .body = HTTP_BODY_BUFFER,         \
	  .max_body = VA_XML_MAX, .handle = (handler) }

/*
 * Runs the call document in the request's body and answers.  tmpl gives server,
 * context and, where calls may be marked with a Virtagent-Call, outcomes and
 * server_id; caller, call_id and cancel_fd are the request's.
 *
 * A marked call runs once and is not cancelled when its client's connection
 * breaks, only when the server ends: the client will ask what became of it.
 */
int rpc_serve(struct http_request *rq, struct codec_registry *registry,
	      const struct va_call *tmpl);

#endif
