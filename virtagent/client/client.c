/*
 * client.c - see client.h: the options that all verbs share
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/client.h"

#include <errno.h>
#include <stdio.h>

#include "common/clock.h"
#include "common/str.h"

#define TIMEOUT_MAX_NS (UINT64_C(366) * 86400 * NSEC_PER_SEC)

int client_set_guest(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;

	if (*value) {
		cl->guest = value;
		return 0;
	}
	snprintf(err, size, "the guest's name is empty");
	return -EINVAL;
}

static int take_time(const char *value, uint64_t max_ns, uint64_t *ret, char *err,
		     size_t size)
{
	if (str_to_duration(value, max_ns, ret) == 0)
		return 0;
	snprintf(err, size, "%s is no time, such as 10, 1.5 or 500ms", value);
	return -EINVAL;
}

int client_check_time(const char *value, char *err, size_t size)
{
	uint64_t ns;

	return take_time(value, UINT64_MAX / 2, &ns, err, size);
}

int client_set_timeout(void *ctx, const char *value, char *err, size_t size)
{
	struct client *cl = ctx;
	int r = take_time(value, TIMEOUT_MAX_NS, &cl->timeout_ns, err, size);

	if (r == 0)
		cl->timeout_given = true;
	return r;
}

int client_set_json(void *ctx, const char *value, char *err, size_t size)
{
	((struct client *)ctx)->json = true;
	return 0;
}

int client_set_raw(void *ctx, const char *value, char *err, size_t size)
{
	((struct client *)ctx)->raw = true;
	return 0;
}

int client_set_up(void *ctx, const char *value, char *err, size_t size)
{
	((struct client *)ctx)->up = true;
	return 0;
}

int client_set_verbose(void *ctx, const char *value, char *err, size_t size)
{
	((struct client *)ctx)->verbose++;
	return 0;
}

uint64_t client_deadline(const struct client *cl, uint64_t dflt_ns)
{
	uint64_t ns = cl->timeout_given ? cl->timeout_ns : dflt_ns;

	return ns ? clock_now() + ns : CLOCK_NEVER;
}

static void verb_options(const struct verb *v, char *program, size_t size,
			 struct options *ret)
{
	snprintf(program, size, PROGRAM " %s", v->name);
	*ret = (struct options){
		.program = program,
		.usage = v->usage,
		.about = v->about ? v->about : v->help,
		.rows = v->rows,
		.nrows = v->nrows,
		.epilog = v->epilog,
	};
}

void client_verb_help(const struct verb *v)
{
	char program[64];
	struct options o;

	verb_options(v, program, sizeof(program), &o);
	options_help(&o, stdout);
}

int client_parse(struct client *cl, int argc, char **argv, int *first)
{
	const struct verb *v = cl->verb;
	char program[64];
	struct options o;

	verb_options(v, program, sizeof(program), &o);
	return options_parse(&o, cl, argc, argv, v->stop_at_operand, first);
}
