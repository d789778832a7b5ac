/*
 * form.c - see form.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/form.h"

#include <errno.h>
#include <string.h>

#include "common/str.h"
#include "virtagent/fault.h"

int form_begin(struct form *f, struct http_request *rq,
	       struct codec_registry *registry, const struct va_call *tmpl,
	       const char *method, struct va_value *params)
{
	int r;

	memset(f, 0, sizeof(*f));
	f->call = *tmpl;
	if (!params) {
		http_respond_text(rq, 503, "out of memory\n");
		return -ENOMEM;
	}
	f->params = params;
	f->caller = *http_request_caller(rq);
	f->call.params = params;
	f->call.caller = &f->caller;
	f->call.cancel_fd = http_request_cancel_fd(rq);
	r = codec_enter(registry, method, &f->call, &f->entry);
	if (r < 0) {
		form_fail(f, rq, r);
		form_end(f);
		return r;
	}
	f->entered = true;
	return 0;
}

static unsigned status_of(const struct form *f, int error)
{
	static const struct {
		int error;
		unsigned status;
	} table[] = {
		{ -ENOENT, 404 },	{ -ENOTDIR, 404 },     { -ESRCH, 404 },
		{ -EACCES, 403 },	{ -EPERM, 403 },       { -ESTALE, 409 },
		{ -EEXIST, 409 },	{ -EBUSY, 409 },       { -ETXTBSY, 409 },
		{ -ENOSPC, 507 },	{ -EDQUOT, 507 },      { -EFBIG, 413 },
		{ -EAGAIN, 503 },	{ -ENOMEM, 503 },      { -EINVAL, 400 },
		{ -EISDIR, 400 },	{ -ENAMETOOLONG, 400 }, { -ELOOP, 400 },
		{ -E2BIG, 400 },	{ -ERANGE, 400 },      { -ENOTSUP, 400 },
		{ -ENOTSOCK, 400 },	{ -EADDRINUSE, 409 },  { -EADDRNOTAVAIL, 400 },
		{ -ECONNREFUSED, 502 }, { -EHOSTUNREACH, 502 }, { -ENETUNREACH, 502 },
		{ -ECONNRESET, 502 },	{ -ETIMEDOUT, 504 },
	};

	if (f->call.fault.code == VA_FAULT_REFUSED)
		return 403;
	if (f->call.fault.code == VA_FAULT_BUSY)
		return 503;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].error == error)
			return table[i].status;
	return 500;
}

int form_fail(struct form *f, struct http_request *rq, int error)
{
	f->error = error;
	va_fault_complete(&f->call.fault, -error);
	return http_respond_text(rq, status_of(f, error), "%s\n", f->call.fault.text);
}

void form_end(struct form *f)
{
	if (f->entered)
		codec_leave(&f->call, f->error, &f->entry);
	f->entered = false;
	va_value_free(f->params);
	f->params = NULL;
}

int form_wants(struct form *f, struct http_request *rq, const char *token)
{
	const char *wants = http_request_header(rq, "Upgrade");

	if (wants && !strcmp(wants, token))
		return 0;
	return va_fail(&f->call, EINVAL, "this needs \"Connection: Upgrade\" and "
		       "\"Upgrade: %s\"", token);
}

int form_query_int(struct http_request *rq, const char *key, int64_t dflt,
		   int64_t min, int64_t max, int64_t *ret)
{
	const char *text = http_request_query(rq, key);

	*ret = dflt;
	if (!text || !*text || str_to_i64(text, min, max, ret) == 0)
		return 0;
	http_respond_text(rq, 400, "%s=%s: needs a number from %lld to %lld\n", key,
			  text, (long long)min, (long long)max);
	return -EINVAL;
}
