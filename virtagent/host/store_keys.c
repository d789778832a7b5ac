/*
 * store_keys.c - keys on disk: the second half of what knows SQLite
 *
 * A removed key stays as a row without a value, so that a guest that was away
 * learns of the removal; keys.c forgets such rows when there are many.  Values
 * are blobs; an empty one is not NULL.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "virtagent/host/store_priv.h"

const char store_keys_schema[] =
	"BEGIN IMMEDIATE;"
	"CREATE TABLE keys (guest TEXT NOT NULL, name TEXT NOT NULL,"
	" revision INTEGER NOT NULL, flags INTEGER NOT NULL, value BLOB);"
	"CREATE UNIQUE INDEX keys_name ON keys (guest, name);"
	"CREATE INDEX keys_revision ON keys (guest, revision);"
	"CREATE TABLE key_guests (guest TEXT NOT NULL PRIMARY KEY,"
	" revision INTEGER NOT NULL, floor INTEGER NOT NULL,"
	" boot TEXT NOT NULL);"
	"CREATE TABLE key_store (id TEXT NOT NULL);"
	"INSERT INTO key_store VALUES (lower(hex(randomblob(16))));"
	"PRAGMA user_version = 2;"
	"COMMIT;";

enum statement {
	SQL_STATE,
	SQL_GET,
	SQL_SINCE,
	SQL_LIST,
	SQL_USAGE,
	SQL_BEGIN,
	SQL_PUT,
	SQL_SET_STATE,
	SQL_FORGET,
	SQL_COMMIT,
	SQL_ROLLBACK,
	SQL_COUNT
};

_Static_assert(SQL_COUNT <= STORE_KEY_STATEMENTS, "one slot each");

static const char *const sql[SQL_COUNT] = {
	[SQL_STATE] = "SELECT revision, floor, boot FROM main.key_guests"
		      " WHERE guest = ?1",
	[SQL_GET] = "SELECT name, revision, flags, value FROM main.keys"
		    " WHERE guest = ?1 AND name = ?2",
	[SQL_SINCE] = "SELECT name, revision, flags, value FROM main.keys"
		      " WHERE guest = ?1 AND revision > ?2"
		      " ORDER BY revision, name",
	[SQL_LIST] = "SELECT name, revision, flags, length(value)"
		     " FROM main.keys WHERE guest = ?1 AND name > ?2"
		     " AND value IS NOT NULL ORDER BY name",
	[SQL_USAGE] = "SELECT coalesce(sum(length(name) + length(value) + ?2),"
		      " 0) FROM main.keys WHERE guest = ?1"
		      " AND value IS NOT NULL",
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_PUT] = "INSERT INTO main.keys (guest, name, revision, flags, value)"
		    " VALUES (?1, ?2, ?3, ?4, ?5)"
		    " ON CONFLICT (guest, name) DO UPDATE SET"
		    " revision = ?3, flags = ?4, value = ?5",
	[SQL_SET_STATE] = "INSERT OR REPLACE INTO main.key_guests"
			  " (guest, revision, floor, boot)"
			  " VALUES (?1, ?2, ?3, ?4)",
	[SQL_FORGET] = "DELETE FROM main.keys WHERE guest = ?1"
		       " AND value IS NULL AND revision <= ?2",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
};

int store_keys_prepare(struct store *s)
{
	char text[128];

	for (size_t i = 0; i < SQL_COUNT; i++) {
		if (sqlite3_prepare_v2(s->db, sql[i], -1, &s->key_st[i],
				       NULL) != SQLITE_OK)
			return -EIO;
	}
	store_query_text(s, "SELECT id FROM main.key_store", text);
	snprintf(s->id, sizeof(s->id), "%.63s", text);
	return 0;
}

void store_keys_finalize(struct store *s)
{
	for (size_t i = 0; i < STORE_KEY_STATEMENTS; i++) {
		sqlite3_finalize(s->key_st[i]);
		s->key_st[i] = NULL;
	}
}

const char *store_id(const struct store *s)
{
	return s->id;
}

static sqlite3_stmt *bind_guest(struct store *s, enum statement which,
				const char *guest)
{
	sqlite3_stmt *st = s->key_st[which];

	sqlite3_bind_text(st, 1, guest, -1, SQLITE_STATIC);
	return st;
}

/* Runs a statement that gives no rows. */
static int run(sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	sqlite3_reset(st);
	return store_errno(rc);
}

int store_keys_state(struct store *s, const char *guest,
		     struct store_keys_state *ret)
{
	sqlite3_stmt *st = bind_guest(s, SQL_STATE, guest);
	int rc = sqlite3_step(st);

	*ret = (struct store_keys_state){ 0 };
	if (rc == SQLITE_ROW) {
		const char *boot = (const char *)sqlite3_column_text(st, 2);

		ret->revision = (uint64_t)sqlite3_column_int64(st, 0);
		ret->floor = (uint64_t)sqlite3_column_int64(st, 1);
		snprintf(ret->boot, sizeof(ret->boot), "%s", boot ? boot : "");
	}
	sqlite3_reset(st);
	return store_errno(rc);
}

