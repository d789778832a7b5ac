/*
 * commands.c - guest.commands and guest.command.run
 *
 * Programs that this guest offers by name, for callers that need not be allowed
 * to run any program: policy may block guest.exec.* and leave these.  They run as
 * jobs, as guest.exec.run's do.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/commands.h"
#include "common/str.h"
#include "virtagent/guest/exec_request.h"
#include "virtagent/guest/guest.h"

static int commands(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_array();
	CLEANUP_FREE struct command *list = NULL;
	int n = command_list(guest_context(call)->commands, &list);
	int r = n < 0 ? n : 0;

	for (int i = 0; i < n && r == 0; i++) {
		struct va_value *s = va_struct();

		guest_set(s, "name", va_string(list[i].name), &r);
		if (list[i].description[0])
			guest_set(s, "description", va_string(list[i].description), &r);
		if (list[i].refused[0])
			guest_set(s, "refused", va_string(list[i].refused), &r);
		if (va_append(v, s) < 0)
			r = -ENOMEM;
	}
	if (r == 0)
		*ret = take_ptr(v);
	return r;
}

static int add_env(struct va_call *call, struct exec_request *rq, const char *name,
		   const char *value)
{
	CLEANUP_FREE char *pair = str_printf("%s=%s", name, value);

	return pair ? exec_add_env(call, rq, pair) : -ENOMEM;
}

int guest_command_request(struct va_call *call, const char *name, const char *guest,
			  struct exec_request *rq)
{
	CLEANUP_FREE char *path = NULL;
	char why[256] = "", uid[16] = "", host[256] = "";
	int r = command_find(guest_context(call)->commands, name, &path, why,
			     sizeof(why));

	if (r < 0 && why[0])
		return va_fail(call, -r, "command %s: %s",
			       command_name_valid(name) ? name : "?", why);
	if (r < 0)
		return r;
	if (call->caller->cred.uid != (uid_t)-1)
		snprintf(uid, sizeof(uid), "%u", (unsigned)call->caller->cred.uid);
	if (!guest[0]) {
		gethostname(host, sizeof(host) - 1);
		guest = host;
	}
	r = exec_add_arg(call, rq, path);
	if (r == 0)
		r = add_env(call, rq, "VA_SIDE", "guest");
	if (r == 0)
		r = add_env(call, rq, "VA_GUEST", guest);
	if (r == 0)
		r = add_env(call, rq, "NEGOTIATOR_GUEST", guest);
	if (r == 0)
		r = add_env(call, rq, "VA_CALLER", uid);
	return r;
}

static int set_option(struct va_call *call, struct exec_request *rq, const char *name,
		      const struct va_value *v)
{
	double seconds;

	if (!strcmp(name, "guest"))
		return 0; /* taken before: it is part of the environment */
	if (!strcmp(name, "input"))
		return exec_set_input(call, rq, v);
	if (strcmp(name, "timeout") != 0)
		return va_fail(call, EINVAL, "there is no option \"%s\" (input, "
			       "timeout, guest)", name);
	if (va_get_double(v, &seconds) < 0)
		return va_fail(call, EINVAL, "option timeout: needs seconds");
	return exec_set_timeout(call, rq, seconds);
}

static int from_params(struct va_call *call, struct exec_request *rq)
{
	const struct va_value *options = va_item(call->params, 2);
	const char *name = "", *guest = "";
	int r = va_arg_text(call, 0, "", &name);

	if (options && va_member(options, "guest") &&
	    va_get_string(va_member(options, "guest"), &guest) < 0)
		return va_fail(call, EINVAL, "option guest: needs a name");
	if (r == 0)
		r = guest_command_request(call, name, guest, rq);
	if (r == 0)
		r = exec_add_args(call, rq, va_item(call->params, 1));
	for (size_t i = 0; options && i < va_count(options) && r == 0; i++) {
		const char *key;
		const struct va_value *v = va_member_at(options, i, &key);

		r = set_option(call, rq, key, v);
	}
	return r;
}

static int command_run(struct va_call *call, struct va_value **ret)
{
	CLEANUP_FREE struct exec_request *rq = calloc(1, sizeof(*rq));
	int r = rq ? from_params(call, rq) : -ENOMEM;

	if (r == 0)
		r = guest_run_job(call, rq, ret);
	if (rq)
		exec_request_done(rq);
	return r;
}

static const struct va_method rows[] = {
	{
		.name = "guest.commands",
		.signature = "A:",
		.args = "",
		.cls = VA_CLASS_READ,
		.fn = commands,
		.help = "The commands that this guest offers.",
		.doc = "They are the executable files of the directories that "
		       "agent.conf names (commands, by default "
		       "/usr/lib/virtagent/commands).  An array of structs: name, "
		       "description where the script has one (a comment as its "
		       "second line), and for a file that would not run refused, "
		       "the reason.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "guest.command.run",
		.signature = "S:t|AS",
		.args = "NAME [ARGS [OPTIONS]]",
		.cls = VA_CLASS_EXEC,
		.fn = command_run,
		.raw = "stdout",
		.help = "Run a command that this guest offers.",
		.doc = "No shell is involved.  OPTIONS is a struct: input (bytes for "
		       "its stdin, empty by default), timeout (seconds; then TERM and "
		       "2 s later KILL go to the whole process group), guest (the "
		       "name that the caller knows this guest by, for VA_GUEST).  "
		       "Environment: VA_SIDE (guest), VA_GUEST and NEGOTIATOR_GUEST "
		       "(the option or the host name), VA_CALLER (the caller's uid at "
		       "his side).  Returns the job's struct (guest.exec.status) "
		       "with stdout and stderr, the last 1 MiB of each.  A file that "
		       "others than its owner may write, that is no executable "
		       "file of that very directory or belongs to another user than "
		       "root or the agent's is refused.  It is killed when the caller "
		       "leaves.",
	},
};

const struct va_family guest_commands_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
