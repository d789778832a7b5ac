/*
 * store.c - what va-hostd keeps on disk: the file, its schema, its troubles
 *
 * One connection, used by one thread only.  WAL mode, synchronous=NORMAL: a
 * kill -9 at any moment loses nothing that was acknowledged; a power failure may
 * lose the last moments, never the file.  The schema's version is SQLite's
 * user_version; a newer one than ours is served read-only.
 *
 * When a write fails (disk full, damage, I/O error) the store is in trouble: keys
 * cannot be set, events are kept in memory (store_events.c), and the disk is tried
 * again after RETRY_NS.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "virtagent/host/store_priv.h"

#define SCHEMA_VERSION 3
#define RETRY_NS (5 * NSEC_PER_SEC)
#define BUSY_MS 2000

/* Each brings a file one version further. */
static const char *const schemas[SCHEMA_VERSION] = {
	store_events_schema, store_keys_schema, store_groups_schema,
};

/* --- results, trouble --------------------------------------------------- */

int store_errno(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return -EROFS;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	default:
		return -EIO;
	}
}

static void set_trouble(struct store *s, const char *what, uint64_t retry_ns)
{
	if (!s->trouble[0])
		log_warning("%s: cannot be written: %s; keys cannot be set, events "
			    "are kept in memory for now", s->path, what);
	snprintf(s->trouble, sizeof(s->trouble), "%s: %s", s->path, what);
	s->retry_ns = retry_ns;
}

void store_failed(struct store *s)
{
	set_trouble(s, sqlite3_errmsg(s->db), clock_now() + RETRY_NS);
}

void store_recovered(struct store *s)
{
	if (!s->trouble[0] || store_events_settle(s) < 0)
		return;
	log_info("%s: can be written again", s->path);
	s->trouble[0] = '\0';
}

/* --- statements --------------------------------------------------------- */

static int keep_text(void *arg, int n, char **values, char **names)
{
	char *text = arg;

	if (n > 0 && values[0] && !text[0])
		snprintf(text, 128, "%s", values[0]);
	return 0;
}

void store_query_text(struct store *s, const char *statement, char text[128])
{
	text[0] = '\0';
	if (sqlite3_exec(s->db, statement, keep_text, text, NULL) != SQLITE_OK)
		text[0] = '\0';
}

long store_query_number(struct store *s, const char *statement)
{
	char text[128];

	store_query_text(s, statement, text);
	return atol(text);
}

int store_prepare(struct store *s, const char *const *sql, size_t n,
		  sqlite3_stmt **st)
{
	for (size_t i = 0; i < n; i++) {
		if (sqlite3_prepare_v2(s->db, sql[i], -1, &st[i], NULL) !=
		    SQLITE_OK)
			return -EIO;
	}
	return 0;
}

static void finalize(sqlite3_stmt **st, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		sqlite3_finalize(st[i]);
		st[i] = NULL;
	}
}

int store_run(sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	sqlite3_reset(st);
	return store_errno(rc);
}

/* --- opening ------------------------------------------------------------ */

static int open_db(struct store *s, const char *path, int flags)
{
	int rc = sqlite3_open_v2(path, &s->db,
				 flags | SQLITE_OPEN_NOMUTEX, NULL);

	if (rc != SQLITE_OK)
		return rc;
	sqlite3_busy_timeout(s->db, BUSY_MS);
	sqlite3_extended_result_codes(s->db, 1);
	return SQLITE_OK;
}

static void close_db(struct store *s)
{
	finalize(s->st, STORE_EVENT_STATEMENTS);
	finalize(s->key_st, STORE_KEY_STATEMENTS);
	sqlite3_close(s->db);
	s->db = NULL;
}

/* From the version the file has to ours.  NULL, or what is wrong. */
static const char *make_schema(struct store *s, long version)
{
	for (long v = version < 0 ? 0 : version; v < SCHEMA_VERSION; v++) {
		if (sqlite3_exec(s->db, schemas[v], NULL, NULL, NULL) !=
		    SQLITE_OK)
			return sqlite3_errmsg(s->db);
	}
	return NULL;
}

/* WAL, the schema, a look at the file's health.  NULL, or what is wrong. */
static const char *prepare_db(struct store *s, char text[128])
{
	long version;

	store_query_text(s, "PRAGMA quick_check(1)", text);
	if (strcmp(text, "ok") != 0)
		return text[0] ? text : sqlite3_errmsg(s->db);
	store_query_text(s, "PRAGMA journal_mode = WAL", text);
	if (strcmp(text, "wal") != 0)
		return "write-ahead logging cannot be switched on";
	sqlite3_exec(s->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
	version = store_query_number(s, "PRAGMA user_version");
	if (version > SCHEMA_VERSION) {
		snprintf(text, 128, "schema version %ld is newer than this "
			 "program's %d", version, SCHEMA_VERSION);
		return text;
	}
	return make_schema(s, version);
}

/* The statements and the table in memory; they also tell whether a read-only
 * file has our tables at all. */
static int prepare_statements(struct store *s)
{
	int err = store_events_prepare(s);

	return err < 0 ? err : store_keys_prepare(s);
}

/* Read-only, then only in memory: something always serves. */
static int open_fallback(struct store *s)
{
	close_db(s);
	if (open_db(s, s->path, SQLITE_OPEN_READONLY) == SQLITE_OK &&
	    prepare_statements(s) == 0)
		return 0;
	close_db(s);
	if (open_db(s, ":memory:",
		    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) != SQLITE_OK)
		return -ENOMEM;
	if (make_schema(s, 0))
		return -ENOMEM;
	/* The numbers of the file that cannot be read are unknown; the time
	 * keeps new ones above them. */
	if (prepare_statements(s) < 0)
		return -ENOMEM;
	s->last = (uint64_t)(clock_wall() * 1000);
	return 0;
}

static int open_any(struct store *s)
{
	char text[128] = "";
	const char *why;
	int rc;

	rc = open_db(s, s->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
	why = rc == SQLITE_OK ? prepare_db(s, text) : sqlite3_errmsg(s->db);
	if (!why && prepare_statements(s) == 0)
		return 0;
	/* Repair is the admin's: no retry. */
	set_trouble(s, why ? why : sqlite3_errmsg(s->db), CLOCK_NEVER);
	return open_fallback(s);
}

static void *run_store(void *arg)
{
	struct store *s = arg;

	loop_run(s->loop);
	return NULL;
}

struct store *store_open(const char *path)
{
	struct store *s = calloc(1, sizeof(*s));
	int err = ENOMEM;

	if (!s)
		return NULL;
	s->path = strdup(path);
	s->loop = loop_new();
	if (s->path && s->loop && open_any(s) == 0) {
		err = pthread_create(&s->thread, NULL, run_store, s);
		if (err == 0)
			return s;
	}
	close_db(s);
	if (s->loop)
		loop_free(s->loop);
	free(s->path);
	free(s);
	errno = err;
	return NULL;
}

static void stop_store(void *arg)
{
	loop_stop(((struct store *)arg)->loop);
}

void store_close(struct store *s)
{
	if (!s)
		return;
	/* In order behind everything posted before. */
	while (loop_post(s->loop, stop_store, s) < 0)
		sched_yield();
	pthread_join(s->thread, NULL);
	close_db(s);
	loop_free(s->loop);
	free(s->path);
	free(s);
}

struct loop *store_loop(struct store *s)
{
	return s->loop;
}

const char *store_trouble(const struct store *s)
{
	return s->trouble[0] ? s->trouble : NULL;
}
