/*
 * conf.h - configuration files
 *
 * INI: "[section]" or "[section name]", "key = value", comments with # or ;
 * on lines of their own.  Values are taken to the end of the line, trimmed; a
 * key may repeat where its row says so.  An error names file, line and reason.
 * Limits: file 1 MiB, line 4096 bytes, 4096 entries.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_CONF_H
#define VA_COMMON_CONF_H

#include <stddef.h>

struct conf_entry {
	const char *section; /* "" before the first header */
	const char *name;    /* of "[section name]", or "" */
	const char *key;
	const char *value;
	const char *file;
	unsigned line;
};

struct conf {
	struct conf_entry *entries;
	size_t count;
	void *priv;
};

/*
 * Reads a file.  Not a regular file, writable by group or others, or owned by
 * neither root nor the caller: -EPERM.  On error a message "FILE:LINE: reason"
 * is in err.  Entries of several files may be collected by calling again with
 * the same conf.
 */
int conf_read_file(struct conf *c, const char *path, char *err, size_t err_size);
/* Every *.conf in a directory, in name order; a missing directory is empty. */
int conf_read_dir(struct conf *c, const char *dir, char *err, size_t err_size);
/* For tests and fuzzers: parses text as if read from file. */
int conf_parse(struct conf *c, const char *file, const char *text, size_t len,
	       char *err, size_t err_size);
void conf_done(struct conf *c);

/* The last value of a key, or NULL. */
const char *conf_get(const struct conf *c, const char *section,
		     const char *name, const char *key);

#endif
