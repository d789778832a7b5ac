/*
 * system.c - system.*: what a server says about its own methods
 *
 * The names and results are those of the introspection and multicall
 * conventions that XML-RPC libraries know.  There is no system.shutdown.
 *
 * system.multicall calls each method through codec_invoke(), so policy, limits
 * and audit see every single one.  Its results together must fit one document:
 * once they would not, the remaining calls are not made, and each says so.  A
 * Virtagent-Call belongs to the whole, not to its parts.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "virtagent/codec.h"
#include "virtagent/fault.h"

static const struct va_method *wanted(struct va_call *call)
{
	const char *name = "";
	const struct va_method *m;

	if (va_arg_string(call, 0, "", &name) < 0)
		return NULL;
	m = codec_find(call->registry, name);
	if (!m)
		va_fault(call, VA_FAULT_NO_METHOD, ENOSYS,
			 "there is no method \"%s\" here", name);
	return m;
}

static int list_methods(struct va_call *call, struct va_value **ret)
{
	size_t n = codec_count(call->registry);
	int r = 0;

	*ret = va_array();
	for (size_t i = 0; i < n && r == 0; i++)
		r = va_append(*ret,
			      va_string(codec_at(call->registry, i)->name));
	return r;
}

static int method_exist(struct va_call *call, struct va_value **ret)
{
	const char *name = "";
	int r = va_arg_string(call, 0, "", &name);

	if (r < 0)
		return r;
	*ret = va_bool(codec_find(call->registry, name) != NULL);
	return *ret ? 0 : -ENOMEM;
}

static int method_help(struct va_call *call, struct va_value **ret)
{
	const struct va_method *m = wanted(call);
	CLEANUP_BUF struct buf text = BUF_INIT(16 << 10);
	int r;

	if (!m)
		return -ENOSYS;
	r = buf_printf(&text, "%s%s%s\n%s", m->name,
		       m->args && *m->args ? " " : "", m->args ? m->args : "",
		       m->help);
	if (r == 0 && m->doc)
		r = buf_printf(&text, "\n\n%s", m->doc);
	if (r < 0)
		return r;
	*ret = va_string_n((const char *)buf_data(&text), buf_len(&text));
	return *ret ? 0 : -ENOMEM;
}

/* Ours: everything a client needs to know before it calls, in one call. */
static int method_info(struct va_call *call, struct va_value **ret)
{
	const struct va_method *m = wanted(call);
	CLEANUP_VALUE struct va_value *v = NULL;

	if (!m)
		return -ENOSYS;
	v = va_method_value(m, codec_allowed(call, m));
	if (!v || (call->server_id &&
		   va_set(v, "agent_id", va_string(call->server_id)) < 0))
		return -ENOMEM;
	*ret = take_ptr(v);
	return 0;
}

/* One signature: the result and the first n parameters. */
static struct va_value *one_signature(const char *sig, size_t n)
{
	struct va_value *list = va_array();
	char result = sig[0];
	int r = va_append(list, va_string(va_signature_type(result)));

	for (sig += 2; n && r == 0; sig++) {
		if (*sig == '|')
			continue;
		r = va_append(list, va_string(va_signature_type(*sig)));
		n--;
	}
	if (r < 0) {
		va_value_free(list);
		return NULL;
	}
	return list;
}

static int method_signature(struct va_call *call, struct va_value **ret)
{
	const struct va_method *m = wanted(call);
	const char *params, *bar;
	size_t most, least;
	int r = 0;

	if (!m)
		return -ENOSYS;
	params = m->signature + 2;
	if (strpbrk(m->signature, "x*")) { /* more than a list can say */
		*ret = va_string("undef");
		return *ret ? 0 : -ENOMEM;
	}
	bar = strchr(params, '|');
	most = strlen(params) - (bar != NULL);
	least = bar ? (size_t)(bar - params) : most;
	*ret = va_array();
	for (size_t n = least; n <= most && r == 0; n++)
		r = va_append(*ret, one_signature(m->signature, n));
	return r;
}

static int get_capabilities(struct va_call *call, struct va_value **ret)
{
	static const struct {
		const char *name, *url;
	} rows[] = {
		{ "xmlrpc", "http://www.xmlrpc.com/spec" },
		{ "introspect",
		  "http://xmlrpc-c.sourceforge.net/xmlrpc-c/introspection.html" },
		{ "system.multicall",
		  "http://www.xmlrpc.com/discuss/msgReader$1208" },
		{ "nil", "http://ontosys.com/xml-rpc/extensions.html" },
	};
	int r = 0;

	*ret = va_struct();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && r == 0; i++) {
		struct va_value *one = va_struct();

		r = va_set(one, "specUrl", va_string(rows[i].url));
		if (r == 0)
			r = va_set(one, "specVersion", va_int(1));
		if (r < 0)
			va_value_free(one);
		else
			r = va_set(*ret, rows[i].name, one);
	}
	return r;
}

/* --- multicall ----------------------------------------------------------- */

static struct va_value *fault_value(const struct va_fault *fault)
{
	CLEANUP_VALUE struct va_value *v = va_struct();

	if (va_set(v, "faultCode", va_int(fault->code)) < 0 ||
	    va_set(v, "faultString", va_string(fault->text)) < 0)
		return NULL;
	return take_ptr(v);
}

static int one_call(struct va_call *outer, const struct va_value *item,
		    struct va_value **ret, struct va_fault *fault)
{
	struct va_call call = *outer;
	const char *name = NULL;
	int r;

