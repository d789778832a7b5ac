/*
 * conf.c - see conf.h
 *
 * Each text that was read is kept as one block in which line ends become
 * terminators; the entries point into it.  The blocks hang in a list at
 * conf.priv, so that entries stay where they are when more files are read.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/conf.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/str.h"

#define CONF_FILE_MAX (1024u * 1024u)
#define CONF_LINE_MAX 4096u
#define CONF_ENTRIES_MAX 4096u

struct conf_block {
	struct conf_block *next;
	char *file;
	char text[];
};

/* Where a parser stands. */
struct conf_parser {
	struct conf *conf;
	const char *file;
	const char *section, *name;
	unsigned line;
	char *err;
	size_t err_size;
};

__attribute__((format(printf, 2, 3)))
static int line_error(const struct conf_parser *p, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(p->err, p->err_size, "%s:%u: ", p->file, p->line);

	if (n >= 0 && (size_t)n < p->err_size) {
		va_start(ap, fmt);
		vsnprintf(p->err + n, p->err_size - (size_t)n, fmt, ap);
		va_end(ap);
	}
	return -EINVAL;
}

/* Cuts blanks off both ends, in place. */
static char *trim(char *s)
{
	char *end = s + strlen(s);

	while (end > s && isspace((unsigned char)end[-1]))
		*--end = 0;
	while (isspace((unsigned char)*s))
		s++;
	return s;
}

static int parse_section(struct conf_parser *p, char *s)
{
	size_t n = strlen(s);
	char *name;

	if (s[n - 1] != ']')
		return line_error(p, "\"]\" is missing after the section's name");
	s[n - 1] = 0;
	s = trim(s + 1);
	name = s + strcspn(s, " \t");
	if (*name)
		*name++ = 0;
	if (!*s)
		return line_error(p, "the section has no name");
	p->section = s;
	p->name = trim(name);
	return 0;
}

static int add_entry(struct conf_parser *p, const char *key, const char *value)
{
	struct conf *c = p->conf;

	if (c->count >= CONF_ENTRIES_MAX)
		return line_error(p, "more than %u entries", CONF_ENTRIES_MAX);
	if (c->count % 64 == 0) {
		struct conf_entry *more = realloc(c->entries, (c->count + 64) *
							      sizeof(*more));

		if (!more) {
			line_error(p, "out of memory");
			return -ENOMEM;
		}
		c->entries = more;
	}
	c->entries[c->count++] = (struct conf_entry){
		.section = p->section, .name = p->name, .key = key,
		.value = value, .file = p->file, .line = p->line,
	};
	return 0;
}

static int parse_line(struct conf_parser *p, char *s)
{
	char *eq;

	if (!str_is_clean_text(s, strlen(s), "\t\r"))
		return line_error(p, "control characters or malformed UTF-8");
	s = trim(s);
	if (!*s || *s == '#' || *s == ';')
		return 0;
	if (*s == '[')
		return parse_section(p, s);
	eq = strchr(s, '=');
	if (!eq)
		return line_error(p, "neither \"[section]\" nor \"key = value\": %.40s", s);
	*eq = 0;
	s = trim(s);
	if (!*s)
		return line_error(p, "the key is missing before \"=\"");
	return add_entry(p, s, trim(eq + 1));
}

int conf_parse(struct conf *c, const char *file, const char *text, size_t len,
	       char *err, size_t err_size)
{
	struct conf_parser p = { .conf = c, .file = file, .section = "",
				 .name = "", .err = err, .err_size = err_size };
	struct conf_block *block;
	char *s, *end;
	int r = 0;

	if (len > CONF_FILE_MAX)
		return line_error(&p, "larger than %u bytes", CONF_FILE_MAX);
	block = calloc(1, sizeof(*block) + len + 1);
	if (!block || !(block->file = strdup(file))) {
		free(block);
		line_error(&p, "out of memory");
		return -ENOMEM;
	}
	block->next = c->priv;
	c->priv = block;
	memcpy(block->text, text, len);
	p.file = block->file;
	for (s = block->text; r == 0 && s < block->text + len; s = end + 1) {
		size_t left = (size_t)(block->text + len - s);

		p.line++;
		end = memchr(s, '\n', left);
		if (!end)
			end = s + left;
		*end = 0;
		if ((size_t)(end - s) > CONF_LINE_MAX)
			r = line_error(&p, "longer than %u bytes", CONF_LINE_MAX);
		else if (strlen(s) != (size_t)(end - s))
			r = line_error(&p, "a NUL byte");
		else
			r = parse_line(&p, s);
	}
	return r;
}

/* May the file be believed?  0, or a negative errno with the reason. */
static int check_owner(int fd, const char *path, char *err, size_t err_size)
{
	struct stat st;
	const char *why = NULL;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		why = "not a regular file";
	else if (st.st_mode & 022)
		why = "writable by group or others";
	else if (st.st_uid != 0 && st.st_uid != geteuid())
		why = "owned by another user";
	if (!why)
		return 0;
	snprintf(err, err_size, "%s: %s", path, why);
	return -EPERM;
}

int conf_read_file(struct conf *c, const char *path, char *err, size_t err_size)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK |
						  O_NOCTTY);
	CLEANUP_BUF struct buf text = BUF_INIT(CONF_FILE_MAX + 1);
	ssize_t n = 1;
	int r;

	if (fd < 0) {
		r = -errno;
		snprintf(err, err_size, "%s: %s", path, strerror(-r));
		return r;
	}
	r = check_owner(fd, path, err, err_size);
	if (r < 0)
		return r;
	while (n > 0 && buf_room(&text))
		n = buf_read_fd(&text, fd, 65536);
	if (n < 0) {
		snprintf(err, err_size, "%s: %s", path, strerror((int)-n));
		return (int)n;
	}
	return conf_parse(c, path, (const char *)buf_data(&text), buf_len(&text),
			  err, err_size);
}

static int is_conf(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return e->d_name[0] != '.' && n > 5 && strcmp(e->d_name + n - 5, ".conf") == 0;
}

int conf_read_dir(struct conf *c, const char *dir, char *err, size_t err_size)
{
	struct dirent **list = NULL;
	int n = scandir(dir, &list, is_conf, alphasort), r = 0;

	if (n < 0) {
		r = -errno;
		if (r == -ENOENT)
			return 0;
		snprintf(err, err_size, "%s: %s", dir, strerror(-r));
		return r;
	}
	for (int i = 0; i < n; i++) {
		CLEANUP_FREE char *path = str_printf("%s/%s", dir, list[i]->d_name);

		if (r == 0)
			r = path ? conf_read_file(c, path, err, err_size) : -ENOMEM;
		free(list[i]);
	}
	free(list);
	return r;
}

void conf_done(struct conf *c)
{
	struct conf_block *block = c->priv, *next;

	for (; block; block = next) {
		next = block->next;
		free(block->file);
		free(block);
	}
	free(c->entries);
	*c = (struct conf){ 0 };
}

const char *conf_get(const struct conf *c, const char *section,
		     const char *name, const char *key)
{
	for (size_t i = c->count; i > 0; i--) {
		const struct conf_entry *e = &c->entries[i - 1];

		if (strcmp(e->section, section) == 0 &&
		    strcmp(e->name, name) == 0 && strcmp(e->key, key) == 0)
			return e->value;
	}
	return NULL;
}
