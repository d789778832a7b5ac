/*
 * verb_kv.c - kv set, kv get, kv list, kv unset, kv exists
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/str.h"
#include "virtagent/client/kv.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/fault.h"
#include "virtagent/keys_common.h"

/* --- set, unset --------------------------------------------------------------- */

#define SYNC_SLACK_NS (5 * NSEC_PER_SEC)

struct set_opts {
	struct kv_opts whose;
	bool sync, secret, write, no_read, rev_given;
	uint64_t revision;
	const char *lifetime;
};

DEFINE_FLAG(set_sync, set_opts, sync);
DEFINE_FLAG(set_secret, set_opts, secret);
DEFINE_FLAG(set_write, set_opts, write);
DEFINE_FLAG(set_no_read, set_opts, no_read);
DEFINE_TEXT(set_lifetime, set_opts, lifetime);

static int set_if_revision(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;
	struct set_opts *o = cl->opts;

	o->rev_given = true;
	if (!str_to_u64(value, INT64_MAX, &o->revision))
		return 0;
	snprintf(err, size, "%s is no revision", value);
	return -EINVAL;
}

#define CHANGE_ROWS                                                            \
	{ 0, "if-revision", "N", "only if each key is at revision N (0: "      \
	  "absent); else exit 1", set_if_revision },                           \
	{ 0, "sync", NULL, "wait until the other side has it", set_sync },     \
	KV_GROUP_ROWS

static const struct option_row unset_rows[] = { CHANGE_ROWS, CLIENT_ROWS };

static const struct option_row set_rows[] = {
	CHANGE_ROWS,
	{ 0, "secret", NULL, "root's alone, and in no list", set_secret },
	{ 0, "write", NULL, "the guest may change it", set_write },
	{ 0, "no-read", NULL, "the guest does not get it", set_no_read },
	{ 0, "lifetime", "L", "persistent, poweroff or reset", set_lifetime },
	CLIENT_ROWS,
};

static struct va_value *make_options(const struct client *cl, bool set)
{
	const struct set_opts *o = cl->opts;
	CLEANUP_VALUE struct va_value *v = va_struct();
	int bad = 0;

	if (o->rev_given)
		bad |= va_set(v, "if_revision", va_int((int64_t)o->revision));
	if (o->sync)
		bad |= va_set(v, "sync", va_bool(true));
	if (o->sync && cl->timeout_given && cl->timeout_ns)
		bad |= va_set(v, "timeout",
			      va_double((double)cl->timeout_ns * 1e-9));
	if (set && (o->secret || o->write || o->no_read)) {
		bad |= va_set(v, "secret", va_bool(o->secret));
		bad |= va_set(v, "write", va_bool(o->write));
		bad |= va_set(v, "read", va_bool(!o->no_read));
	}
	if (set && o->lifetime)
		bad |= va_set(v, "lifetime", va_string(o->lifetime));
	return bad ? NULL : take_ptr(v);
}

static int finish_change(struct kv *kv, const char *what, struct va_value *keys,
			 const struct client *cl)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params = va_array();
	const struct set_opts *o = cl->opts;
	int code;

	if (va_append(params, keys) |
	    va_append(params, make_options(cl, strcmp(what, "set") == 0)))
		va_value_free(take_ptr(params));
	/* A little longer than --sync, so that it is the other side that says
	 * what is missing. */
	if (o->sync && cl->timeout_given && cl->timeout_ns)
		rpc_set_deadline(kv->r, clock_now() + cl->timeout_ns +
						SYNC_SLACK_NS);
	/* With a condition the second of two copies would find what the first
	 * has done, and say no. */
	code = kv_call(kv, what, o->rev_given ? 0 : RPC_IDEMPOTENT, params, true, &v);
	if (code == VAC_ERROR && rpc_fault(kv->r) == VA_FAULT_ERRNO + EAGAIN)
		return VAC_FALSE;
	if (!code && cl->json)
		code = out_json(cl, v) < 0 ? VAC_ERROR : VAC_OK;
	return code;
}

/* Standard input as a value. */
static struct va_value *read_input(const char *key)
{
	CLEANUP_BUF struct buf b = BUF_INIT(KEY_VALUE_MAX + 1);
	ssize_t n;

	while ((n = buf_read_fd(&b, 0, KEY_VALUE_MAX + 1)) > 0)
		;
	if (n == -EMSGSIZE || buf_len(&b) > KEY_VALUE_MAX) {
		out_error(NULL, "kv set", "key %s: more than %u bytes", key,
			  KEY_VALUE_MAX);
		return NULL;
	}
	if (n < 0) {
		out_error(NULL, "kv set", "standard input: %s", strerror((int)-n));
		return NULL;
	}
	return va_bytes(buf_data(&b), buf_len(&b));
}

