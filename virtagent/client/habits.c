/*
 * habits.c - a verb that does not exist: which one was meant?
 *
 * Three guesses, in this order: what fingers know from shells, incus, virsh, docker,
 * kubectl and qemu-ga; the first word of verbs of two ("kv"); a verb that differs by a slip or
 * two (a letter too many, too few, another, or two exchanged).  It is said, not
 * done: a guess must not shut a guest down.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "common/str.h"
#include "virtagent/client/client.h"
#include "virtagent/client/output.h"

#define WORD_MAX 24u /* longer ones are no slips */

/* Where it is no verb, what stands for verb is a whole line to type. */
static const struct {
	const char *typed, *verb;
} habits[] = {
	{ "list", "guests" },	 { "pull", "get" },	  { "push", "put" },
	{ "copy", "cp" },	 { "scp", "cp" },	  { "file", "cp" },
	{ "console", "shell" },	 { "enter", "shell" },	  { "ssh", "shell" },
	{ "login", "shell" },	 { "bash", "shell" },
	{ "poweroff", "shutdown" }, { "stop", "shutdown" }, { "restart", "reboot" },
	{ "reset", "reboot" },	 { "port-forward", "forward" }, { "proxy", "forward" },
	{ "top", "ps" },	 { "logs", "dmesg" },	  { "log", "dmesg" },
	{ "delete", "rm" },	 { "download", "get" },	  { "upload", "put" },
	{ "hostname", "info" },	 { "uptime", "info" },	  { "dominfo", "info" },
	{ "inspect", "info" },	 { "domifaddr", "ip" },	  { "domifaddrs", "ip" },
	{ "set", "kv set" },	 { "watch", "kv watch" }, { "config", "kv list" },
	{ "status", "info" },	 { "show", "info" },	  { "find", "ls" },
	{ "snapshot", "quiesce" }, { "freeze", "quiesce" }, { "thaw", "resume" },
	{ "notify", "event send" },
	{ "fg", "attach JOB" },  { "output", "attach JOB" },
	{ "forget", "kill --forget JOB..." }, { "signal", "kill" },
	{ "rmdir", "rm -r GUEST:PATH" }, { "unlink", "rm" },
	{ "tree", "ls" },	 { "dir", "ls" },	  { "more", "cat" },
	{ "less", "cat" },	 { "head", "cat" },	  { "tail", "cat" },
	{ "mv", "call guest.rename FROM TO" },
	{ "rename", "call guest.rename FROM TO" },
	{ "chmod", "call guest.chmod PATH MODE" },
	{ "chown", "call guest.chown PATH UID [GID]" },
	{ "ln", "call guest.symlink TARGET PATH" },
	{ "readlink", "stat" },
	{ "touch", "put /dev/null GUEST:PATH" },
	{ "sha256sum", "call guest.checksum PATH" },
	{ "checksum", "call guest.checksum PATH" },
	{ "users", "call guest.users" }, { "who", "call guest.users" },
	{ "w", "call guest.users" },
	{ "free", "call guest.memory" }, { "memory", "call guest.memory" },
	{ "load", "call guest.load" },   { "osinfo", "info" },
	{ "date", "call guest.timezone" }, { "time", "call guest.timezone" },
	{ "timezone", "call guest.timezone" },
	{ "ifconfig", "ip" },	 { "addresses", "ip" },	  { "mount", "df" },
	{ "start", "wait" },	 { "destroy", "shutdown" }, { "pause", "suspend" },
	{ "dompmsuspend", "suspend" }, { "domfsinfo", "df" }, { "domhostname", "info" },
	{ "agent", "info" },	 { "version", "--version" },
	{ "forwards", "forward" }, { "tunnel", "forward" },
	{ "qemu-agent-command", "call METHOD [ARG...]" },
	{ "guest-ping", "ping" },	 { "guest-exec", "exec" },
	{ "guest-exec-status", "jobs" }, { "guest-info", "methods" },
	{ "guest-file-read", "get" },	 { "guest-file-write", "put" },
	{ "guest-file-open", "get" },	 { "guest-shutdown", "shutdown" },
	{ "guest-suspend-ram", "suspend" }, { "guest-get-osinfo", "info" },
	{ "guest-network-get-interfaces", "ip" }, { "guest-get-fsinfo", "df" },
	{ "guest-get-host-name", "info" }, { "guest-get-users", "call guest.users" },
};

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Slips between two words, exchanged neighbours counted as one. */
static unsigned slips(const char *a, const char *b)
{
	unsigned d[WORD_MAX + 1][WORD_MAX + 1];
	size_t n = strlen(a), m = strlen(b);

	if (n > WORD_MAX || m > WORD_MAX)
		return WORD_MAX;
	for (size_t i = 0; i <= n; i++)
		d[i][0] = (unsigned)i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			bool same = a[i - 1] == b[j - 1];

			d[i][j] = least(least(d[i - 1][j], d[i][j - 1]) + 1,
					d[i - 1][j - 1] + !same);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[n][m];
}

static const char *from_habit(const char *typed)
{
	for (size_t i = 0; i < NROWS(habits); i++)
		if (strcmp(habits[i].typed, typed) == 0)
			return habits[i].verb;
	return NULL;
}

/* The verb that is nearest; the names of all that are as near, in several. */
static const struct verb *nearest(const char *typed, char *several, size_t size)
{
	/* In a short word two slips make any word of another. */
	unsigned best = strlen(typed) < 5 ? 1 : 2;
	const struct verb *found = NULL;
	size_t at = 0;

	for (size_t i = 0; i < client_nverbs; i++) {
		unsigned n = slips(typed, client_verbs[i]->name);

		if (n > best)
			continue;
		if (n < best || !found) {
			best = n;
			found = client_verbs[i];
			at = 0;
		}
		if (at < size)
			at += (size_t)snprintf(several + at, size - at, "%s%s",
					       at ? ", " : "", client_verbs[i]->name);
	}
	return found;
}

/* "kv exists, kv export, ..."; "" when no verb begins so. */
static void that_begin(const char *word, char *ret, size_t size)
{
	size_t n = strlen(word), at = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < client_nverbs && at < size; i++) {
		const char *name = client_verbs[i]->name;

		if (str_starts(name, word) && name[n] == ' ')
			at += (size_t)snprintf(ret + at, size - at, "%s%s",
					       at ? ", " : "", name);
	}
}

int client_no_such_verb(const char *typed)
{
	const char *line = from_habit(typed);
	const struct verb *v = line ? client_find_verb(line) : NULL;
	char several[256] = "";

	that_begin(typed, several, sizeof(several));
	if (*several) {
		out_error(NULL, NULL, "%s is not the whole verb: %s", typed, several);
		return VAC_USAGE;
	}
	if (!line)
		v = nearest(typed, several, sizeof(several));
	if (strchr(several, ','))
		out_error(NULL, NULL, "no such verb: %s; is it one of these: %s", typed,
			  several);
	else if (line && !v)
		out_error(NULL, NULL, "no such verb: %s; is it this: " PROGRAM " %s",
			  typed, line);
	else if (v)
		out_error(NULL, NULL, "no such verb: %s; is it this: " PROGRAM " %s%s%s",
			  typed, v->name, v->usage ? " " : "", v->usage ? v->usage : "");
	else
		out_error(NULL, NULL, "no such verb: %s (" PROGRAM " help lists them)",
			  typed);
	return VAC_USAGE;
}
