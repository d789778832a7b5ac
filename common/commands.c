/*
 * commands.c - see commands.h
 *
 * A file is checked by its resolved path and run by that path.  Between the two
 * only root or this user could change it, as nobody else may write the directory.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/commands.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"

#define HEAD_MAX 512 /* of a script, where its description stands */

bool command_name_valid(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+@-";
	size_t n = strlen(name);

	return n > 0 && n <= COMMAND_NAME_MAX && name[0] != '.' &&
	       strspn(name, allowed) == n;
}

bool command_dirs_valid(const char *dirs)
{
	for (;;) {
		if (*dirs != '/')
			return false;
		dirs = strchr(dirs, ':');
		if (!dirs)
			return true;
		dirs++;
	}
}

/* Whose is it, and who else may write it?  NULL = nothing to say against it. */
static const char *fault_of(const struct stat *st)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "belongs to another user";
	if (st->st_mode & 022)
		return "is writable by group or others";
	return NULL;
}

/* The reason, without paths: callers are on the other side. */
static int check(const char *real_dir, const char *real, char *why, size_t size)
{
	size_t n = strlen(real_dir);
	const char *fault;
	struct stat st;

	if (strncmp(real, real_dir, n) != 0 || real[n] != '/' ||
	    strchr(real + n + 1, '/')) {
		snprintf(why, size, "is a link that leads out of its directory");
		return -EPERM;
	}
	if (stat(real_dir, &st) < 0)
		return -errno;
	fault = fault_of(&st);
	if (fault) {
		snprintf(why, size, "stands in a directory that %s", fault);
		return -EPERM;
	}
	if (stat(real, &st) < 0) {
		snprintf(why, size, "%s", strerror(errno));
		return -errno;
	}
	fault = fault_of(&st);
	if (!S_ISREG(st.st_mode))
		fault = "is not a regular file";
	else if (!fault && !(st.st_mode & 0111))
		fault = "is not executable";
	if (!fault)
		return 0;
	snprintf(why, size, "%s", fault);
	return -EPERM;
}

/* In one directory: 0 with *ret, -ENOENT, or why not. */
static int find_in(const char *dir, const char *name, char **ret, char *why,
		   size_t size)
{
	CLEANUP_FREE char *path = str_printf("%s/%s", dir, name);
	CLEANUP_FREE char *real_dir = realpath(dir, NULL);
	CLEANUP_FREE char *real = NULL;
	struct stat st;
	int r;

	if (!path)
		return -ENOMEM;
	if (!real_dir || lstat(path, &st) < 0)
		return -ENOENT;
	real = realpath(path, NULL);
	if (!real) {
		snprintf(why, size, "is a link that leads nowhere");
		return -EPERM;
	}
	r = check(real_dir, real, why, size);
	if (r == 0)
		*ret = take_ptr(real);
	return r;
}

/* The next of the directories, as a copy; NULL at the end. */
static char *next_dir(const char **dirs)
{
	size_t n = strcspn(*dirs, ":");
	char *copy = n ? strndup(*dirs, n) : NULL;

	*dirs += n;
	*dirs += **dirs == ':';
	return copy;
}

int command_find(const char *dirs, const char *name, char **ret, char *why,
		 size_t why_size)
{
	if (!command_name_valid(name)) {
		snprintf(why, why_size, "a command's name is at most %u letters, "
			 "digits and ._+@-, with no dot in front",
			 COMMAND_NAME_MAX);
		return -EINVAL;
	}
	while (*dirs) {
		CLEANUP_FREE char *dir = next_dir(&dirs);
		int r = dir ? find_in(dir, name, ret, why, why_size) : -ENOMEM;

		if (r != -ENOENT)
			return r;
	}
	snprintf(why, why_size, "there is no such command (the verb commands lists them)");
	return -ENOENT;
}

/* The comment behind a script's first line. */
static void read_description(const char *path, char ret[COMMAND_TEXT_MAX])
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char head[HEAD_MAX + 1];
	ssize_t n = fd < 0 ? -1 : read(fd, head, HEAD_MAX);
	char *line, *end;

	if (n < 2)
		return;
	head[n] = '\0';
	line = strchr(head, '\n');
	if (strncmp(head, "#!", 2) != 0 || !line || strncmp(line, "\n# ", 3) != 0)
		return;
	line += 3;
	end = strchr(line, '\n');
	if (!end || (size_t)(end - line) >= COMMAND_TEXT_MAX)
		return;
	*end = '\0';
	if (str_is_clean_text(line, strlen(line), ""))
		snprintf(ret, COMMAND_TEXT_MAX, "%s", line);
}

static bool listed(const struct command *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return true;
	return false;
}

/* Adds those of one directory that are not there already. */
static void list_dir(const char *dir, struct command *list, size_t *n)
{
	CLEANUP_CLOSEDIR DIR *d = opendir(dir);
	const struct dirent *e;

	while (d && *n < COMMANDS_MAX && (e = readdir(d))) {
		CLEANUP_FREE char *path = NULL;
		struct command *c = &list[*n];

		if (!command_name_valid(e->d_name) || listed(list, *n, e->d_name))
			continue;
		*c = (struct command){ .name = "" };
		snprintf(c->name, sizeof(c->name), "%.*s", (int)COMMAND_NAME_MAX,
			 e->d_name);
		if (find_in(dir, c->name, &path, c->refused, sizeof(c->refused)) == 0)
			read_description(path, c->description);
		else if (!c->refused[0])
			continue;
		(*n)++;
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct command *)a)->name,
		      ((const struct command *)b)->name);
}

int command_list(const char *dirs, struct command **ret)
{
	struct command *list = calloc(COMMANDS_MAX, sizeof(*list));
	size_t n = 0;

	if (!list)
		return -ENOMEM;
	while (*dirs) {
		CLEANUP_FREE char *dir = next_dir(&dirs);

		if (dir)
			list_dir(dir, list, &n);
	}
	qsort(list, n, sizeof(*list), by_name);
	*ret = list;
	return (int)n;
}