/* Column 3 is the value, or with sizes its length. */
static int each(sqlite3_stmt *st, bool sizes, store_key_fn fn, void *arg,
		unsigned *count)
{
	int rc;

	*count = 0;
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct store_key key = {
			.name = (const char *)sqlite3_column_text(st, 0),
			.revision = (uint64_t)sqlite3_column_int64(st, 1),
			.flags = (unsigned)sqlite3_column_int(st, 2),
		};

		if (sizes) {
			key.value = "";
			key.size = (size_t)sqlite3_column_int64(st, 3);
		} else if (sqlite3_column_type(st, 3) != SQLITE_NULL) {
			key.value = sqlite3_column_blob(st, 3);
			key.size = (size_t)sqlite3_column_bytes(st, 3);
			if (!key.value)
				key.value = "";
		}
		++*count;
		if (fn(arg, &key))
			break;
	}
	sqlite3_reset(st);
	return store_errno(rc);
}

int store_key_get(struct store *s, const char *guest, const char *name,
		  store_key_fn fn, void *arg)
{
	sqlite3_stmt *st = bind_guest(s, SQL_GET, guest);
	unsigned count;
	int err;

	sqlite3_bind_text(st, 2, name, -1, SQLITE_STATIC);
	err = each(st, false, fn, arg, &count);
	return err < 0 ? err : count ? 0 : -ENOENT;
}

int store_keys_since(struct store *s, const char *guest, uint64_t since,
		     store_key_fn fn, void *arg)
{
	sqlite3_stmt *st = bind_guest(s, SQL_SINCE, guest);
	unsigned count;

	if (since > INT64_MAX)
		return 0;
	sqlite3_bind_int64(st, 2, (sqlite3_int64)since);
	return each(st, false, fn, arg, &count);
}

int store_keys_list(struct store *s, const char *guest, const char *after,
		    store_key_fn fn, void *arg)
{
	sqlite3_stmt *st = bind_guest(s, SQL_LIST, guest);
	unsigned count;

	sqlite3_bind_text(st, 2, after, -1, SQLITE_STATIC);
	return each(st, true, fn, arg, &count);
}

int store_keys_usage(struct store *s, const char *guest, unsigned cost,
		     uint64_t *ret)
{
	sqlite3_stmt *st = bind_guest(s, SQL_USAGE, guest);
	int rc;

	sqlite3_bind_int(st, 2, (int)cost);
	rc = sqlite3_step(st);
	*ret = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
	sqlite3_reset(st);
	return store_errno(rc);
}

int store_keys_begin(struct store *s)
{
	int err;

	if (s->trouble[0] && clock_now() < s->retry_ns)
		return -EROFS;
	err = run(s->key_st[SQL_BEGIN]);
	if (err < 0)
		store_failed(s);
	return err;
}

int store_key_put(struct store *s, const char *guest,
		  const struct store_key *key)
{
	sqlite3_stmt *st = bind_guest(s, SQL_PUT, guest);
	int err;

	sqlite3_bind_text(st, 2, key->name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 3, (sqlite3_int64)key->revision);
	sqlite3_bind_int(st, 4, (int)key->flags);
	if (key->value)
		sqlite3_bind_blob64(st, 5, key->size ? key->value : "",
				    key->size, SQLITE_STATIC);
	else
		sqlite3_bind_null(st, 5);
	err = run(st);
	sqlite3_clear_bindings(st);
	if (err < 0)
		store_failed(s);
	return err;
}

int store_keys_set_state(struct store *s, const char *guest,
			 const struct store_keys_state *state)
{
	sqlite3_stmt *st = bind_guest(s, SQL_SET_STATE, guest);
	int err;

	sqlite3_bind_int64(st, 2, (sqlite3_int64)state->revision);
	sqlite3_bind_int64(st, 3, (sqlite3_int64)state->floor);
	sqlite3_bind_text(st, 4, state->boot, -1, SQLITE_STATIC);
	err = run(st);
	if (err < 0)
		store_failed(s);
	return err;
}

int store_keys_forget(struct store *s, const char *guest, uint64_t upto)
{
	sqlite3_stmt *st = bind_guest(s, SQL_FORGET, guest);

	sqlite3_bind_int64(st, 2, (sqlite3_int64)upto);
	return run(st);
}

int store_keys_commit(struct store *s)
{
	int err = run(s->key_st[SQL_COMMIT]);

	if (err == 0) {
		store_recovered(s);
		return 0;
	}
	store_failed(s);
	store_keys_rollback(s);
	return err;
}

void store_keys_rollback(struct store *s)
{
	/* Some errors end the transaction by themselves. */
	if (!sqlite3_get_autocommit(s->db))
		run(s->key_st[SQL_ROLLBACK]);
}
