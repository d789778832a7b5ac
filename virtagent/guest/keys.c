/*
 * keys.c - the keys as the guest has them
 *
 * A list in memory under one lock, and a file for each key.  A file is written
 * beside its place and moved there, so that a reader sees the old bytes or the
 * new ones.  Its mode is 0644, or 0600 for a secret key.
 *
 * A server that is replaced finds the files and takes them over: it then has all
 * keys but does not know their revisions, tells the host so, and gets
 * everything; what has the value already is no change and runs no hook.  guest.*
 * files that are found are sent again, which is no change either where the host
 * has them.  Lost is only the removal of a guest.* key that the host was not told
 * of before the server was replaced.
 *
 * A removed key stays in the list without a value, so that watches learn of it;
 * when there are REMOVED_MAX of them the oldest watches get everything instead.
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
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "virtagent/guest/keys_priv.h"

#define REMOVED_MAX 1000u

/* --- the list ---------------------------------------------------------------- */

static struct key *find(const struct keyring *k, const char *name)
{
	struct key *e = k->keys;

	while (e && strcmp(e->name, name) != 0)
		e = e->next;
	return e;
}

struct key *keyring_find(const struct keyring *k, const char *name)
{
	struct key *e = find(k, name);

	return e && e->value ? e : NULL;
}

static struct key *add(struct keyring *k, const char *name)
{
	struct key *e = find(k, name), **p = &k->keys;

	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->flags = KEY_READ;
	while (*p && strcmp((*p)->name, name) < 0)
		p = &(*p)->next;
	e->next = *p;
	*p = e;
	return e;
}

/* Watches from before the newest removal that goes are told everything. */
static void trim_removed(struct keyring *k)
{
	if (k->removed <= REMOVED_MAX)
		return;
	for (struct key **p = &k->keys; *p;) {
		struct key *e = *p;

		if (e->value || e->dirty || e->hook) {
			p = &e->next;
			continue;
		}
		if (e->seq > k->floor)
			k->floor = e->seq;
		*p = e->next;
		free(e);
	}
	k->removed = 0;
}

/* --- files ------------------------------------------------------------------- */

