/*
 * form.h - calls in HTTP's own form: streamed files, programs, connections
 *
 * A form is judged, counted and audited as the method it stands for; only the
 * work is done by the form itself, over as long as the transfer takes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_FORM_H
#define VA_FORM_H

#include <stdint.h>

#include "virtagent/codec.h"
#include "virtagent/http_server.h"
#include "virtagent/method.h"

/* The part of each form's state that stands for the call.  The members must
 * live until form_end(). */
struct form {
	struct va_call call;
	struct va_caller caller;
	struct va_value *params;
	struct codec_entry entry;
	bool entered;
	int error; /* of the work, for the audit */
};

/*
 * Begins a call of method with params (taken over).  tmpl gives server and
 * context; caller and cancel_fd are the request's.  0, or a negative errno after
 * the refusal was answered.
 */
int form_begin(struct form *f, struct http_request *rq,
	       struct codec_registry *registry, const struct va_call *tmpl,
	       const char *method, struct va_value *params);
/* Answers the failed call: the fault's text, with the status that fits. */
int form_fail(struct form *f, struct http_request *rq, int error);
/* The accounts, once; frees the parameters.  Accepts a form never begun. */
void form_end(struct form *f);

/* Does the request ask for an Upgrade to token?  0, or the failed call's -EINVAL. */
int form_wants(struct form *f, struct http_request *rq, const char *token);

/* A number of the query, or the default: 0, or -EINVAL after it was answered. */
int form_query_int(struct http_request *rq, const char *key, int64_t dflt,
		   int64_t min, int64_t max, int64_t *ret);

#endif
