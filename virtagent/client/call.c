/*
 * call.c - see call.h
 *
 * The arguments are first converted by the compiled-in row, if there is one.
 * When that does not fit, here or at the server (a fault about types: the call
 * has not run), the server's own row decides.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "virtagent/client/args.h"
#include "virtagent/client/member.h"
#include "virtagent/fault.h"
#include "virtagent/method.h"

/* Where the offset stands among the parameters of a method that answers by
 * pieces: the first optional one. */
static size_t offset_index(const char *signature)
{
	const char *sig = strchr(signature, ':');
	size_t n = 0;

	for (sig = sig ? sig + 1 : ""; *sig && *sig != '|'; sig++)
		n++;
	return n;
}

static int write_failed(const struct rpc *r, int error)
{
	out_error(rpc_target(r)->name, NULL, "cannot write the output: %s",
		  strerror(-error));
	return VAC_ERROR;
}

int call_pieces(const struct client *cl, struct rpc *r,
		const struct method_info *m, const struct va_value *params,
		struct out_stream *out)
{
	int64_t offset = 0;
	bool eof = false;

	while (!eof) {
		CLEANUP_VALUE struct va_value *result = NULL;
		struct va_value *piece = va_value_copy(params);
		const void *data;
		size_t n;
		int code, error;

		if (!cl->timeout_given)
			rpc_set_deadline(r, client_deadline(cl,
							    CLIENT_CALL_NS));
		/* The first piece asks without: old servers know no offset. */
		if (offset && va_append(piece, va_int(offset)))
			va_value_free(take_ptr(piece));
		code = rpc_call(r, m->name, RPC_IDEMPOTENT, piece, &result);
		if (code)
			return code;
		if (va_typeof(result) != VA_STRUCT || !va_member(result, m->raw) ||
		    va_get_bytes(va_member(result, m->raw), &data, &n) ||
		    member_int(result, "offset", offset) != offset) {
			out_error(rpc_target(r)->name, m->name,
				  "the result is not what was asked for");
			return VAC_ERROR;
		}
		error = out_stream_write(out, data, n);
		if (error)
			return write_failed(r, error);
		offset += (int64_t)n;
		eof = member_bool(result, "eof", true);
		if (!eof && !n) {
			out_error(rpc_target(r)->name, m->name,
				  "no bytes and no end at offset %" PRId64,
				  offset);
			return VAC_ERROR;
		}
	}
	return VAC_OK;
}

int call_print(const struct client *cl, const struct method_info *m,
	       const struct va_value *result)
{
	const struct va_value *raw = NULL;
	struct out_stream out;
	const void *data;
	size_t n;
	bool truth = true;
	int error;

	if (va_typeof(result) == VA_STRUCT && *m->raw)
		raw = va_member(result, m->raw);
	if (cl->json) {
		error = out_json(cl, result);
	} else if (raw && !va_get_bytes(raw, &data, &n)) {
		out_stream_init(&out, cl, stdout);
		error = out_stream_write(&out, data, n);
		if (!error)
			error = out_stream_end(&out);
	} else {
		error = out_value(cl, raw ? raw : result);
	}
	if (error) {
		out_error(NULL, m->name, "cannot write the output: %s",
			  strerror(-error));
		return VAC_ERROR;
	}
	if (va_typeof(result) == VA_BOOL)
		va_get_bool(result, &truth);
	return truth ? VAC_OK : VAC_FALSE;
}

/* The row to begin with; 0, or an exit code. */
static int first_row(struct rpc *r, const char *method, size_t nargs,
		     struct method_info *m)
{
	int error = method_builtin(method, m);

	if (!error)
		return VAC_OK;
	error = method_ask(r, method, nargs, m);
	if (error != -ENOENT)
		return VAC_OK;
	out_error(rpc_target(r)->name, method,
		  "no such method (va-client methods lists them)");
	return VAC_ERROR;
}

/* Takes the server's row in place of a compiled-in one; false when that changes
 * nothing. */
static bool better_row(struct rpc *r, size_t nargs, struct method_info *m)
{
	struct method_info asked;

	if (m->from_server || method_ask(r, m->name, nargs, &asked) ||
	    strcmp(asked.signature, m->signature) == 0)
		return false;
	*m = asked;
	return true;
}

static int convert(struct rpc *r, struct method_info *m, int argc, char **argv,
		   struct va_value **params)
{
	char err[400];
	int error = args_convert(m->signature, argc, argv, params, err,
				 sizeof(err));

	if (error && better_row(r, (size_t)argc, m))
		error = args_convert(m->signature, argc, argv, params, err,
				     sizeof(err));
	if (!error)
		return VAC_OK;
	out_error(rpc_target(r)->name, m->name, "%s%s%s", err,
		  *m->args ? "; arguments: " : "", m->args);
	return VAC_USAGE;
}

int call_words(const struct client *cl, struct rpc *r, const char *method,
	       int argc, char **argv)
{
	CLEANUP_VALUE struct va_value *params = NULL, *result = NULL;
	struct method_info m;
	struct out_stream out;
	int code = rpc_check(r), error;

	if (code)
		return rpc_report(r, method, code);
	code = first_row(r, method, (size_t)argc, &m);
	if (!code)
		code = convert(r, &m, argc, argv, &params);
	if (code)
		return code;

	if (*m.raw && (m.flags & VA_M_UNTIL_EOF) && !cl->json &&
	    (size_t)argc <= offset_index(m.signature)) {
		out_stream_init(&out, cl, stdout);
		code = call_pieces(cl, r, &m, params, &out);
		error = out_stream_end(&out);
		return !code && error ? write_failed(r, error) : code;
	}

	code = rpc_try(r, method, m.flags & VA_M_IDEMPOTENT ? RPC_IDEMPOTENT : 0,
		       va_value_copy(params), &result);
	if (code && rpc_fault(r) == VA_FAULT_TYPE &&
	    better_row(r, (size_t)argc, &m)) {
		va_value_free(take_ptr(params));
		code = convert(r, &m, argc, argv, &params);
		if (code)
			return code;
		code = rpc_try(r, method,
			       m.flags & VA_M_IDEMPOTENT ? RPC_IDEMPOTENT : 0,
			       va_value_copy(params), &result);
	}
	if (code)
		return rpc_report(r, method, code);
	return call_print(cl, &m, result);
}
