/*
 * client.h - what every verb of va-client shares
 *
 * A verb is one row: its options, its help and a function that returns the
 * program's exit code.  Options common to all verbs may stand before or behind
 * the verb; they fill struct client, the verb's own fill cl->opts.
 *
 * Data goes to stdout, messages to stderr as "va-client: GUEST: METHOD: reason".
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_H
#define VA_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/options.h"

#define PROGRAM "va-client"

/* Exit codes; users and tests depend on them. */
enum client_exit {
	VAC_OK = 0,
	VAC_FALSE = 1,		/* not found, or a plain "false" */
	VAC_ERROR = 2,
	VAC_USAGE = 3,
	VAC_NOT_CONNECTED = 10, /* never sent: safe to try again */
	VAC_UNKNOWN = 11,	/* sent, and nobody can say what became of it */
	VAC_TIMEOUT = 124,
};

/* How long a call may take when -t says nothing. */
#define CLIENT_CALL_NS (UINT64_C(60) * 1000000000)

struct client {
	const char *guest; /* -G, VA_GUEST, or NULL */
	bool up;	   /* --up: our own host, even if this is a host too */
	bool json;
	bool raw; /* control characters go to a terminal as they are */
	unsigned verbose;
	bool timeout_given;
	uint64_t timeout_ns; /* 0 = none */
	const struct verb *verb;
	void *opts; /* the verb's own, zeroed at start */
};

struct verb {
	const char *name;
	const char *usage; /* operands, as help shows them */
	const char *help;  /* one line */
	const char *about; /* a paragraph, or NULL */
	const char *epilog;
	const struct option_row *rows;
	size_t nrows;
	size_t opts_size;
	bool stop_at_operand;
	int min_args, max_args; /* operands; max -1 = any number */
	/* The first operand may name the guest (incus, virsh habit). */
	int (*run)(struct client *cl, int argc, char **argv);
};

/* The rows every verb ends its table with. */
int client_set_guest(void *ctx, const char *value, char *err, size_t size);
int client_set_timeout(void *ctx, const char *value, char *err, size_t size);
int client_set_json(void *ctx, const char *value, char *err, size_t size);
int client_set_raw(void *ctx, const char *value, char *err, size_t size);
int client_set_up(void *ctx, const char *value, char *err, size_t size);
int client_set_verbose(void *ctx, const char *value, char *err, size_t size);

#define CLIENT_ROWS_BUT_TIMEOUT                                                \
	{ 'G', "guest", "NAME", "the guest, or unix:PATH of a socket",         \
	  client_set_guest },                                                  \
	{ 0, "json", NULL, "print JSON, for programs", client_set_json },      \
	{ 0, "raw", NULL, "leave control characters as they are on a terminal", \
	  client_set_raw },                                                    \
	{ 0, "up", NULL, "ask the host of this machine, even on a host",       \
	  client_set_up },                                                     \
	{ 'v', "verbose", NULL, "say what is done, on stderr",                 \
	  client_set_verbose }

#define CLIENT_ROWS                                                            \
	CLIENT_ROWS_BUT_TIMEOUT,                                               \
	{ 't', "timeout", "SECONDS", "give up after this time (0 = never)",    \
	  client_set_timeout }

#define NROWS(rows) (sizeof(rows) / sizeof((rows)[0]))

/*
 * Sets boolean options of a verb: row.set functions get only the context, so
 * each flag has a setter; this makes one for member of the verb's opts.
 */
#define DEFINE_FLAG(fn, type, member)                                          \
	static int fn(void *ctx, const char *value, char *err, size_t size)    \
	{                                                                      \
		struct client *cl = ctx;                                       \
                                                                               \
		((struct type *)cl->opts)->member = true;                      \
		return 0;                                                      \
	}                                                                      \
	struct client_semicolon_##fn

/* The same for a text argument, kept as it is. */
#define DEFINE_TEXT(fn, type, member)                                          \
	static int fn(void *ctx, const char *value, char *err, size_t size)    \
	{                                                                      \
		struct client *cl = ctx;                                       \
                                                                               \
		((struct type *)cl->opts)->member = value;                     \
		return 0;                                                      \
	}                                                                      \
	struct client_semicolon_##fn

/* The same for a time, kept as the text that the other side reads. */
#define DEFINE_TIME(fn, type, member)                                          \
	static int fn(void *ctx, const char *value, char *err, size_t size)    \
	{                                                                      \
		struct client *cl = ctx;                                       \
		int r = client_check_time(value, err, size);                   \
                                                                               \
		if (r == 0)                                                    \
			((struct type *)cl->opts)->member = value;             \
		return r;                                                      \
	}                                                                      \
	struct client_semicolon_##fn

/* 0, or -EINVAL with the reason. */
int client_check_time(const char *value, char *err, size_t size);

/* The absolute deadline of something that starts now: -t, else dflt_ns (0 =
 * CLOCK_NEVER). */
uint64_t client_deadline(const struct client *cl, uint64_t dflt_ns);

/* The table, and one of its rows by name (NULL = none).  A verb of two words
 * ("event send") is one row. */
extern const struct verb *const client_verbs[];
extern const size_t client_nverbs;
const struct verb *client_find_verb(const char *name);
/* Says so, and which one may be meant; VAC_USAGE. */
int client_no_such_verb(const char *typed);
/* Options of the verb that runs, as options_parse(): again for those that stand
 * behind an operand (which is then argv[0]). */
int client_parse(struct client *cl, int argc, char **argv, int *first);
/* Prints the verb's --help to stdout. */
void client_verb_help(const struct verb *v);

/* One per verb file. */
extern const struct verb verb_call, verb_methods, verb_help;
extern const struct verb verb_guests, verb_info, verb_guest;
extern const struct verb verb_ping, verb_wait;
extern const struct verb verb_quiesce, verb_resume;
extern const struct verb verb_cat, verb_dmesg;
extern const struct verb verb_monitor;
extern const struct verb verb_get, verb_put, verb_cp;
extern const struct verb verb_ls, verb_stat, verb_rm, verb_mkdir;
extern const struct verb verb_commands, verb_run;
extern const struct verb verb_exec, verb_shell, verb_forward;
extern const struct verb verb_attach, verb_detach, verb_libvirt_xml;
extern const struct verb verb_jobs, verb_kill;
extern const struct verb verb_ps, verb_df, verb_ip;
extern const struct verb verb_shutdown, verb_reboot, verb_halt, verb_suspend;
extern const struct verb verb_events, verb_event_send;
extern const struct verb verb_kv_set, verb_kv_get, verb_kv_list, verb_kv_unset;
extern const struct verb verb_kv_exists, verb_kv_watch, verb_kv_wait;
extern const struct verb verb_kv_export, verb_kv_import, verb_kv_groups;

#endif
