/*
 * verb_kv_watch.c - kv watch, kv wait, kv export, kv import
 *
 * A watch is a row of calls that wait on the other side: first what there is,
 * then what changed since.  When the connection is cut it goes on from the last
 * revision seen, so nothing is missed.
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
#include "virtagent/client/interrupt.h"
#include "virtagent/client/kv.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"

#define WATCH_S 20		      /* one call's wait */
#define WATCH_CALL_NS (40 * NSEC_PER_SEC)
#define WATCH_PAUSE_NS (NSEC_PER_SEC / 2)
#define LINE_MAX_BYTES (4u << 20)
#define IMPORT_BYTES (256u << 10) /* then a call ends with its revision */

struct watch_opts {
	bool since_given;
	uint64_t since;
};

static int set_since(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;
	struct watch_opts *o = cl->opts;

	o->since_given = true;
	if (!str_to_u64(value, INT64_MAX, &o->since))
		return 0;
	snprintf(err, size, "%s is no revision", value);
	return -EINVAL;
}

static const struct option_row watch_rows[] = {
	{ 0, "since", "N", "begin with changes after revision N, not with what "
	  "there is", set_since },
	CLIENT_ROWS,
};

struct watch {
	struct kv kv;
	const char *pattern;
	int64_t since; /* -1 = what there is */
	uint64_t deadline;
	bool heard;    /* an answer came, so a cut connection is no error */
};

static struct va_value *watch_params(const struct watch *w)
{
	CLEANUP_VALUE struct va_value *p = va_array();
	uint64_t now = clock_now();
	double s = WATCH_S;

	if (w->deadline < now)
		s = 0;
	else if (w->deadline - now < WATCH_S * NSEC_PER_SEC)
		s = (double)(w->deadline - now) / (double)NSEC_PER_SEC;
	if (va_append(p, va_string(w->pattern)) |
	    va_append(p, va_int(w->since)) | va_append(p, va_double(s)))
		return NULL;
	return take_ptr(p);
}

/* One call: an exit code, or -1 = ask again (ret may be NULL then). */
static int watch_once(struct watch *w, struct va_value **ret)
{
	int code;

	rpc_set_deadline(w->kv.r, clock_now() + WATCH_CALL_NS);
	code = kv_call(&w->kv, "watch", RPC_IDEMPOTENT, watch_params(w), false, ret);
	if (interrupt_seen())
		return interrupt_status();
	if (!code) {
		w->heard = true;
		w->since = member_int(*ret, "revision", w->since);
		return -1;
	}
	if (!w->heard || rpc_fault(w->kv.r))
		return rpc_report(w->kv.r, "kv watch", code);
	interrupt_sleep_until(clock_now() + WATCH_PAUSE_NS);
	return -1;
}

static int open_watch(const struct client *cl, int argc, char **argv, int min,
		      struct watch *w)
{
	const struct watch_opts *o = cl->opts;
	int code = kv_open(cl, NULL, argc, argv, false, &w->kv);

	if (!code)
		code = kv_need(cl, &w->kv, min, 1);
	w->pattern = !code && w->kv.argc ? w->kv.argv[0] : "*";
	w->since = o->since_given ? (int64_t)o->since : -1;
	w->deadline = client_deadline(cl, 0);
	interrupt_catch();
	return code;
}

static void watch_done(struct watch *w)
{
	kv_close(&w->kv);
}

static int print_change(const struct client *cl, const struct va_value *key)
{
	const char *name = member_text(key, "name");
	int error;

	if (cl->json) {
		CLEANUP_BUF struct buf b = BUF_INIT(LINE_MAX_BYTES);

		error = va_to_json(key, false, &b);
		if (!error)
			error = out_text(cl, buf_data(&b), buf_len(&b));
	} else {
		printf("%" PRId64 " ", member_int(key, "revision", 0));
		error = out_text(cl, name, strlen(name));
		if (!error && member_bool(key, "removed", false))
			fputs(" removed", stdout);
	}
	return error || putchar('\n') == EOF || fflush(stdout) ? -EIO : 0;
}

static int run_watch(struct client *cl, int argc, char **argv)
{
	CLEANUP(watch_done) struct watch w = { .heard = false };
	int code = open_watch(cl, argc, argv, 0, &w);

	if (code)
		return code;
	do {
		CLEANUP_VALUE struct va_value *v = NULL;
		const struct va_value *keys;

		code = watch_once(&w, &v);
		keys = va_member(v, "keys");
		for (size_t i = 0; code < 0 && i < va_count(keys); i++) {
			if (print_change(cl, va_item(keys, i)))
				code = VAC_ERROR;
		}
		if (code < 0 && clock_now() >= w.deadline)
			code = VAC_OK;
	} while (code < 0);
	return code;
}

static int run_kv_wait(struct client *cl, int argc, char **argv)
{
	CLEANUP(watch_done) struct watch w = { .heard = false };
	int code = open_watch(cl, argc, argv, 1, &w);

	while (!code) {
		CLEANUP_VALUE struct va_value *v = NULL;
		const struct va_value *keys;

		code = watch_once(&w, &v);
		if (code >= 0)
			return code;
		code = 0;
		keys = va_member(v, "keys");
		for (size_t i = 0; i < va_count(keys); i++) {
			if (!member_bool(va_item(keys, i), "removed", false))
				return print_change(cl, va_item(keys, i)) ?
					       VAC_ERROR : VAC_OK;
		}
		if (clock_now() >= w.deadline) {
			out_error(rpc_target(w.kv.r)->name, "kv wait",
				  "timed out; there is no %s", w.pattern);
			return VAC_TIMEOUT;
		}
	}
	return code;
}

