/*
 * agent_form.h - the agent's calls in HTTP's own form
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_FORM_H
#define VA_AGENT_FORM_H

#include "virtagent/form.h"

/* form_begin() with the agent's registry; context is the route's. */
int agent_form_begin(struct form *f, struct http_request *rq, void *context,
		     const char *method, struct va_value *params);

/* The routes, for agent_server.c; all are idle until a request comes. */
int agent_file_get(struct http_request *rq, void *context);
int agent_file_put(struct http_request *rq, void *context);
int agent_file_piece(struct http_request *rq, const void *data, size_t n);
int agent_file_end(struct http_request *rq);
int agent_exec_get(struct http_request *rq, void *context);
int agent_job_get(struct http_request *rq, void *context);
int agent_dmesg_get(struct http_request *rq, void *context);
/* How many forwarded connections, and listeners for them, there may be at once; bytes
 * kept for each direction of one from now on. */
void agent_forward_set_max(unsigned connections, unsigned max_listeners,
			   unsigned buffer);
int agent_connect_get(struct http_request *rq, void *context);
int agent_listen_get(struct http_request *rq, void *context);
int agent_accept_get(struct http_request *rq, void *context);

#endif
