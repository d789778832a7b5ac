/*
 * kv.c - see kv.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/kv.h"

#include <stdio.h>
#include <string.h>

#include "common/str.h"
#include "virtagent/client/output.h"

DEFINE_FLAG(kv_set_all_, kv_opts, all);
DEFINE_TEXT(kv_set_group_, kv_opts, group);

int kv_set_all(void *ctx, const char *value, char *err, size_t size)
{
	return kv_set_all_(ctx, value, err, size);
}

int kv_set_group(void *ctx, const char *value, char *err, size_t size)
{
	return kv_set_group_(ctx, value, err, size);
}

static bool is_key(const char *word)
{
	return str_starts(word, "host.") || str_starts(word, "user.") ||
	       str_starts(word, "guest.");
}

/* The guest's name, on a host. */
static int find_guest(const struct client *cl, struct kv *kv)
{
	struct target t;
	int code;

	if (cl->guest) {
		snprintf(kv->guest, sizeof(kv->guest), "%s", cl->guest);
		return VAC_OK;
	}
	if (kv->argc && !is_key(kv->argv[0])) {
		snprintf(kv->guest, sizeof(kv->guest), "%s", kv->argv[0]);
		kv->argc--;
		kv->argv++;
		return VAC_OK;
	}
	code = target_resolve(cl, SIDE_GUEST, NULL, &t);
	if (!code)
		snprintf(kv->guest, sizeof(kv->guest), "%s", t.name);
	return code;
}

/* --all, --group: where a guest's name stands, the host takes group:PATTERN. */
static int open_group(const struct client *cl, const struct kv_opts *o,
		      struct kv *kv)
{
	int n;

	if (cl->guest || (o->all && o->group)) {
		out_error(NULL, cl->verb->name, "a guest, --group and --all "
			  "exclude each other");
		return VAC_USAGE;
	}
	if (!target_on_host(cl) || cl->up) {
		out_error(NULL, cl->verb->name, "--group and --all work on a "
			  "host only");
		return VAC_USAGE;
	}
	kv->host = true;
	n = snprintf(kv->guest, sizeof(kv->guest), "group:%s",
		     o->group ? o->group : "*");
	if (n >= (int)sizeof(kv->guest)) {
		out_error(NULL, cl->verb->name, "--group: a pattern of %zu "
			  "bytes is too long", strlen(o->group));
		return VAC_USAGE;
	}
	return rpc_connect(cl, SIDE_HOST, NULL, &kv->r);
}

int kv_open(const struct client *cl, const struct kv_opts *o, int argc,
	    char **argv, bool to_host, struct kv *ret)
{
	int code = VAC_OK;
	bool path;

	*ret = (struct kv){ .argc = argc, .argv = argv };
	if (o && (o->all || o->group))
		return open_group(cl, o, ret);
	if (!cl->guest && argc && str_starts(argv[0], "unix:")) {
		snprintf(ret->guest, sizeof(ret->guest), "%s", argv[0]);
		ret->argc--;
		ret->argv++;
	}
	path = *ret->guest || (cl->guest && str_starts(cl->guest, "unix:"));
	if (path)
		return rpc_connect(cl, SIDE_GUEST, *ret->guest ? ret->guest :
								 NULL, &ret->r);
	ret->host = target_on_host(cl) && !cl->up;
	if (ret->host)
		code = find_guest(cl, ret);
	if (code)
		return code;
	ret->host |= to_host;
	return rpc_connect(cl, ret->host ? SIDE_HOST : SIDE_GUEST, NULL,
			   &ret->r);
}

void kv_close(struct kv *kv)
{
	if (kv->r)
		rpc_free(kv->r);
}

int kv_call(struct kv *kv, const char *what, unsigned flags,
	    struct va_value *params, bool loud, struct va_value **ret)
{
	struct va_value *all = va_array();
	char method[64];
	int bad = 0;

	snprintf(method, sizeof(method), "%s.kv.%s",
		 kv->host ? "host" : "guest", what);
	if (kv->host)
		bad |= va_append(all, va_string(kv->guest));
	for (size_t i = 0; i < va_count(params); i++)
		bad |= va_append(all, va_value_copy(va_item(params, i)));
	bad |= !params;
	va_value_free(params);
	if (bad) {
		va_value_free(all);
		out_error(NULL, method, "out of memory");
		return VAC_ERROR;
	}
	return loud ? rpc_call(kv->r, method, flags, all, ret) :
		      rpc_try(kv->r, method, flags, all, ret);
}

int kv_need(const struct client *cl, const struct kv *kv, int min, int max)
{
	if (kv->argc >= min && (max < 0 || kv->argc <= max))
		return VAC_OK;
	out_error(NULL, cl->verb->name, "usage: " PROGRAM " %s [OPTION...] %s%s",
		  cl->verb->name, cl->verb->usage,
		  kv->host ? "" : "   (no GUEST in a guest)");
	return VAC_USAGE;
}
