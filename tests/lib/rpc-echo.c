/*
 * rpc-echo.c - a small server of our own HTTP and XML-RPC code, for stock
 * clients to be held against: the methods of UserLand's "Validator1" suite, an
 * echo, a slow method
 *
 *   rpc-echo SOCKET
 *
 * Prints "ready" when it listens and ends with its stdin.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/sock.h"
#include "virtagent/rpc_server.h"

static int64_t int_member(const struct va_value *strct, const char *name)
{
	int64_t v = 0;

	va_get_int(va_member(strct, name), &v);
	return v;
}

static int array_of_structs(struct va_call *call, struct va_value **ret)
{
	const struct va_value *list = va_item(call->params, 0);
	int64_t sum = 0;

	for (size_t i = 0; i < va_count(list); i++)
		sum += int_member(va_item(list, i), "curly");
	*ret = va_int(sum);
	return 0;
}

static int count_entities(struct va_call *call, struct va_value **ret)
{
	static const struct {
		const char *name;
		char c;
	} rows[] = {
		{ "ctLeftAngleBrackets", '<' }, { "ctRightAngleBrackets", '>' },
		{ "ctAmpersands", '&' },	{ "ctApostrophes", '\'' },
		{ "ctQuotes", '"' },
	};
	const char *text = "";
	int r = va_arg_string(call, 0, "", &text);

	*ret = va_struct();
	for (size_t i = 0; i < 5 && r == 0; i++) {
		int64_t n = 0;

		for (const char *p = text; *p; p++)
			n += *p == rows[i].c;
		r = va_set(*ret, rows[i].name, va_int(n));
	}
	return r;
}

static int easy_struct(struct va_call *call, struct va_value **ret)
{
	const struct va_value *s = va_item(call->params, 0);

	*ret = va_int(int_member(s, "moe") + int_member(s, "larry") +
		      int_member(s, "curly"));
	return 0;
}

static int echo(struct va_call *call, struct va_value **ret)
{
	*ret = va_value_copy(va_item(call->params, 0));
	return *ret ? 0 : -ENOMEM;
}

static int many_types(struct va_call *call, struct va_value **ret)
{
	*ret = va_value_copy(call->params);
	return *ret ? 0 : -ENOMEM;
}

static int moderate_array(struct va_call *call, struct va_value **ret)
{
	const struct va_value *list = va_item(call->params, 0);
	CLEANUP_BUF struct buf both = BUF_INIT(1 << 20);
	const char *first = "", *last = "";

	if (va_get_string(va_item(list, 0), &first) < 0 ||
	    va_get_string(va_item(list, va_count(list) - 1), &last) < 0)
		return va_fail(call, EINVAL, "not an array of strings");
	if (buf_puts(&both, first) < 0 || buf_puts(&both, last) < 0)
		return -EMSGSIZE;
	*ret = va_string_n((const char *)buf_data(&both), buf_len(&both));
	return 0;
}

static int nested_struct(struct va_call *call, struct va_value **ret)
{
	const struct va_value *v = va_item(call->params, 0);
	static const char *const path[] = { "2000", "04", "01" };

	for (size_t i = 0; i < 3; i++)
		v = va_member(v, path[i]);
	*ret = va_int(int_member(v, "moe") + int_member(v, "larry") +
		      int_member(v, "curly"));
	return 0;
}

static int simple_struct(struct va_call *call, struct va_value **ret)
{
	static const struct {
		const char *name;
		int64_t factor;
	} rows[] = { { "times10", 10 }, { "times100", 100 }, { "times1000", 1000 } };
	int64_t n = 0;
	int r = va_arg_int(call, 0, 0, INT32_MIN, INT32_MAX, &n);

	*ret = va_struct();
	for (size_t i = 0; i < 3 && r == 0; i++)
		r = va_set(*ret, rows[i].name, va_int(n * rows[i].factor));
	return r;
}

static int fail(struct va_call *call, struct va_value **ret)
{
	return va_fail(call, ENOENT, "/nope: no such file");
}

/* Until the caller goes. */
static int hang(struct va_call *call, struct va_value **ret)
{
	struct pollfd p = { .fd = call->cancel_fd, .events = POLLIN };

	poll(&p, 1, -1);
	return -ECANCELED;
}

#define ROW(method_name, sig, function, c)                                     \
	{ .name = method_name, .signature = sig, .args = "...", .cls = c,      \
	  .fn = function, .help = "For interoperability tests." }
#define V1(method_name, sig, function)                                         \
	ROW("validator1." method_name, sig, function, VA_CLASS_READ)

static const struct va_method rows[] = {
	V1("arrayOfStructsTest", "i:A", array_of_structs),
	V1("countTheEntities", "S:s", count_entities),
	V1("easyStructTest", "i:S", easy_struct),
	V1("echoStructTest", "S:S", echo),
	V1("manyTypesTest", "A:ibsdx6", many_types),
	V1("moderateSizeArrayCheck", "s:A", moderate_array),
	V1("nestedStructTest", "i:S", nested_struct),
	V1("simpleStructReturnTest", "S:i", simple_struct),
	ROW("t.echo", "x:x", echo, VA_CLASS_INFO),
	ROW("t.fail", "n:", fail, VA_CLASS_READ),
	ROW("t.hang", "n:", hang, VA_CLASS_READ),
	ROW("t.optional", "A:s|it", many_types, VA_CLASS_READ),
};

static struct codec_registry *registry;

static int rpc(struct http_request *rq, void *context)
{
	const struct va_call tmpl = { .context = context };

	return rpc_serve(rq, registry, &tmpl);
}

static const struct http_route routes[] = { RPC_ROUTE(rpc) };

static void serve(struct http_server *s, int listener)
{
	const struct va_caller nobody = { .cred = PEER_CRED_UNKNOWN };
	struct pollfd p[] = { { 0, POLLIN, 0 }, { listener, POLLIN, 0 } };

	while (poll(p, 2, -1) >= 0 && !p[0].revents) {
		int fd = sock_accept(listener);

		if (fd >= 0)
			http_server_adopt(s, fd, &nobody);
	}
}

int main(int argc, char **argv)
{
	const struct va_family family = VA_FAMILY(rows);
	const struct http_config cfg = { .routes = routes, .nroutes = 1 };
	struct http_server *s;
	int listener;

	signal(SIGPIPE, SIG_IGN);
	codec_global_init();
	registry = codec_registry_new(&family, 1, NULL, NULL);
	s = http_server_new(&cfg);
	listener = argc == 2 ? sock_unix_listen(argv[1], (gid_t)-1) : -EINVAL;
	if (!registry || !s || listener < 0) {
		fprintf(stderr, "rpc-echo: cannot serve at %s: %s\n",
			argc == 2 ? argv[1] : "?", strerror(-listener));
		return 1;
	}
	puts("ready");
	fflush(stdout);
	serve(s, listener);
	http_server_free(s);
	codec_registry_free(registry);
	close(listener);
	return 0;
}