/* KEY=VALUE..., KEY VALUE, or KEY - */
static int take_words(const struct kv *kv, struct va_value *keys)
{
	const char *second = kv->argc == 2 ? kv->argv[1] : NULL;

	if (second && !strchr(kv->argv[0], '=')) {
		struct va_value *v = strcmp(second, "-") ?
					     va_bytes(second, strlen(second)) :
					     read_input(kv->argv[0]);

		return va_set(keys, kv->argv[0], v) ? VAC_ERROR : VAC_OK;
	}
	for (int i = 0; i < kv->argc; i++) {
		const char *word = kv->argv[i], *eq = strchr(word, '=');
		CLEANUP_FREE char *name = eq ? strndup(word, (size_t)(eq - word)) :
					       NULL;

		if (!eq) {
			out_error(NULL, "kv set", "%s is not KEY=VALUE", word);
			return VAC_USAGE;
		}
		if (!name || va_set(keys, name, va_bytes(eq + 1, strlen(eq + 1))))
			return VAC_ERROR;
	}
	return VAC_OK;
}

static bool names_user(int argc, char **argv)
{
	return argc && str_starts(argv[0], "user.");
}

static int run_set(struct client *cl, int argc, char **argv)
{
	CLEANUP(kv_close) struct kv kv = { 0 };
	CLEANUP_VALUE struct va_value *keys = va_struct();
	int code = kv_open(cl, cl->opts, argc, argv, names_user(argc, argv),
			   &kv);

	if (!code)
		code = kv_need(cl, &kv, 1, -1);
	if (!code)
		code = take_words(&kv, keys);
	return code ? code : finish_change(&kv, "set", take_ptr(keys), cl);
}

static int run_unset(struct client *cl, int argc, char **argv)
{
	CLEANUP(kv_close) struct kv kv = { 0 };
	CLEANUP_VALUE struct va_value *keys = va_array();
	int code = kv_open(cl, cl->opts, argc, argv, names_user(argc, argv),
			   &kv);

	if (!code)
		code = kv_need(cl, &kv, 1, -1);
	for (int i = 0; !code && i < kv.argc; i++)
		code = va_append(keys, va_string(kv.argv[i])) ? VAC_ERROR : 0;
	return code ? code : finish_change(&kv, "unset", take_ptr(keys), cl);
}

/* --- get, exists ---------------------------------------------------------------- */

static const struct option_row read_rows[] = { KV_GROUP_ROWS, CLIENT_ROWS };
static const struct option_row plain_rows[] = { CLIENT_ROWS };

static int run_get(struct client *cl, int argc, char **argv)
{
	CLEANUP(kv_close) struct kv kv = { 0 };
	CLEANUP_VALUE struct va_value *v = NULL;
	struct out_stream out;
	const void *data;
	size_t n;
	int code = kv_open(cl, cl->opts, argc, argv, false, &kv);

	if (!code)
		code = kv_need(cl, &kv, 1, 1);
	if (!code)
		code = kv_call(&kv, "get", RPC_IDEMPOTENT, rpc_params(kv.argv[0], NULL), true,
			       &v);
	if (code)
		return code;
	if (cl->json)
		return out_json(cl, v) ? VAC_ERROR : VAC_OK;
	if (va_get_bytes(va_member(v, "value"), &data, &n)) {
		out_error(rpc_target(kv.r)->name, "kv get", "no value came");
		return VAC_ERROR;
	}
	out_stream_init(&out, cl, stdout);
	if (out_stream_write(&out, data, n) || out_stream_end(&out))
		return VAC_ERROR;
	return VAC_OK;
}

static int run_exists(struct client *cl, int argc, char **argv)
{
	CLEANUP(kv_close) struct kv kv = { 0 };
	CLEANUP_VALUE struct va_value *v = NULL;
	bool there = false;
	int code = kv_open(cl, cl->opts, argc, argv, false, &kv);

	if (!code)
		code = kv_need(cl, &kv, 1, 1);
	if (!code)
		code = kv_call(&kv, "exists", RPC_IDEMPOTENT, rpc_params(kv.argv[0], NULL), true,
			       &v);
	if (code)
		return code;
	va_get_bool(v, &there);
	return there ? VAC_OK : VAC_FALSE;
}

/* --- list ------------------------------------------------------------------------ */

static int print_key(const struct client *cl, const struct va_value *key)
{
	const char *name = member_text(key, "name");

	if (cl->json)
		return out_json(cl, key);
	if (out_text(cl, name, strlen(name)) || putchar('\n') == EOF)
		return -EIO;
	return 0;
}