	memset(&call.fault, 0, sizeof(call.fault));
	call.call_id = NULL;
	call.params = va_member(item, "params");
	if (va_typeof(item) != VA_STRUCT || va_typeof(call.params) != VA_ARRAY ||
	    va_get_string(va_member(item, "methodName"), &name) < 0)
		r = va_fault(&call, VA_FAULT_TYPE, EINVAL,
			     "each call must be a struct of methodName (string) "
			     "and params (array)");
	else if (strcmp(name, "system.multicall") == 0)
		r = va_fault(&call, VA_FAULT_TYPE, EINVAL,
			     "system.multicall within system.multicall");
	else
		r = codec_invoke(outer->registry, name, &call, ret);
	*fault = call.fault;
	return r;
}

static bool caller_gone(const struct va_call *call)
{
	struct pollfd p = { .fd = call->cancel_fd, .events = POLLIN };

	return call->cancel_fd >= 0 && poll(&p, 1, 0) > 0;
}

/* The entry of one call: its result in an array of one, or a fault. */
static struct va_value *multicall_entry(struct va_call *call,
					const struct va_value *item, size_t *room)
{
	CLEANUP_VALUE struct va_value *result = NULL, *entry = NULL;
	struct va_fault fault = { .code = VA_FAULT_LIMIT };
	size_t weight;

	if (*room < 1024) {
		snprintf(fault.text, sizeof(fault.text),
			 "not called: the results before it fill a document of "
			 "%u bytes", VA_XML_MAX);
		return fault_value(&fault);
	}
	if (one_call(call, item, &result, &fault) < 0)
		return fault_value(&fault);
	weight = va_weight(result);
	if (weight > *room) {
		fault.code = VA_FAULT_LIMIT;
		snprintf(fault.text, sizeof(fault.text),
			 "called, but its result of about %zu bytes does not fit "
			 "what is left of %u", weight, VA_XML_MAX);
		*room = 0;
		return fault_value(&fault);
	}
	*room -= weight;
	entry = va_array();
	if (va_append(entry, take_ptr(result)) < 0)
		return NULL;
	return take_ptr(entry);
}

static int multicall(struct va_call *call, struct va_value **ret)
{
	const struct va_value *calls = va_item(call->params, 0);
	size_t n = va_count(calls), room = VA_XML_MAX - VA_XML_MAX / 16;
	int r = 0;

	if (n > VA_MULTICALL_MAX)
		return va_fault(call, VA_FAULT_LIMIT, EMSGSIZE,
				"system.multicall of %zu calls, limit %u", n,
				VA_MULTICALL_MAX);
	*ret = va_array();
	for (size_t i = 0; i < n && r == 0; i++) {
		if (caller_gone(call))
			return va_fault(call, VA_FAULT_CANCELLED, ECANCELED,
					"the caller went after %zu calls", i);
		r = va_append(*ret,
			      multicall_entry(call, va_item(calls, i), &room));
	}
	return r;
}

static const struct va_method methods[] = {
	{ .name = "system.listMethods", .signature = "A:", .args = "",
	  .cls = VA_CLASS_INFO, .fn = list_methods,
	  .help = "Names of all methods, sorted.",
	  .flags = VA_M_IDEMPOTENT | VA_M_QUIET },
	{ .name = "system.methodExist", .signature = "b:s", .args = "METHOD",
	  .cls = VA_CLASS_INFO, .fn = method_exist,
	  .help = "Is there a method of that name?",
	  .flags = VA_M_IDEMPOTENT | VA_M_QUIET },
	{ .name = "system.methodHelp", .signature = "s:s", .args = "METHOD",
	  .cls = VA_CLASS_INFO, .fn = method_help,
	  .help = "Arguments and description of a method, as text.",
	  .flags = VA_M_IDEMPOTENT | VA_M_QUIET },
	{ .name = "system.methodInfo", .signature = "S:s", .args = "METHOD",
	  .cls = VA_CLASS_INFO, .fn = method_info,
	  .help = "A method's row: signature, class, flags, help, allowed.",
	  .doc = "Returns name, signature (PROTOCOL), args, class, help, flags, "
		 "allowed (by the policy, for this caller) and raw (the member that "
		 "va-client call prints); agent_id as in capabilities.",
	  .flags = VA_M_IDEMPOTENT | VA_M_QUIET },
	{ .name = "system.methodSignature", .signature = "x:s", .args = "METHOD",
	  .cls = VA_CLASS_INFO, .fn = method_signature,
	  .help = "Types of a method's result and parameters.",
	  .doc = "An array of signatures, one for each number of parameters that "
		 "may be given; each is an array of type names, the result's "
		 "first.  A parameter shown as string may also be base64 where the "
		 "help says so.  The string \"undef\" for a method that takes "
		 "values of any type or number.",
	  .flags = VA_M_IDEMPOTENT | VA_M_QUIET },
	{ .name = "system.getCapabilities", .signature = "S:", .args = "",
	  .cls = VA_CLASS_INFO, .fn = get_capabilities,
	  .help = "XML-RPC conventions that the server follows.",
	  .flags = VA_M_IDEMPOTENT | VA_M_QUIET },
	{ .name = "system.multicall", .signature = "A:A", .args = "CALLS",
	  .cls = VA_CLASS_INFO, .fn = multicall,
	  .help = "Makes several calls one after the other.",
	  .doc = "CALLS is an array of structs {methodName, params}, at most 256.  "
		 "The result has one entry for each: an array that holds its "
		 "result, or a struct {faultCode, faultString}.  Each call is "
		 "judged by the policy and recorded on its own.  When the results "
		 "would not fit a document any more, the remaining calls are not "
		 "made and their entries say so." },
};

const struct va_family va_system_family = { methods, sizeof(methods) /
							     sizeof(methods[0]) };
