/*
 * place.c - see place.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/conf.h"
#include "common/daemon.h"
#include "common/file.h"
#include "virtagent/client/ctl.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"
#include "virtagent/client/rpc.h"

#define ASK_NS (5 * NSEC_PER_SEC)
#define LOOK_NS (50 * NSEC_PER_MSEC)
#define ENTRY_MAX 4096u

static struct rpc *open_hostd(const struct client *cl)
{
	struct target t = { .side = SIDE_HOST, .name = "host" };
	struct rpc *r;

	snprintf(t.rpc, sizeof(t.rpc), "%s/hostd.sock", target_runtime());
	r = rpc_open(cl, &t);
	if (r)
		rpc_set_deadline(r, clock_now() + ASK_NS);
	return r;
}

static void take(char *to, const struct va_value *v, const char *member)
{
	snprintf(to, PLACE_PATH_MAX, "%s", member_text(v, member));
}

/* 0, or an exit code: va-hostd is away or does not say. */
static int ask_guest(struct place *p, struct rpc *r)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	int code = rpc_try(r, "host.guest", RPC_IDEMPOTENT, rpc_params(p->name, NULL), &v);

	p->guest = code == VAC_OK;
	if (code)
		return code == VAC_FALSE ? VAC_OK : code; /* no such guest */
	take(p->qmp, v, "qmp");
	take(p->channel, v, "channel");
	p->configured = member_int(va_member(v, "configured"), "line", 0) != 0;
	return VAC_OK;
}

static int ask_monitors(struct place *p, struct rpc *r)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	int code = rpc_try(r, "host.monitors", RPC_IDEMPOTENT, va_array(), &v);

	for (size_t i = 0; !code && i < va_count(v); i++)
		if (strcmp(member_text(va_item(v, i), "name"), p->name) == 0)
			take(p->found, va_item(v, i), "path");
	return code;
}

static int read_entry(struct place *p)
{
	CLEANUP(conf_done) struct conf c = { 0 };
	const char *monitor;
	char path[PLACE_PATH_MAX], err[512];
	int n = snprintf(path, sizeof(path), "%s/attached/%s.conf", target_runtime(), p->id);

	if (n >= (int)sizeof(path) || access(path, F_OK) < 0)
		return VAC_OK;
	if (conf_read_file(&c, path, err, sizeof(err)) < 0) {
		out_error(p->name, p->cl->verb->name, "%s", err);
		return VAC_ERROR;
	}
	monitor = conf_get(&c, "attached", "", "monitor");
	snprintf(p->monitor, sizeof(p->monitor), "%s", monitor ? monitor : "");
	return VAC_OK;
}

int place_look(const struct client *cl, const char *name, struct place *ret)
{
	CLEANUP_RPC struct rpc *r = open_hostd(cl);
	int code;

	*ret = (struct place){ .cl = cl };
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	str_path_id(ret->name, ret->id);
	if (!r)
		return VAC_ERROR;
	code = ask_guest(ret, r);
	if (!code)
		code = ask_monitors(ret, r);
	ret->hostd = code == VAC_OK;
	/* Without va-hostd much can be done; when it refuses, nothing should. */
	if (code && code != VAC_NOT_CONNECTED)
		return rpc_report(r, "host.guest", code);
	return read_entry(ret);
}

int place_path(const struct place *p, const char *suffix, char *ret, size_t size)
{
	int n = snprintf(ret, size, "%s/attached", target_runtime());
	int r = n < (int)size ? dir_make_private(target_runtime()) : -ENAMETOOLONG;

	if (r == 0)
		r = dir_make_private(ret);
	if (r < 0)
		return r;
	n = snprintf(ret, size, "%s/attached/%s%s", target_runtime(), p->id, suffix);
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

int place_write(const struct place *p, const char *uuid, const char *monitor, bool keep)
{
	CLEANUP_BUF struct buf b = BUF_INIT(ENTRY_MAX);
	char dir[PLACE_PATH_MAX], file[STR_ID_MAX + 8], sock[PLACE_PATH_MAX];
	int r = place_path(p, ".sock", sock, sizeof(sock));

	snprintf(dir, sizeof(dir), "%s/attached", target_runtime());
	snprintf(file, sizeof(file), "%s.conf", p->id);
	if (r == 0)
		r = buf_printf(&b, "# made by va-client attach\n[guest %s]\n"
			       "channel = unix-connect:%s:-\n", p->name, sock);
	if (r == 0 && *uuid)
		r = buf_printf(&b, "uuid = %s\n", uuid);
	if (r == 0 && keep)
		r = buf_printf(&b, "qmp = %s\n", monitor);
	if (r == 0)
		r = buf_printf(&b, "[attached]\nmonitor = %s\n", monitor);
	return r < 0 ? r : file_replace(dir, file, buf_data(&b), buf_len(&b), 0600);
}

void place_remove(const struct place *p)
{
	static const char *const suffixes[] = { ".conf", ".sock" };
	char path[PLACE_PATH_MAX];

	for (size_t i = 0; i < NROWS(suffixes); i++)
		if (place_path(p, suffixes[i], path, sizeof(path)) == 0)
			unlink(path);
}

int place_release(const struct place *p, unsigned seconds)
{
	CLEANUP_BUF struct buf answer = BUF_INIT(1024);
	char ctl[PLACE_PATH_MAX], line[64];
	const char *text;
	int r;

	snprintf(ctl, sizeof(ctl), "%s/guests/%s/ctl.sock", target_runtime(), p->id);
	snprintf(line, sizeof(line), "release-qmp %u", seconds);
	r = ctl_ask(ctl, line, clock_now() + ASK_NS, &answer);
	/* Without a virtproxy nobody holds it. */
	if (r == -ENOENT || r == -ECONNREFUSED)
		return 0;
	text = buf_cstr(&answer);
	return r < 0 ? r : text && str_starts(text, "error") ? -EPROTO : 0;
}

static int has_channel(const struct client *cl, const char *channel)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_RPC struct rpc *r = open_hostd(cl);

	if (!r || rpc_try(r, "host.guests", RPC_IDEMPOTENT, va_array(), &v))
		return -ENOTCONN;
	for (size_t i = 0; i < va_count(v); i++)
		if (strcmp(member_text(va_item(v, i), "channel"), channel) == 0)
			return 1;
	return 0;
}

static int has_guest(struct place *p)
{
	CLEANUP_RPC struct rpc *r = open_hostd(p->cl);

	return !r || ask_guest(p, r) ? -ENOTCONN : p->guest;
}

int place_wait(struct place *p, bool there, const char *channel, uint64_t deadline_ns)
{
	for (;;) {
		int r = channel ? has_channel(p->cl, channel) : has_guest(p);

		if (r < 0 || (r > 0) == there)
			return r < 0 ? r : 0;
		if (clock_now() >= deadline_ns || interrupt_seen())
			return -ETIMEDOUT;
		interrupt_sleep_until(clock_now() + LOOK_NS);
	}
}
