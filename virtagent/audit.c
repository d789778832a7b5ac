/*
 * audit.c - one line of the log for each call, at the side that runs it
 *
 * What came from the other side is escaped: the fault's text here; a guest's name
 * was checked when it was configured, the method's name is a row's.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/log.h"
#include "virtagent/audit.h"

/* Hex digits of the digest that are shown: enough to tell calls apart. */
#define DIGEST_SHOWN 16

/* A value's type, length and bytes, so that no two different ones read alike. */
static void digest_value(struct digest *d, const struct va_value *v)
{
	const void *bytes;
	size_t n = va_count(v);
	bool text = va_get_bytes(v, &bytes, &n) == 0;
	uint64_t head[2] = { va_typeof(v), n };
	int64_t i;
	double f;
	bool b;

	digest_add(d, head, sizeof(head));
	if (text)
		digest_add(d, bytes, n);
	else if (va_typeof(v) == VA_INT && va_get_int(v, &i) == 0)
		digest_add(d, &i, sizeof(i));
	else if (va_typeof(v) == VA_BOOL && va_get_bool(v, &b) == 0)
		digest_add(d, &b, sizeof(b));
	else if (va_typeof(v) == VA_DOUBLE && va_get_double(v, &f) == 0)
		digest_add(d, &f, sizeof(f));
}

/* Depth is at most VA_XML_DEPTH_MAX: the validator saw to that. */
static void digest_tree(struct digest *d, const struct va_value *v)
{
	const char *name;

	digest_value(d, v);
	for (size_t i = 0; i < va_count(v); i++) {
		if (va_typeof(v) == VA_STRUCT) {
			const struct va_value *m = va_member_at(v, i, &name);

			digest_add(d, name, strlen(name) + 1);
			digest_tree(d, m);
		} else {
			digest_tree(d, va_item(v, i));
		}
	}
}

static void format_who(const struct va_caller *c, char *ret, size_t size)
{
	const char *side = c->guest ? "guest " : c->remote ? "host" : "local";
	size_t n = (size_t)snprintf(ret, size, "%s%s", side,
				    c->guest ? c->guest : "");

	if (c->cred.uid != (uid_t)-1 && n < size)
		n += (size_t)snprintf(ret + n, size - n, " uid=%lu",
				      (unsigned long)c->cred.uid);
	if (c->cred.pid != (pid_t)-1 && n < size)
		n += (size_t)snprintf(ret + n, size - n, " pid=%ld",
				      (long)c->cred.pid);
	if (c->stream && n < size)
		snprintf(ret + n, size - n, " stream=%u", c->stream);
}

void audit_call(struct va_call *call, int error, uint64_t ns)
{
	char who[384], hex[DIGEST_HEX] = "-", result[160] = "ok";
	struct digest *d;

	if ((call->method->flags & VA_M_QUIET) && error == 0)
		return;
	if (log_get_level() < LOG_LVL_INFO)
		return;
	format_who(call->caller, who, sizeof(who));
	d = digest_new();
	if (d) {
		digest_tree(d, call->params);
		digest_finish(d, hex);
	}
	if (error < 0) {
		int n = snprintf(result, sizeof(result), "fault %d: ",
				 call->fault.code);

		log_escape(result + n, sizeof(result) - (size_t)n,
			   call->fault.text, strlen(call->fault.text));
	}
	log_info("call %s: %s args=%.*s %.1f ms: %s", call->method->name, who,
		 DIGEST_SHOWN, hex, (double)ns / (double)NSEC_PER_MSEC, result);
}
