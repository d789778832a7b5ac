/*
 * hostd_form.h - the host's calls in HTTP's own form
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_FORM_H
#define VA_HOSTD_FORM_H

#include "virtagent/form.h"
#include "virtagent/hostd_places.h"

/* form_begin() with the host's registry; context is the route's. */
int hostd_form_begin(struct form *f, struct http_request *rq, void *context,
		     const char *method, struct va_value *params);
struct places *hostd_form_places(void *context);
/* Bytes kept for each direction of a forwarded connection. */
size_t hostd_form_stream_buffer(void *context);
/* Fails the call when the calling guest has as many as it may; else its place is
 * taken.  0 or -EBUSY. */
int hostd_form_place(struct form *f, void *context, enum place_kind kind);

/* The routes, for hostd_server.c. */
int hostd_exec_get(struct http_request *rq, void *context);
int hostd_connect_get(struct http_request *rq, void *context);

#endif
