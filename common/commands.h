/*
 * commands.h - directories of programs that the other side may run by name
 *
 * A command is an executable file in one of some directories; the first directory
 * that has the name decides.  A name is never a part of a path: at most
 * COMMAND_NAME_MAX letters, digits and "._+@-", no dot in front.  Who may put or
 * change a file there decides what runs, so a file is refused unless it is, links
 * resolved, a regular executable file of that very directory, and file and
 * directory belong to root or this user and nobody else may write them.
 *
 * A script may say what it does: a comment "# ..." as its second line.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_COMMANDS_H
#define VA_COMMON_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

#define COMMAND_NAME_MAX 64u
#define COMMANDS_MAX 256u /* listed */
#define COMMAND_TEXT_MAX 200u

struct command {
	char name[COMMAND_NAME_MAX + 1];
	char description[COMMAND_TEXT_MAX]; /* "" = none */
	char refused[COMMAND_TEXT_MAX];	    /* why it would not run; "" = it may */
};

bool command_name_valid(const char *name);

/*
 * The path of a command, malloc'ed and resolved, in *ret.  dirs: directories
 * with ':' between them; one that is missing is empty.  -EINVAL (no name of a
 * command), -ENOENT, -EPERM (unsafe), -ENOMEM; why gets the reason.
 */
int command_find(const char *dirs, const char *name, char **ret, char *why,
		 size_t why_size);

/* All commands by name; *ret is malloc'ed.  The count, or -ENOMEM. */
int command_list(const char *dirs, struct command **ret);

/* Are these absolute paths with ':' between them? */
bool command_dirs_valid(const char *dirs);

#endif
