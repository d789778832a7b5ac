/*
 * store.c - what va-hostd keeps on disk, and the only place that knows SQLite
 *
 * One connection, used by one thread only.  WAL mode, synchronous=NORMAL: a
 * kill -9 at any moment loses nothing that was acknowledged; a power failure may
 * lose the last moments, never the file.  The schema's version is SQLite's
 * user_version; a newer one than ours is served read-only.
 *
 * When a write fails (disk full, damage, I/O error) events go to a temporary
 * table in memory with the same columns; readers see both as one.  The disk is
 * tried again after RETRY_NS, and once it takes writes again the ones in memory
 * are moved over.  So a full disk costs the past after a power failure, not the
 * service.
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

#define EVENT_COLUMNS                                                          \
	"(seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL,"       \
	" guest TEXT NOT NULL, name TEXT NOT NULL, data TEXT NOT NULL,"        \
	" agent TEXT, agent_seq INTEGER)"

/* Each brings a file one version further. */
static const char schema_1[] =
	"BEGIN IMMEDIATE;"
	"CREATE TABLE events " EVENT_COLUMNS ";"
	"CREATE UNIQUE INDEX events_once ON events (guest, agent, agent_seq)"
	" WHERE agent IS NOT NULL;"
	"CREATE INDEX events_guest ON events (guest, seq);"
	"PRAGMA user_version = 1;"
	"COMMIT;";

static const char memory_schema[] =
	"CREATE TEMP TABLE missed " EVENT_COLUMNS ";";

enum statement {
	SQL_ADD,
	SQL_ADD_MISSED,
	SQL_FIND,
	SQL_READ,
	SQL_READ_GUEST,
	SQL_MISSED_COUNT,
	SQL_TRIM,
	SQL_COUNT
};

#define ADD_VALUES                                                             \
	" (seq, time, guest, name, data, agent, agent_seq)"                    \
	" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
#define READ_COLUMNS "SELECT seq, time, guest, name, data FROM "

static const char *const sql[SQL_COUNT] = {
	[SQL_ADD] = "INSERT INTO main.events" ADD_VALUES,
	[SQL_ADD_MISSED] = "INSERT INTO temp.missed" ADD_VALUES,
	[SQL_FIND] = "SELECT seq FROM main.events WHERE guest = ?1"
		     " AND agent = ?2 AND agent_seq = ?3",
	[SQL_READ] = READ_COLUMNS "main.events WHERE seq > ?1 UNION ALL "
		     READ_COLUMNS "temp.missed WHERE seq > ?1"
		     " ORDER BY seq LIMIT ?2",
	[SQL_READ_GUEST] =
		READ_COLUMNS "main.events WHERE seq > ?1 AND guest = ?3"
		" UNION ALL " READ_COLUMNS
		"temp.missed WHERE seq > ?1 AND guest = ?3"
		" ORDER BY seq LIMIT ?2",
	[SQL_MISSED_COUNT] = "SELECT count(*) FROM temp.missed",
	[SQL_TRIM] = "DELETE FROM main.events WHERE time < ?1"
		     " OR seq <= (SELECT max(seq) FROM main.events) - ?2",
};

_Static_assert(SQL_COUNT == STORE_EVENT_STATEMENTS, "one slot each");

static const char *const schemas[SCHEMA_VERSION] = {
	schema_1, store_keys_schema, store_groups_schema,
};

/* --- opening ------------------------------------------------------------ */

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

static int keep_text(void *arg, int n, char **values, char **names)
{
	char *text = arg;

	if (n > 0 && values[0] && !text[0])
		snprintf(text, 128, "%s", values[0]);
	return 0;
}

static void query_text(sqlite3 *db, const char *statement, char text[128])
{
	text[0] = '\0';
	if (sqlite3_exec(db, statement, keep_text, text, NULL) != SQLITE_OK)
		text[0] = '\0';
}

void store_query_text(struct store *s, const char *statement, char text[128])
{
	query_text(s->db, statement, text);
}

