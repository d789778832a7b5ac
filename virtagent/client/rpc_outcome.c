/*
 * rpc_outcome.c - see rpc_outcome.h
 *
 * The server answers outcome(id) with a struct:
 *
 *	state     "never", "running", "done", "unknown" (too long ago)
 *	result    the kept result (done)
 *	fault     {code, text} (done, when it ended in a fault)
 *	dropped   true when the reply is not kept any more (done): it ran, but
 *	          how it ended is not known
 *
 * A fault instead of an answer means that this server cannot know: the agent is
 * another one (VA_FAULT_FOREIGN_AGENT) or has no such method.  No answer means
 * that the guest may come back, so the question is repeated, ever more slowly,
 * until the deadline; for ever is not waited even without one.
 *
 * "never" is believed only because the id was ours alone: what is still under
 * way in the channel when the question overtakes it would be refused by the
 * server, which remembers ids it was asked about.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/rpc_outcome.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/uuid.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/rpc.h"
#include "virtagent/fault.h"

#define OUTCOME_FIRST_NS (50 * NSEC_PER_MSEC)
#define OUTCOME_PAUSE_NS NSEC_PER_SEC
#define OUTCOME_SILENCE_NS (60 * NSEC_PER_SEC) /* without a deadline */
#define OUTCOME_ASK_NS (5 * NSEC_PER_SEC)      /* for one question */

int outcome_new_id(const char *agent_id, char ret[OUTCOME_ID_MAX])
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = strlen(agent_id);
	char uuid[UUID_SIZE];
	int e;

	if (!n || strspn(agent_id, allowed) != n || n > OUTCOME_ID_MAX - 40)
		return -EINVAL;
	e = uuid_random(uuid);
	if (e < 0)
		return e;
	snprintf(ret, OUTCOME_ID_MAX, "%s/%s", agent_id, uuid);
	return 0;
}

/* An answer: an exit code, or -1 to ask again. */
static int read_answer(struct va_value *v, struct va_value **ret, int *fault,
		       char *err, size_t size)
{
	const char *state = member_text(v, "state");
	const struct va_value *kept = va_member(v, "fault");

	if (strcmp(state, "running") == 0)
		return -1;
	if (strcmp(state, "never") == 0) {
		snprintf(err, size, "the connection ended before the call "
				    "arrived; it did not run");
		return VAC_NOT_CONNECTED;
	}
	if (strcmp(state, "done") != 0) {
		snprintf(err, size, "the connection ended without a reply, and "
				    "the server cannot say what became of it");
		return VAC_UNKNOWN;
	}
	if (kept) {
		*fault = (int)member_int(kept, "code", VA_FAULT_INTERNAL);
		snprintf(err, size, "%s", member_text(kept, "text"));
		return rpc_fault_exit(*fault);
	}
	if (member_bool(v, "dropped", false) || !va_member(v, "result")) {
		snprintf(err, size, "the connection ended without a reply; it "
				    "ran, but its result is not kept any more");
		return VAC_UNKNOWN;
	}
	*ret = va_value_copy(va_member(v, "result"));
	return *ret ? VAC_OK : VAC_ERROR;
}

int outcome_ask(outcome_ask_fn ask, void *arg, const char *call_id,
		uint64_t deadline_ns, struct va_value **ret, int *fault,
		char *err, size_t err_size)
{
	uint64_t pause = OUTCOME_FIRST_NS, heard = clock_now();

	for (;;) {
		CLEANUP_VALUE struct va_value *v = NULL;
		uint64_t now = clock_now(), until = now + OUTCOME_ASK_NS;
		int code, error;

		if (now >= deadline_ns || now - heard > OUTCOME_SILENCE_NS ||
		    interrupt_seen())
			break;
		*fault = 0;
		error = ask(arg, call_id, until < deadline_ns ? until :
							       deadline_ns,
			    &v, fault);
		if (error == -EREMOTEIO) {
			snprintf(err, err_size, "the connection ended without "
				 "a reply, and %s; whether it ran is not known",
				 *fault == VA_FAULT_FOREIGN_AGENT ?
					 "the agent was restarted" :
					 "this server keeps no outcomes");
			*fault = 0;
			return VAC_UNKNOWN;
		}
		if (!error) {
			heard = clock_now();
			code = read_answer(v, ret, fault, err, err_size);
			if (code >= 0)
				return code;
		}
		until = clock_now() + pause;
		interrupt_sleep_until(until < deadline_ns ? until : deadline_ns);
		pause = pause * 2 < OUTCOME_PAUSE_NS ? pause * 2 :
						       OUTCOME_PAUSE_NS;
	}
	*fault = 0;
	snprintf(err, err_size, "the connection ended without a reply, and "
				"nobody could say in time whether it ran");
	return VAC_UNKNOWN;
}
