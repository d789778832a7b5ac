/*
 * keys_files.c - the guest's keys as files, and what a server finds of them
 *
 * A file is written beside its place and moved there, so that a reader sees the
 * old bytes or the new ones.  Its mode is 0644, or 0600 for a secret key.  Their
 * directory, and the runtime directory above it, let everybody through but list
 * nothing: who is not root opens the keys he knows and may read, and learns the
 * name of no other.
 *
 * A server that is replaced finds the files and takes them over: it then has all
 * keys but does not know their revisions, tells the host so, and gets
 * everything; what has the value already is no change and runs no hook.  guest.*
 * files that are found are sent again, which is no change either where the host
 * has them.
 *
 * What is no key's value stands in STATE_FILE, a word and its text a line:
 *
 *	seq N		no change has a number above N yet (they are taken in
 *			blocks, so that the file is written seldom)
 *	vm UUID		the virtual machine these keys belong to
 *	removed KEY	a guest.* key that was removed here, and the host was not
 *			told yet
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/daemon.h"
#include "common/file.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/guest/keys_priv.h"

#define STATE_FILE ".state"
#define STATE_MAX (4u << 20) /* bytes: some ten thousand removals */
#define SEQ_BLOCK 1000u
#define SEQ_MAX (UINT64_C(1) << 62)

/* --- files ------------------------------------------------------------------- */

