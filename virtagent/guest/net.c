/*
 * net.c - guest.connect, guest.listen: may it be reached, may it be listened on
 *
 * The connections themselves are HTTP forms (agent_forward.c), which are judged
 * and recorded as these methods.  Called plainly, a method only tries.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/sock.h"
#include "virtagent/guest/guest.h"

static int check(struct va_call *call, const struct connect_to *to)
{
	struct guest_context *ctx = guest_context(call);
	int r = to->path ? ctx->check_path(call, to->path) : 0;

	return r < 0 ? r : ctx->check_connect(call, to->asked, to->real);
}

int guest_connect(struct va_call *call, const char *target, struct connect_to *to,
		  int *ret_fd)
{
	return connect_target(call, target, check, to, ret_fd);
}

static int bound_address(int fd, char *ret, size_t size)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a;
	socklen_t len = sizeof(a);
	char text[INET6_ADDRSTRLEN];

	if (getsockname(fd, &a.any, &len) < 0)
		return -errno;
	if (a.any.sa_family == AF_INET6)
		snprintf(ret, size, "[%s]:%u",
			 inet_ntop(AF_INET6, &a.v6.sin6_addr, text, sizeof(text)),
			 ntohs(a.v6.sin6_port));
	else
		snprintf(ret, size, "%s:%u",
			 inet_ntop(AF_INET, &a.v4.sin_addr, text, sizeof(text)),
			 ntohs(a.v4.sin_port));
	return 0;
}

int guest_listen(struct va_call *call, const char *at, char *address, size_t size,
		 int *ret_fd)
{
	CLEANUP_CLOSE int fd = -1;
	char host[256], addr[64], shown[100];
	const char *port;
	int r = sock_host_port(at, host, sizeof(host), &port);

	log_escape(shown, sizeof(shown), at, strlen(at));
	if (r < 0 || strspn(port, "0123456789") != strlen(port))
		return va_fail(call, EINVAL, "%s: needs [ADDRESS:]PORT", shown);
	if (sock_tcp_numeric(*host ? host : "127.0.0.1", addr, sizeof(addr)) < 0)
		return va_fail(call, ENOENT, "%s: no such host: needs an address or a name "
			       "in /etc/hosts", shown);
	fd = sock_tcp_listen(addr, port);
	r = fd < 0 ? fd : bound_address(fd, address, size);
	if (r < 0)
		return va_fail(call, -r, "%s: cannot listen: %s", shown, strerror(-r));
	*ret_fd = take_fd(fd);
	return 0;
}

static int connect_row(struct va_call *call, struct va_value **ret)
{
	CLEANUP_FREE struct connect_to *to = malloc(sizeof(*to));
	CLEANUP_VALUE struct va_value *v = va_struct();
	CLEANUP_CLOSE int fd = -1;
	uint64_t began = clock_now();
	const char *target;
	int r = to ? va_arg_text(call, 0, "", &target) : -ENOMEM;

	if (r == 0)
		r = guest_connect(call, target, to, &fd);
	if (r < 0)
		return r;
	guest_set(v, "address", to->path ? va_bytes(to->real, strlen(to->real)) :
				  va_string(to->real), &r);
	guest_set(v, "seconds", va_double((double)(clock_now() - began) / 1e9), &r);
	return guest_give(&v, r, ret);
}

static int listen_row(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	CLEANUP_CLOSE int fd = -1;
	char address[80];
	const char *at;
	int r = va_arg_text(call, 0, "", &at);

	if (r == 0)
		r = guest_listen(call, at, address, sizeof(address), &fd);
	if (r < 0)
		return r;
	guest_set(v, "address", va_string(address), &r);
	return guest_give(&v, r, ret);
}

static const struct va_method rows[] = {
	{
		.name = "guest.connect",
		.signature = "S:t",
		.args = "TARGET",
		.cls = VA_CLASS_NET,
		.fn = connect_row,
		.help = "Try whether a target can be connected to from the guest.",
		.doc = "TARGET is HOST:PORT, PORT (of the guest itself) or unix:PATH; HOST an "
		       "address or a name in the guest's /etc/hosts.  The connection is "
		       "closed again.  A struct: address (what was connected to), seconds.  "
		       "GET /connect keeps the connection and forwards it (PROTOCOL, "
		       "section 7; va-client forward), judged and recorded as this method.",
		.flags = VA_M_IDEMPOTENT,
	},
	{
		.name = "guest.listen",
		.signature = "S:t",
		.args = "[ADDRESS:]PORT",
		.cls = VA_CLASS_NET,
		.fn = listen_row,
		.help = "Try whether an address of the guest can be listened on.",
		.doc = "Without ADDRESS it is 127.0.0.1; port 0 is any free one.  The socket "
		       "is closed again.  A struct: address.  GET /listen and GET /accept "
		       "forward what connects there to the host (PROTOCOL, section 7; "
		       "va-client forward --reverse), judged and recorded as this method.",
		.flags = VA_M_IDEMPOTENT,
	},
};

const struct va_family guest_net_family = { rows, sizeof(rows) / sizeof(rows[0]) };