static int run_list(struct client *cl, int argc, char **argv)
{
	CLEANUP(kv_close) struct kv kv = { 0 };
	CLEANUP_FREE char *after = strdup("");
	int code = kv_open(cl, cl->opts, argc, argv, false, &kv);

	if (!code)
		code = kv_need(cl, &kv, 0, 1);
	while (!code && after) {
		CLEANUP_VALUE struct va_value *v = NULL;
		const struct va_value *keys;

		code = kv_call(&kv, "list", RPC_IDEMPOTENT,
			       rpc_params(kv.argc ? kv.argv[0] : "*", after,
					  NULL), true, &v);
		keys = va_member(v, "keys");
		for (size_t i = 0; !code && i < va_count(keys); i++)
			code = print_key(cl, va_item(keys, i)) ? VAC_ERROR : 0;
		free(after);
		after = *member_text(v, "next") ?
				strdup(member_text(v, "next")) : NULL;
	}
	return code;
}

/* --- groups ---------------------------------------------------------------------- */

static int print_group(const struct client *cl, const struct va_value *v)
{
	const char *name = member_text(v, "group");

	if (cl->json)
		return out_json(cl, v);
	if (out_text(cl, name, strlen(name)))
		return -EIO;
	return printf(" %" PRId64 "\n", member_int(v, "keys", 0)) < 0 ? -EIO : 0;
}

static int run_groups(struct client *cl, int argc, char **argv)
{
	CLEANUP(kv_close) struct kv kv = { .host = true };
	CLEANUP_VALUE struct va_value *v = NULL;
	int code = rpc_connect(cl, SIDE_HOST, NULL, &kv.r);

	if (!code)
		code = rpc_call(kv.r, "host.kv.groups", RPC_IDEMPOTENT,
				va_array(), &v);
	for (size_t i = 0; !code && i < va_count(v); i++)
		code = argc && !str_glob(argv[0], member_text(va_item(v, i),
							      "group")) ?
			       VAC_OK :
		       print_group(cl, va_item(v, i)) ? VAC_ERROR : VAC_OK;
	return code;
}

#define ROWS(r) .rows = r, .nrows = NROWS(r)

const struct verb verb_kv_set = {
	.name = "kv set",
	.usage = "GUEST KEY=VALUE... | KEY -",
	.help = "set keys of a guest, all or none",
	.about = "Sets user.* keys of a guest; in a guest (no GUEST then) its "
		 "guest.* ones, and user.*\nones it may write.  KEY - takes the "
		 "value from standard input, byte for byte.\nWith --all or "
		 "--group: of the guests that have no such key of their own.",
	ROWS(set_rows),
	.opts_size = sizeof(struct set_opts),
	.max_args = -1,
	.run = run_set,
};

const struct verb verb_kv_unset = {
	.name = "kv unset",
	.usage = "GUEST KEY...",
	.help = "remove keys of a guest",
	.about = "One that is not there is no error.",
	ROWS(unset_rows),
	.opts_size = sizeof(struct set_opts),
	.max_args = -1,
	.run = run_unset,
};

const struct verb verb_kv_get = {
	.name = "kv get",
	.usage = "GUEST KEY",
	.help = "print a key's value",
	.about = "Prints its bytes and nothing else (on a terminal, a newline if "
		 "none ends them).\nExit status 1, and nothing is printed, when "
		 "there is no such key.",
	ROWS(read_rows),
	.opts_size = sizeof(struct kv_opts),
	.max_args = 2,
	.run = run_get,
};

const struct verb verb_kv_exists = {
	.name = "kv exists",
	.usage = "GUEST KEY",
	.help = "exit status 0 if there is such a key, 1 if not",
	ROWS(read_rows),
	.opts_size = sizeof(struct kv_opts),
	.max_args = 2,
	.run = run_exists,
};

const struct verb verb_kv_list = {
	.name = "kv list",
	.usage = "[GUEST] [PATTERN]",
	.help = "print the names of a guest's keys",
	.about = "PATTERN has *, ? and [a-z].  Secret keys are not listed.  With "
		 "--json: one struct a\nline, with revision, size and rights.",
	ROWS(read_rows),
	.opts_size = sizeof(struct kv_opts),
	.max_args = 2,
	.run = run_list,
};

const struct verb verb_kv_groups = {
	.name = "kv groups",
	.usage = "[PATTERN]",
	.help = "print the groups of guests that keys are set for",
	.about = "One a line, with how many keys it has; * is all guests.  With "
		 "PATTERN, those it matches.",
	ROWS(plain_rows),
	.max_args = 1,
	.run = run_groups,
};
