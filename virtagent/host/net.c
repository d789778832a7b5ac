/*
 * net.c - host.connect: may a guest reach that through this host
 *
 * The connections themselves are an HTTP form (hostd_forward.c), which is judged
 * and recorded as this method.  Called plainly, it only tries.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "virtagent/connect.h"
#include "virtagent/host/host.h"

static int check(struct va_call *call, const struct connect_to *to)
{
	return host_context(call)->check_connect(call, to->asked, to->real);
}

int host_connect(struct va_call *call, const char *target, struct connect_to *to,
		 int *ret_fd)
{
	return connect_target(call, target, check, to, ret_fd);
}

static int connect_row(struct va_call *call, struct va_value **ret)
{
	CLEANUP_FREE struct connect_to *to = malloc(sizeof(*to));
	CLEANUP_VALUE struct va_value *v = va_struct();
	CLEANUP_CLOSE int fd = -1;
	uint64_t began = clock_now();
	const char *target;
	int err = to && v ? va_arg_text(call, 0, "", &target) : -ENOMEM;

	if (err == 0)
		err = host_connect(call, target, to, &fd);
	if (err == 0)
		err = va_set(v, "address", to->path ? va_bytes(to->real, strlen(to->real)) :
				 va_string(to->real));
	if (err == 0)
		err = va_set(v, "seconds", va_double((double)(clock_now() - began) / 1e9));
	if (err == 0)
		*ret = take_ptr(v);
	return err;
}

static const struct va_method methods[] = {
	{
		.name = "host.connect",
		.signature = "S:t",
		.args = "TARGET",
		.cls = VA_CLASS_NET,
		.fn = connect_row,
		.help = "try whether a target can be connected to through the host",
		.doc = "TARGET is HOST:PORT, PORT (of the host itself) or unix:PATH; HOST an "
		       "address or a name in the host's /etc/hosts.  A guest reaches what "
		       "its policy's connect lines name, and nothing without them.  The "
		       "connection is closed again.  A struct: address (what was connected "
		       "to), seconds.  GET /connect keeps the connection and forwards it "
		       "(PROTOCOL, section 7; va-client forward in the guest), judged and "
		       "recorded as this method.",
		.flags = VA_M_IDEMPOTENT,
	},
};

const struct va_family host_net_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