static int write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static int write_file(const struct keyring *k, const struct key *e)
{
	bool open_to_all = (e->flags & KEY_READ) && !(e->flags & KEY_SECRET);
	CLEANUP_CLOSE int fd = openat(k->dir_fd, ".new", O_WRONLY | O_CREAT |
				      O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err = fd < 0 ? -errno : write_all(fd, e->value, e->size);

	if (err == 0 && fchmod(fd, open_to_all ? 0644 : 0600) < 0)
		err = -errno;
	if (err == 0 && renameat(k->dir_fd, ".new", k->dir_fd, e->name) < 0)
		err = -errno;
	if (err < 0)
		unlinkat(k->dir_fd, ".new", 0);
	return err;
}

static void update_file(const struct keyring *k, const struct key *e)
{
	static struct log_limit limit = LOG_LIMIT_INIT;
	int err = 0;

	if (e->value)
		err = write_file(k, e);
	else if (unlinkat(k->dir_fd, e->name, 0) < 0 && errno != ENOENT)
		err = -errno;
	if (err < 0)
		log_ratelimited(&limit, LOG_LVL_WARNING, "%s/%s: %s", k->dir,
				e->name, strerror(-err));
}

/* --- a change ---------------------------------------------------------------- */

static void account(struct keyring *k, const struct key *e, bool add_it)
{
	size_t n = strlen(e->name) + e->size + KEY_COST;

	if (!e->value)
		return;
	k->usage = add_it ? k->usage + n : k->usage - n;
}

static bool is_same(const struct key *e, const void *value, size_t size,
		    unsigned flags)
{
	if (!value || !e->value)
		return !value && !e->value;
	return e->size == size && e->flags == flags &&
	       memcmp(e->value, value, size) == 0;
}

/* value NULL removes.  Tells watches and hooks if it is another one. */
static int put(struct keyring *k, struct key *e, const void *value, size_t size,
	       unsigned flags)
{
	void *copy = NULL;

	if (is_same(e, value, size, flags))
		return 0;
	if (value) {
		copy = malloc(size ? size : 1);
		if (!copy)
			return -ENOMEM;
		if (size)
			memcpy(copy, value, size);
	}
	account(k, e, false);
	if (!value)
		k->removed++;
	free(e->value);
	e->value = copy;
	e->size = value ? size : 0;
	e->flags = flags;
	account(k, e, true);
	e->seq = ++k->seq;
	e->hook = true;
	update_file(k, e);
	return 0;
}

/* --- from the host ----------------------------------------------------------- */

struct pushed {
	const char *name;
	const void *value;
	size_t size;
	unsigned flags;
	int64_t revision;
	enum key_owner owner;
};

static bool flag(const struct va_value *v, const char *name)
{
	bool on = false;

	return va_get_bool(va_member(v, name), &on) == 0 && on;
}

static int take_pushed(const struct va_value *v, struct pushed *p, char *why,
		       size_t size)
{
	*p = (struct pushed){ .flags = 0 };
	if (va_get_string(va_member(v, "name"), &p->name) < 0 ||
	    va_get_int(va_member(v, "revision"), &p->revision) < 0) {
		snprintf(why, size, "a key without name or revision");
		return -EINVAL;
	}
	if (key_name_check(p->name, &p->owner, why, size) < 0)
		return -EINVAL;
	if (flag(v, "removed"))
		return 0;
	if (va_get_bytes(va_member(v, "value"), &p->value, &p->size) < 0) {
		snprintf(why, size, "key %s: no value", p->name);
		return -EINVAL;
	}
	if (!p->value)
		p->value = "";
	if (p->size > KEY_VALUE_MAX) {
		snprintf(why, size, "key %s: the value has %zu bytes; the limit "
			 "is %u", p->name, p->size, KEY_VALUE_MAX);
		return -EINVAL;
	}
	p->flags = (flag(v, "read") ? KEY_READ : 0) |
		   (flag(v, "write") ? KEY_WRITE : 0) |
		   (flag(v, "secret") ? KEY_SECRET : 0);
	return 0;
}

static int apply(struct keyring *k, const struct pushed *p)
{
	struct key *e = add(k, p->name);
	int err;

	if (!e)
		return -ENOMEM;
	e->unseen = false;
	/* Not sent yet: what is here is newer. */
	if (e->dirty)
		return 0;
	err = put(k, e, p->value, p->size, p->flags);
	if (err == 0)
		e->revision = p->revision;
	return err;
}

/* All that the host has was here: the rest goes, but guest.* keys are shown to a
 * host that does not have them yet. */
static void sweep(struct keyring *k, bool other_store)
{
	for (struct key *e = k->keys; e; e = e->next) {
		if (!e->unseen)
			continue;
		e->unseen = false;
		if (!e->value || e->dirty)
			continue;
		if (other_store && strncmp(e->name, "guest.", 6) == 0) {
			e->dirty = true;
			e->dirty_seq = ++k->dirty_seq;
		} else {
			put(k, e, NULL, 0, e->flags);
		}
	}
}

static int check_batch(const struct va_value *keys, char *why, size_t size)
{
	struct pushed p;
	int err = 0;

	for (size_t i = 0; err == 0 && i < va_count(keys); i++)
		err = take_pushed(va_item(keys, i), &p, why, size);
	return err;
}

static int take_batch(struct keyring *k, const struct va_value *batch,
		      const char *store, char *why, size_t size)
{
	const struct va_value *keys = va_member(batch, "keys");
	struct pushed p;
	int err = 0;

	if (flag(batch, "full")) {
		k->sweeping = true;
		k->other_store = strcmp(k->store, store) != 0;
		for (struct key *e = k->keys; e; e = e->next)
			e->unseen = true;
	}
	for (size_t i = 0; err == 0 && i < va_count(keys); i++) {
		err = take_pushed(va_item(keys, i), &p, why, size);
		if (err == 0)
			err = apply(k, &p);
	}
	if (err == 0 && k->sweeping && !flag(batch, "more")) {
		sweep(k, k->other_store);
		k->sweeping = false;
	}
	return err;
}

int keyring_push(struct keyring *k, const struct va_value *batch,
		 int64_t *revision, char *why, size_t size)
{
	const char *store;
	int64_t since, upto;
	int err;

	if (va_get_string(va_member(batch, "store"), &store) < 0 ||
	    va_get_int(va_member(batch, "since"), &since) < 0 ||
	    va_get_int(va_member(batch, "revision"), &upto) < 0) {
		snprintf(why, size, "a batch needs store, since and revision");
		return -EINVAL;
	}
	err = check_batch(va_member(batch, "keys"), why, size);
	if (err < 0)
		return err;
	pthread_mutex_lock(&k->lock);
	if (!flag(batch, "full") && (strcmp(store, k->store) != 0 ||
				     since != k->revision)) {
		snprintf(why, size, "it does not follow revision %lld of store "
			 "\"%s\"", (long long)k->revision, k->store);
		err = -EAGAIN;
	}
	if (err == 0)
		err = take_batch(k, batch, store, why, size);
	if (err == 0) {
		snprintf(k->store, sizeof(k->store), "%s", store);
		k->revision = *revision = upto;
	}
	trim_removed(k);
	notify_all(&k->changed);
	pthread_mutex_unlock(&k->lock);
	return err;
}

void keyring_state(struct keyring *k, char store[64], int64_t *revision)
{
	pthread_mutex_lock(&k->lock);
	/* Half of a full batch is worth nothing. */
	if (k->sweeping)
		k->revision = 0;
	k->sweeping = false;
	memcpy(store, k->store, sizeof(k->store));
	*revision = k->revision;
	pthread_mutex_unlock(&k->lock);
}

/* --- from local programs ------------------------------------------------------ */

static int check_change(const struct keyring *k, const struct key_change *c,
			int64_t if_revision, size_t *usage, char *why,
			size_t size)
{
	const struct key *e = keyring_find(k, c->name);
	int64_t now = e ? e->revision : 0;

	if (c->owner != KEY_OF_GUEST) {
		snprintf(why, size, "key %s: the guest sets guest.* keys here; "
			 "user.* ones by host.kv.set", c->name);
		return -EACCES;
	}
	if (if_revision >= 0 && now != if_revision) {
		snprintf(why, size, "key %s: its revision is %lld, not %lld",
			 c->name, (long long)now, (long long)if_revision);
		return -EAGAIN;
	}
	if (e)
		*usage -= strlen(e->name) + e->size + KEY_COST;
	if (c->value)
		*usage += strlen(c->name) + c->size + KEY_COST;
	if (*usage <= KEYS_GUEST_MAX)
		return 0;
	snprintf(why, size, "key %s: with its %zu bytes there are %zu bytes of "
		 "keys; the limit is %u", c->name, c->size, *usage,
		 KEYS_GUEST_MAX);
	return -EDQUOT;
}

int keyring_set(struct keyring *k, const struct key_change *changes, size_t n,
		int64_t if_revision, uint64_t *seq, char *why, size_t size)
{
	size_t usage;
	int err = 0;

	pthread_mutex_lock(&k->lock);
	usage = k->usage;
	for (size_t i = 0; err == 0 && i < n; i++)
		err = check_change(k, &changes[i], if_revision, &usage, why,
				   size);
	for (size_t i = 0; err == 0 && i < n; i++) {
		struct key *e = add(k, changes[i].name);
		uint64_t before = k->seq;

		if (!e) {
			err = -ENOMEM;
			break;
		}
		err = put(k, e, changes[i].value, changes[i].size, KEY_READ);
		if (err == 0 && k->seq != before) {
			e->dirty = true;
			e->dirty_seq = ++k->dirty_seq;
		}
	}
	*seq = k->dirty_seq;
	trim_removed(k);
	notify_all(&k->changed);
	pthread_mutex_unlock(&k->lock);
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
	if (n < 0 || buf_len(&b) > KEY_VALUE_MAX)
		return 0;
	e = add(k, name);
	if (!e)
		return -ENOMEM;
	e->size = buf_len(&b);
	e->value = malloc(e->size ? e->size : 1);
	if (!e->value)
		return -ENOMEM;
	memcpy(e->value, buf_data(&b), e->size);
	e->flags = KEY_READ | (st.st_mode & 0004 ? 0 : KEY_SECRET);
	e->seq = ++k->seq;
	account(k, e, true);
	if (owner == KEY_OF_GUEST) {
		e->dirty = true;
		e->dirty_seq = ++k->dirty_seq;
	}
	return 0;
}

static int load(struct keyring *k)
{
	int fd = openat(k->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSEDIR DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	int err = 0;

	if (!d)
		return -errno;
	while (err == 0 && (e = readdir(d))) {
		if (e->d_name[0] != '.')
			err = load_file(k, e->d_name);
	}
	return err;
}

struct keyring *keyring_open(const char *dir)
{
	struct keyring *k = calloc(1, sizeof(*k));
	int err = k ? dir_make_private(dir) : -ENOMEM;

	if (err == 0) {
		pthread_mutex_init(&k->lock, NULL);
		/* Above those of an earlier server. */
		k->seq = k->floor = (uint64_t)(clock_wall() * 1000);
		k->dir = strdup(dir);
		k->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		err = k->dir_fd < 0 ? -errno : k->dir ? load(k) : -ENOMEM;
	}
	if (err == 0 && fchmod(k->dir_fd, 0755) < 0)
		err = -errno;
	if (err == 0)
		return k;
	/* The server ends without keys: nothing else frees a keyring. */
	free(k);
	errno = -err;
	return NULL;
}

const char *keyring_dir(const struct keyring *k)
{
	return k->dir;
}
