/*
 * audit.c - one line of the log for each call, at the side that runs it
 *
 * Everything in the line that came from the other side is escaped: the guest's
 * name by whoever configured it, the method by its row, the fault's text here.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/log.h"
#include "virtagent/audit.h"
#include "virtagent/codec.h"

#define DIGEST_SHOWN 16 /* hex digits: enough to tell calls apart */
#define RESULT_SHOWN 160

/* The first digits of the SHA-256 of the arguments' JSON, or "-". */
static void arguments_digest(const struct va_call *call, char hex[DIGEST_HEX])
{
	CLEANUP_BUF struct buf json = BUF_INIT(2 * VA_XML_MAX);

	snprintf(hex, DIGEST_HEX, "-");
	if (!va_count(call->params))
		return;
	if (va_to_json(call->params, false, &json) < 0 ||
	    digest_of(buf_data(&json), buf_len(&json), hex) < 0)
		snprintf(hex, DIGEST_HEX, "-");
	hex[DIGEST_SHOWN] = '\0';
}

static void put_number(char *to, size_t size, uint32_t value)
{
	if (value == UINT32_MAX)
		snprintf(to, size, "-");
	else
		snprintf(to, size, "%u", value);
}

void audit_call(struct va_call *call, int error, uint64_t ns)
{
	const struct va_caller *who = call->caller;
	char digest[DIGEST_HEX], uid[16], gid[16], pid[16];
	char guest[128] = "-", result[RESULT_SHOWN] = "ok";

	if (error >= 0 && (call->method->flags & VA_M_QUIET))
		return;
	arguments_digest(call, digest);
	put_number(uid, sizeof(uid), (uint32_t)who->cred.uid);
	put_number(gid, sizeof(gid), (uint32_t)who->cred.gid);
	put_number(pid, sizeof(pid), (uint32_t)who->cred.pid);
	if (who->guest)
		log_escape(guest, sizeof(guest), who->guest,
			   strlen(who->guest));
	if (error < 0)
		log_escape(result, sizeof(result), call->fault.text,
			   strlen(call->fault.text));
	log_info("call method=%s %s=%s uid=%s gid=%s pid=%s stream=%u args=%s "
		 "ms=%.1f result=%s%d %s", call->method->name,
		 who->remote ? "from-guest" : "from", who->guest ? guest :
		 who->remote ? "host" : "local", uid, gid, pid, who->stream,
		 digest, (double)ns / 1e6, error < 0 ? "fault " : "",
		 error < 0 ? call->fault.code : 0, error < 0 ? result : "");
}
