/*
 * store_events.c - events on disk, and in memory while the disk takes none
 *
 * An event that cannot be written (disk full, damage, I/O error) goes to a temporary
 * table in memory with the same columns; readers see both as one.  Once the disk
 * takes writes again the ones in memory are moved over.  So a full disk costs the
 * past after a power failure, not the service.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <sqlite3.h>

#include "common/clock.h"
#include "virtagent/host/store_priv.h"

#define EVENT_COLUMNS                                                          \
	"(seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL,"       \
	" guest TEXT NOT NULL, name TEXT NOT NULL, data TEXT NOT NULL,"        \
	" agent TEXT, agent_seq INTEGER)"

const char store_events_schema[] =
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

int store_events_prepare(struct store *s)
{
	int err;

	sqlite3_exec(s->db, "PRAGMA temp_store = MEMORY", NULL, NULL, NULL);
	if (sqlite3_exec(s->db, memory_schema, NULL, NULL, NULL) != SQLITE_OK)
		return -EIO;
	err = store_prepare(s, sql, SQL_COUNT, s->st);
	if (err == 0)
		s->last = (uint64_t)store_query_number(
			s, "SELECT seq FROM main.sqlite_sequence"
			" WHERE name = 'events'");
	return err;
}

static void bind_text(sqlite3_stmt *st, int i, const char *text)
{
	sqlite3_bind_text(st, i, text, -1, SQLITE_STATIC);
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
	return store_run(st);
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

int store_events_settle(struct store *s)
{
	static const char move[] =
		"BEGIN IMMEDIATE;"
		"INSERT OR IGNORE INTO main.events SELECT * FROM temp.missed;"
		"DELETE FROM temp.missed;"
		"COMMIT;";

	if (!s->missed)
		return 0;
	if (sqlite3_exec(s->db, move, NULL, NULL, NULL) != SQLITE_OK) {
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
		return -EIO;
	}
	s->missed = false;
	return 0;
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
	return store_run(st);
}