/* --- moving to another host --------------------------------------------------------- */

static const struct option_row plain_rows[] = { CLIENT_ROWS };

static int need_host(const struct kv *kv, const char *verb)
{
	if (kv->host)
		return VAC_OK;
	out_error(NULL, verb, "works on a host only");
	return VAC_USAGE;
}

static int run_export(struct client *cl, int argc, char **argv)
{
	CLEANUP(kv_close) struct kv kv = { 0 };
	int64_t since = 0;
	bool more = true;
	int code = kv_open(cl, NULL, argc, argv, false, &kv);

	if (!code)
		code = need_host(&kv, "kv export");
	if (!code)
		code = kv_need(cl, &kv, 0, 0);
	while (!code && more) {
		CLEANUP_VALUE struct va_value *v = NULL;
		struct va_value *params = va_array();
		const struct va_value *keys;

		if (va_append(params, va_int(since)))
			va_value_free(take_ptr(params));
		code = kv_call(&kv, "export", RPC_IDEMPOTENT, params, true, &v);
		keys = va_member(v, "keys");
		for (size_t i = 0; !code && i < va_count(keys); i++) {
			struct client plain = *cl;

			plain.json = plain.raw = true;
			if (!member_bool(va_item(keys, i), "removed", false))
				code = print_change(&plain, va_item(keys, i)) ?
					       VAC_ERROR : VAC_OK;
		}
		since = member_int(v, "revision", since);
		more = member_bool(v, "more", false);
	}
	return code;
}

/* What is sent in one call: keys of one revision stay together. */
struct batch {
	struct va_value *keys;
	size_t bytes;
	int64_t revision; /* of the last one */
};

static void batch_done(struct batch *b)
{
	va_value_free(b->keys);
}

static int send_batch(struct kv *kv, struct batch *b)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_value *params = va_array();

	if (va_append(params, take_ptr(b->keys)))
		va_value_free(take_ptr(params));
	b->bytes = 0;
	return kv_call(kv, "import", RPC_IDEMPOTENT, params, true, &v);
}

static int import_line(struct kv *kv, struct batch *b, const char *line,
		       size_t n)
{
	struct va_value *key = NULL;
	char err[128] = "not as kv export prints it";
	int64_t revision;
	int code = VAC_OK;

	if (va_from_json(line, n, &key, err, sizeof(err)) ||
	    va_typeof(key) != VA_STRUCT) {
		va_value_free(key);
		out_error(NULL, "kv import", "standard input: %s", err);
		return VAC_ERROR;
	}
	revision = member_int(key, "revision", 0);
	if (b->bytes > IMPORT_BYTES && revision != b->revision)
		code = send_batch(kv, b);
	if (!b->keys)
		b->keys = va_array();
	b->bytes += n;
	b->revision = revision;
	if (va_append(b->keys, key) && !code)
		code = VAC_ERROR;
	return code;
}

static int run_import(struct client *cl, int argc, char **argv)
{
	CLEANUP(kv_close) struct kv kv = { 0 };
	CLEANUP(batch_done) struct batch b = { .bytes = 0 };
	CLEANUP_FREE char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int code = kv_open(cl, NULL, argc, argv, false, &kv);

	if (!code)
		code = need_host(&kv, "kv import");
	if (!code)
		code = kv_need(cl, &kv, 0, 0);
	while (!code && (n = getline(&line, &size, stdin)) > 0)
		code = import_line(&kv, &b, line, (size_t)n);
	return code || !b.bytes ? code : send_batch(&kv, &b);
}

#define ROWS(r) .rows = r, .nrows = NROWS(r)

const struct verb verb_kv_watch = {
	.name = "kv watch",
	.usage = "[GUEST] [PATTERN]",
	.help = "print keys as they change",
	.about = "Prints \"REVISION KEY\" for each key there is, then for each "
		 "that changes (\"REVISION KEY\nremoved\" for one that goes).  "
		 "With --json: structs with the value.  With -t, ends with\nstatus "
		 "0 after that time.",
	ROWS(watch_rows),
	.opts_size = sizeof(struct watch_opts),
	.max_args = 2,
	.run = run_watch,
};

const struct verb verb_kv_wait = {
	.name = "kv wait",
	.usage = "GUEST PATTERN",
	.help = "wait until there is a key",
	.about = "Waits until a key that matches is there, or with --since, until "
		 "one is set after that\nrevision; prints \"REVISION KEY\".  Exit "
		 "status 124 when -t's time is over.",
	ROWS(watch_rows),
	.opts_size = sizeof(struct watch_opts),
	.max_args = 2,
	.run = run_kv_wait,
};

const struct verb verb_kv_export = {
	.name = "kv export",
	.usage = "[GUEST]",
	.help = "print all keys of a guest for kv import, secrets too",
	ROWS(plain_rows),
	.max_args = 1,
	.run = run_export,
};

const struct verb verb_kv_import = {
	.name = "kv import",
	.usage = "[GUEST]",
	.help = "take over a guest's keys as kv export printed them",
	.about = "Reads standard input.  host.* keys are passed over; the others "
		 "keep their revisions.",
	ROWS(plain_rows),
	.max_args = 1,
	.run = run_import,
};
