/*
 * sock_tcp.c - see sock.h: addresses, listening and connecting by TCP
 *
 * sock_tcp_numeric() reads /etc/hosts itself: a static program can load no
 * name-service module, and a name server may take long to answer.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/seal.h"

static int gai_errno(int r)
{
	switch (r) {
	case EAI_SYSTEM:
		return -errno;
	case EAI_MEMORY:
		return -ENOMEM;
	case EAI_AGAIN:
		return -EAGAIN;
	default:
		return -EADDRNOTAVAIL;
	}
}

static void freeaddrinfo_p(struct addrinfo **ai)
{
	if (*ai)
		freeaddrinfo(*ai);
}

/* One address, made ready: listening, or with its connect() under way. */
static int tcp_one(const struct addrinfo *ai, bool listening)
{
	CLEANUP_CLOSE int fd = socket(ai->ai_family,
				      ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
				      ai->ai_protocol);
	int on = 1;

	if (fd < 0)
		return -errno;
	if (listening) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (ai->ai_family == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
		if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
		    listen(fd, SOCK_BACKLOG) < 0)
			return -errno;
	} else {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (connect(fd, seal_data(ai->ai_addr, ai->ai_addrlen),
			    ai->ai_addrlen) < 0 &&
		    errno != EINPROGRESS)
			return -errno;
	}
	return take_fd(fd);
}

/* Tries the addresses in turn; a connect that is refused only later is not
 * followed by the next address. */
static int tcp_open(const char *host, const char *port, bool listening)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = listening ? AI_PASSIVE : 0 };
	CLEANUP(freeaddrinfo_p) struct addrinfo *list = NULL;
	int r = getaddrinfo(*host ? host : NULL, port, &hints, &list);

	if (r != 0)
		return gai_errno(r);
	r = -EADDRNOTAVAIL;
	for (const struct addrinfo *ai = list; ai; ai = ai->ai_next) {
		r = tcp_one(ai, listening);
		if (r >= 0)
			break;
	}
	return r;
}

int sock_tcp_resolve(const char *host, const char *port, char *addr, size_t size)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	CLEANUP(freeaddrinfo_p) struct addrinfo *list = NULL;
	int r;

	if (!*host) { /* every address, or this host: stays as it is */
		*addr = 0;
		return 0;
	}
	r = getaddrinfo(host, port, &hints, &list);
	if (r == 0)
		r = getnameinfo(list->ai_addr, list->ai_addrlen, addr, (socklen_t)size,
				NULL, 0, NI_NUMERICHOST);
	return r == 0 ? 0 : gai_errno(r);
}

int sock_tcp_listen(const char *host, const char *port)
{
	return tcp_open(host, port, true);
}

int sock_tcp_connect(const char *host, const char *port)
{
	return tcp_open(host, port, false);
}

static bool is_address(const char *text)
{
	struct in6_addr raw;

	return inet_pton(AF_INET, text, &raw) == 1 ||
	       inet_pton(AF_INET6, text, &raw) == 1;
}

/* A line of /etc/hosts; true when it names host.  Cuts the line up. */
static bool hosts_line(char *line, const char *host, char *addr, size_t size)
{
	static const char blank[] = " \t\r\n";
	char *save = NULL, *first, *name;

	line[strcspn(line, "#")] = 0;
	first = strtok_r(line, blank, &save);
	if (!first || !is_address(first))
		return false;
	while ((name = strtok_r(NULL, blank, &save)))
		if (strcasecmp(name, host) == 0)
			return (size_t)snprintf(addr, size, "%s", first) < size;
	return false;
}

int sock_tcp_numeric(const char *host, char *addr, size_t size)
{
	CLEANUP_FCLOSE FILE *f = NULL;
	char line[1024];

	if (is_address(host))
		return (size_t)snprintf(addr, size, "%s", host) < size ? 0 : -ENAMETOOLONG;
	f = fopen("/etc/hosts", "re");
	while (f && fgets(line, sizeof(line), f))
		if (hosts_line(line, host, addr, size))
			return 0;
	if (strcasecmp(host, "localhost") != 0)
		return -ENOENT;
	snprintf(addr, size, "127.0.0.1");
	return 0;
}

int sock_host_port(const char *text, char *host, size_t size, const char **port)
{
	const char *colon = strrchr(text, ':'), *from = text, *end = colon;

	if (!colon) { /* a port alone */
		*host = 0;
		*port = text;
		return *text ? 0 : -EINVAL;
	}
	if (*text == '[') {
		if (colon == text || colon[-1] != ']')
			return -EINVAL;
		from++;
		end--;
	} else if (memchr(text, ':', (size_t)(colon - text))) {
		return -EINVAL; /* an IPv6 address needs brackets */
	}
	if (end < from || (size_t)(end - from) >= size)
		return -EINVAL;
	memcpy(host, from, (size_t)(end - from));
	host[end - from] = 0;
	*port = colon + 1;
	return **port ? 0 : -EINVAL;
}

int sock_tcp_seal(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	CLEANUP(freeaddrinfo_p) struct addrinfo *list = NULL;
	int r = getaddrinfo(*host ? host : NULL, port, &hints, &list);

	if (r != 0)
		return gai_errno(r);
	for (const struct addrinfo *ai = list; r == 0 && ai; ai = ai->ai_next)
		r = seal_add(SEAL_CONNECT, ai->ai_addr, ai->ai_addrlen);
	return r;
}
