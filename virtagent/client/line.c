/*
 * line.c - see line.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/line.h"

#include <histedit.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_HISTORY 200

struct line_editor {
	EditLine *el; /* NULL: stdin is no terminal */
	History *history;
	const char *prompt;
	const char *const *words;
	char *line;
	size_t room;
};

static char *line_prompt(EditLine *el)
{
	struct line_editor *l = NULL;

	el_get(el, EL_CLIENTDATA, &l);
	return (char *)(uintptr_t)(l ? l->prompt : "");
}

/* Completes the first word; several that fit are listed. */
static unsigned char line_complete(EditLine *el, int ch)
{
	struct line_editor *l = NULL;
	const LineInfo *info = el_line(el);
	size_t n = (size_t)(info->cursor - info->buffer), found = 0;
	const char *match = NULL;

	el_get(el, EL_CLIENTDATA, &l);
	if (!l || memchr(info->buffer, ' ', n))
		return CC_ERROR;
	for (const char *const *w = l->words; *w; w++)
		if (strncmp(*w, info->buffer, n) == 0 && found++ == 0)
			match = *w;
	if (found == 1) {
		el_insertstr(el, match + n);
		el_insertstr(el, " ");
		return CC_REFRESH;
	}
	if (!found)
		return CC_ERROR;
	putchar('\n');
	for (const char *const *w = l->words; *w; w++)
		if (strncmp(*w, info->buffer, n) == 0)
			printf("%s  ", *w);
	putchar('\n');
	return CC_REDISPLAY;
}

static int line_open_terminal(struct line_editor *l)
{
	HistEvent ev;

	l->el = el_init("va-client", stdin, stdout, stderr);
	l->history = l->el ? history_init() : NULL;
	if (!l->history)
		return -1;
	history(l->history, &ev, H_SETSIZE, LINE_HISTORY);
	history(l->history, &ev, H_SETUNIQUE, 1);
	el_set(l->el, EL_CLIENTDATA, l);
	el_set(l->el, EL_PROMPT, line_prompt);
	el_set(l->el, EL_EDITOR, "emacs");
	el_set(l->el, EL_SIGNAL, 1);
	el_set(l->el, EL_HIST, history, l->history);
	el_set(l->el, EL_ADDFN, "complete", "complete the command",
	       line_complete);
	el_set(l->el, EL_BIND, "^I", "complete", NULL);
	return 0;
}

struct line_editor *line_open(const char *prompt, const char *const *words)
{
	struct line_editor *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->prompt = prompt;
	l->words = words;
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) &&
	    line_open_terminal(l)) {
		line_close(l);
		return NULL;
	}
	return l;
}

void line_close(struct line_editor *l)
{
	if (!l)
		return;
	if (l->history)
		history_end(l->history);
	if (l->el)
		el_end(l->el);
	free(l->line);
	free(l);
}

const char *line_read(struct line_editor *l)
{
	HistEvent ev;
	const char *got;
	int count = 0;
	ssize_t n;

	if (!l->el) {
		n = getline(&l->line, &l->room, stdin);
		if (n < 0)
			return NULL;
		l->line[strcspn(l->line, "\r\n")] = '\0';
		return l->line;
	}
	got = el_gets(l->el, &count);
	if (!got || count <= 0)
		return NULL;
	free(l->line);
	l->line = strndup(got, (size_t)count);
	if (!l->line)
		return NULL;
	l->line[strcspn(l->line, "\r\n")] = '\0';
	if (*l->line)
		history(l->history, &ev, H_ENTER, l->line);
	return l->line;
}