static long query_number(sqlite3 *db, const char *statement)
{
	char text[128];

	query_text(db, statement, text);
	return atol(text);
}

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
	for (size_t i = 0; i < SQL_COUNT; i++) {
		sqlite3_finalize(s->st[i]);
		s->st[i] = NULL;
	}
	store_keys_finalize(s);
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

	query_text(s->db, "PRAGMA quick_check(1)", text);
	if (strcmp(text, "ok") != 0)
		return text[0] ? text : sqlite3_errmsg(s->db);
	query_text(s->db, "PRAGMA journal_mode = WAL", text);
	if (strcmp(text, "wal") != 0)
		return "write-ahead logging cannot be switched on";
	sqlite3_exec(s->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
	version = query_number(s->db, "PRAGMA user_version");
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
	sqlite3_exec(s->db, "PRAGMA temp_store = MEMORY", NULL, NULL, NULL);
	if (sqlite3_exec(s->db, memory_schema, NULL, NULL, NULL) != SQLITE_OK)
		return -EIO;
	for (size_t i = 0; i < SQL_COUNT; i++) {
		if (sqlite3_prepare_v2(s->db, sql[i], -1, &s->st[i], NULL) !=
		    SQLITE_OK)
			return -EIO;
	}
	if (store_keys_prepare(s) < 0)
		return -EIO;
	s->last = (uint64_t)query_number(
		s->db, "SELECT seq FROM main.sqlite_sequence"
		" WHERE name = 'events'");
	return 0;
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

/* --- events ------------------------------------------------------------- */

static void bind_text(sqlite3_stmt *st, int i, const char *text)
{
	sqlite3_bind_text(st, i, text, -1, SQLITE_STATIC);
}

static int step_once(struct store *s, enum statement which)
{
	int rc = sqlite3_step(s->st[which]);

	sqlite3_reset(s->st[which]);
	return store_errno(rc);
}

static int insert(struct store *s, enum statement which,
		  const struct store_event *ev)
{
	sqlite3_stmt *st = s->st[which];

	sqlite3_bind_int64(st, 1, (sqlite3_int64)ev->seq);
	sqlite3_bind_int64(st, 2, ev->time_ms);
	bind_text(st, 3, ev->guest);
	bind_text(st, 4, ev->name);
	bind_text(st, 5, ev->data);
	if (ev->agent) {
		bind_text(st, 6, ev->agent);
		sqlite3_bind_int64(st, 7, ev->agent_seq);
	} else {
		sqlite3_bind_null(st, 6);
		sqlite3_bind_null(st, 7);
	}
	return step_once(s, which);
}

static bool find_kept(struct store *s, struct store_event *ev)
{
	sqlite3_stmt *st = s->st[SQL_FIND];
	bool found;

	if (!ev->agent)
		return false;
	bind_text(st, 1, ev->guest);
	bind_text(st, 2, ev->agent);
	sqlite3_bind_int64(st, 3, ev->agent_seq);
	found = sqlite3_step(st) == SQLITE_ROW;
	if (found)
		ev->seq = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	return found;
}

/* The disk takes writes again: what waited in memory goes there. */
static void move_missed(struct store *s)
{
	static const char move[] =
		"BEGIN IMMEDIATE;"
		"INSERT OR IGNORE INTO main.events SELECT * FROM temp.missed;"
		"DELETE FROM temp.missed;"
		"COMMIT;";

	if (s->missed) {
		if (sqlite3_exec(s->db, move, NULL, NULL, NULL) != SQLITE_OK) {
			sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
			return;
		}
		s->missed = false;
	}
	log_info("%s: can be written again", s->path);
	s->trouble[0] = '\0';
}

void store_recovered(struct store *s)
{
	if (s->trouble[0])
		move_missed(s);
}

/* To disk, unless it is known to fail just now. */
static int insert_disk(struct store *s, const struct store_event *ev)
{
	int err;

	if (s->trouble[0] && clock_now() < s->retry_ns)
		return -EROFS;
	err = insert(s, SQL_ADD, ev);
	if (err == 0)
		store_recovered(s);
	else if (err != -EEXIST)
		store_failed(s);
	return err;
}

static int insert_missed(struct store *s, const struct store_event *ev)
{
	sqlite3_stmt *st = s->st[SQL_MISSED_COUNT];
	bool full;

	full = sqlite3_step(st) != SQLITE_ROW ||
	       sqlite3_column_int(st, 0) >= (int)STORE_MISSED_MAX;
	sqlite3_reset(st);
	if (full)
		return -ENOSPC;
	s->missed = true;
	return insert(s, SQL_ADD_MISSED, ev);
}

int store_event_add(struct store *s, struct store_event *ev, bool must_last)
{
	int err;

	if (find_kept(s, ev))
		return -EEXIST;
	ev->seq = s->last + 1;
	err = insert_disk(s, ev);
	if (err < 0 && !must_last)
		err = insert_missed(s, ev);
	if (err == 0)
		s->last = ev->seq;
	return err;
}

uint64_t store_event_last(const struct store *s)
{
	return s->last;
}

static const char *column(sqlite3_stmt *st, int i)
{
	const char *text = (const char *)sqlite3_column_text(st, i);

	return text ? text : "";
}

int store_event_read(struct store *s, uint64_t since, const char *guest,
		     unsigned limit,
		     int (*fn)(void *arg, const struct store_event *ev),
		     void *arg)
{
	sqlite3_stmt *st = s->st[guest ? SQL_READ_GUEST : SQL_READ];
	int rc;

	if (since > INT64_MAX)
		return 0;
	sqlite3_bind_int64(st, 1, (sqlite3_int64)since);
	sqlite3_bind_int(st, 2, (int)limit);
	if (guest)
		bind_text(st, 3, guest);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		const struct store_event ev = {
			.seq = (uint64_t)sqlite3_column_int64(st, 0),
			.time_ms = sqlite3_column_int64(st, 1),
			.guest = column(st, 2),
			.name = column(st, 3),
			.data = column(st, 4),
		};

		if (fn(arg, &ev))
			break;
	}
	sqlite3_reset(st);
	return store_errno(rc);
}

int store_event_trim(struct store *s, int64_t before_ms, uint64_t count)
{
	sqlite3_stmt *st = s->st[SQL_TRIM];

	if (s->trouble[0])
		return -EROFS;
	sqlite3_bind_int64(st, 1, before_ms);
	sqlite3_bind_int64(st, 2, (sqlite3_int64)count);
	return step_once(s, SQL_TRIM);
}