static int write_file(const struct keyring *k, const char *name,
		      const void *data, size_t n, mode_t mode)
{
	CLEANUP_CLOSE int fd = openat(k->dir_fd, ".new", O_WRONLY | O_CREAT |
				      O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err = fd < 0 ? -errno : file_write(fd, data, n);

	if (err == 0 && fchmod(fd, mode) < 0)
		err = -errno;
	if (err == 0 && renameat(k->dir_fd, ".new", k->dir_fd, name) < 0)
		err = -errno;
	if (err < 0)
		unlinkat(k->dir_fd, ".new", 0);
	return err;
}

void keyring_write(const struct keyring *k, const struct key *e)
{
	static struct log_limit limit = LOG_LIMIT_INIT;
	int err = 0;

	if (e->value)
		err = write_file(k, e->name, e->value, e->size,
				 (e->flags & KEY_READ) &&
				 !(e->flags & KEY_SECRET) ? 0644 : 0600);
	else if (unlinkat(k->dir_fd, e->name, 0) < 0 && errno != ENOENT)
		err = -errno;
	if (err < 0)
		log_ratelimited(&limit, LOG_LVL_WARNING, "%s/%s: %s", k->dir,
				e->name, strerror(-err));
}

/* --- the state --------------------------------------------------------------- */

static int format_state(const struct keyring *k, struct buf *b)
{
	int err = buf_printf(b, "seq %llu\n", (unsigned long long)k->seq_saved);

	if (err == 0 && k->vm[0])
		err = buf_printf(b, "vm %s\n", k->vm);
	for (const struct key *e = k->keys; e && err == 0; e = e->next) {
		if (e->removing)
			err = buf_printf(b, "removed %s\n", e->name);
	}
	return err;
}

void keyring_save(struct keyring *k)
{
	static struct log_limit limit = LOG_LIMIT_INIT;
	CLEANUP_BUF struct buf b = BUF_INIT(STATE_MAX);
	int err = format_state(k, &b);

	if (err == 0)
		err = write_file(k, STATE_FILE, buf_data(&b), buf_len(&b), 0600);
	if (err < 0)
		log_ratelimited(&limit, LOG_LVL_WARNING, "%s/%s: %s", k->dir,
				STATE_FILE, strerror(-err));
}

uint64_t keyring_next_seq(struct keyring *k)
{
	if (++k->seq > k->seq_saved) {
		k->seq_saved = k->seq + SEQ_BLOCK;
		keyring_save(k);
	}
	return k->seq;
}

/* A removal that the host was not told of; the file of a key that was set again
 * decides. */
static int load_removed(struct keyring *k, const char *name)
{
	enum key_owner owner;
	char why[256];
	struct key *e;

	if (key_name_check(name, &owner, why, sizeof(why)) < 0 ||
	    owner != KEY_OF_GUEST || keyring_find(k, name))
		return 0;
	e = keyring_add(k, name);
	if (!e)
		return -ENOMEM;
	e->seq = ++k->seq;
	e->removing = e->dirty = true;
	e->dirty_seq = ++k->dirty_seq;
	k->removed++;
	return 0;
}

static int load_line(struct keyring *k, const char *word, const char *rest)
{
	uint64_t seq;

	if (strcmp(word, "seq") == 0 &&
	    str_to_u64(rest, SEQ_MAX, &seq) == 0)
		k->seq = k->floor = k->seq_saved = seq;
	else if (strcmp(word, "vm") == 0)
		snprintf(k->vm, sizeof(k->vm), "%s", rest);
	else if (strcmp(word, "removed") == 0)
		return load_removed(k, rest);
	return 0;
}

/* -ENOMEM; a file that is not there or cannot be read says nothing. */
static int read_state(const struct keyring *k, struct buf *b)
{
	CLEANUP_CLOSE int fd = openat(k->dir_fd, STATE_FILE, O_RDONLY |
				      O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = 0;

	while (fd >= 0 && (n = buf_read_fd(b, fd, STATE_MAX)) > 0)
		;
	return n == -ENOMEM ? -ENOMEM : 0;
}

/* The lines that say removed, or all others. */
static int take_state(struct keyring *k, const struct buf *b, bool removals)
{
	CLEANUP_FREE char *text = buf_len(b) ?
		strndup((const char *)buf_data(b), buf_len(b)) : strdup("");
	char *save = NULL, *line;
	int err = text ? 0 : -ENOMEM;

	for (line = text ? strtok_r(text, "\n", &save) : NULL;
	     line && err == 0; line = strtok_r(NULL, "\n", &save)) {
		char *rest = strchr(line, ' ');

		if (!rest)
			continue;
		*rest++ = '\0';
		if ((strcmp(line, "removed") == 0) == removals)
			err = load_line(k, line, rest);
	}
	return err;
}

/* --- the start ---------------------------------------------------------------- */

static int load_file(struct keyring *k, const char *name)
{
	CLEANUP_CLOSE int fd = openat(k->dir_fd, name, O_RDONLY | O_CLOEXEC |
				      O_NOFOLLOW | O_NONBLOCK);
	CLEANUP_BUF struct buf b = BUF_INIT(KEY_VALUE_MAX + 1);
	enum key_owner owner;
	struct stat st;
	char why[256];
	struct key *e;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    key_name_check(name, &owner, why, sizeof(why)) < 0)
		return 0;
	while ((n = buf_read_fd(&b, fd, KEY_VALUE_MAX + 1)) > 0)
		;
	if (n == -ENOMEM)
		return -ENOMEM; /* or the key would be gone for this server */
	if (n < 0 || buf_len(&b) > KEY_VALUE_MAX)
		return 0;
	e = keyring_add(k, name);
	if (!e)
		return -ENOMEM;
	e->size = buf_len(&b);
	e->value = malloc(e->size ? e->size : 1);
	if (!e->value)
		return -ENOMEM;
	memcpy(e->value, buf_data(&b), e->size);
	e->flags = KEY_READ | (st.st_mode & 0004 ? 0 : KEY_SECRET);
	e->seq = ++k->seq;
	keyring_account(k, e, true);
	if (owner == KEY_OF_GUEST) {
		e->dirty = true;
		e->dirty_seq = ++k->dirty_seq;
	}
	return 0;
}

static int load_files(struct keyring *k)
{
	CLEANUP_CLOSE int fd = openat(k->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSEDIR DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	int err = 0;

	if (!d)
		return -errno;
	take_fd(fd); /* d's now */
	while (err == 0 && (e = readdir(d))) {
		if (e->d_name[0] != '.')
			err = load_file(k, e->d_name);
	}
	return err;
}

static int load(struct keyring *k)
{
	CLEANUP_BUF struct buf state = BUF_INIT(STATE_MAX);
	int err = read_state(k, &state);

	if (err == 0)
		err = take_state(k, &state, false);
	if (err == 0)
		err = load_files(k);
	if (err == 0)
		err = take_state(k, &state, true);
	if (err < 0)
		return err;
	k->seq_saved = k->seq + SEQ_BLOCK;
	keyring_save(k);
	return 0;
}

/* Everybody may pass through a directory of ours, to files that say themselves
 * who reads them. */
static int let_through(const char *dir, mode_t mode)
{
	struct stat st;

	if (stat(dir, &st) < 0)
		return -errno;
	return chmod(dir, (st.st_mode & 07777) | mode) < 0 ? -errno : 0;
}

struct keyring *keyring_open(const char *dir)
{
	struct keyring *k = calloc(1, sizeof(*k));
	int err;

	if (!k)
		return NULL;
	k->dir_fd = -1;
	pthread_mutex_init(&k->lock, NULL);
	err = dir_make_private(dir);
	if (err == 0) {
		k->dir = strdup(dir);
		k->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		err = k->dir_fd < 0 ? -errno : k->dir ? load(k) : -ENOMEM;
	}
	if (err == 0 && fchmod(k->dir_fd, 0711) < 0)
		err = -errno;
	if (err == 0)
		err = let_through(dir_runtime(), 0011);
	if (err == 0)
		return k;
	keyring_free(k);
	errno = -err;
	return NULL;
}

void keyring_free(struct keyring *k)
{
	if (!k)
		return;
	while (k->keys) {
		struct key *e = k->keys;

		k->keys = e->next;
		free(e->value);
		free(e);
	}
	if (k->dir_fd >= 0)
		close(k->dir_fd);
	pthread_mutex_destroy(&k->lock);
	free(k->dir);
	free(k);
}

const char *keyring_dir(const struct keyring *k)
{
	return k->dir;
}
