/*
 * store_keys.c - keys on disk
 *
 * A removed key stays as a row without a value, so that a guest that was away
 * learns of the removal; keys.c forgets such rows when there are many.  Values
 * are blobs; an empty one is not NULL.
 *
 * A group's keys are rows like a guest's.  A guest that gets a key of a group has
 * a row for it, with a revision of its own but no value: the group's is read, so
 * that what is set for a thousand guests is on disk once.
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

const char store_groups_schema[] =
	"BEGIN IMMEDIATE;"
	"ALTER TABLE keys ADD COLUMN origin TEXT;"
	"ALTER TABLE key_guests ADD COLUMN vm TEXT NOT NULL DEFAULT '';"
	"PRAGMA user_version = 3;"
	"COMMIT;";

enum statement {
	SQL_STATE,
	SQL_GET,
	SQL_SINCE,
	SQL_LIST,
	SQL_USAGE,
	SQL_USAGE_GROUPS,
	SQL_GROUPS_WITH,
	SQL_GROUP_KEYS,
	SQL_GIVEN,
	SQL_GUESTS,
	SQL_BEGIN,
	SQL_PUT,
	SQL_SET_STATE,
	SQL_FORGET,
	SQL_COMMIT,
	SQL_ROLLBACK,
	SQL_COUNT
};

_Static_assert(SQL_COUNT <= STORE_KEY_STATEMENTS, "one slot each");

/* STORE_GROUP, and what sorts behind all groups. */
#define GROUP "char(1)"
#define BEHIND_GROUPS "char(2)"
#define OF_GROUPS " guest >= " GROUP " AND guest < " BEHIND_GROUPS

#define READ_KEY(value)                                                        \
	"SELECT k.name, k.revision, k.flags, CASE WHEN k.origin IS NULL THEN " \
	value("k") " ELSE (SELECT " value("g") " FROM main.keys g"	       \
	" WHERE g.guest = " GROUP " || k.origin AND g.name = k.name) END,"     \
	" k.origin FROM main.keys k WHERE k.guest = ?1"
#define WHOLE(table) table ".value"
#define LENGTH(table) "length(" table ".value)"
#define SUM_USAGE                                                              \
	"SELECT coalesce(sum(length(name) + length(value) + ?2), 0)"	       \
	" FROM main.keys WHERE value IS NOT NULL AND "

static const char *const sql[SQL_COUNT] = {
	[SQL_STATE] = "SELECT revision, floor, boot, vm FROM main.key_guests"
		      " WHERE guest = ?1",
	[SQL_GET] = READ_KEY(WHOLE) " AND k.name = ?2",
	[SQL_SINCE] = READ_KEY(WHOLE) " AND k.revision > ?2"
		      " ORDER BY k.revision, k.name",
	[SQL_LIST] = READ_KEY(LENGTH) " AND k.name > ?2"
		     " AND (k.value IS NOT NULL OR k.origin IS NOT NULL)"
		     " ORDER BY k.name",
	[SQL_USAGE] = SUM_USAGE "guest = ?1",
	[SQL_USAGE_GROUPS] = SUM_USAGE OF_GROUPS,
	[SQL_GROUPS_WITH] = "SELECT name, revision, flags, value,"
			    " substr(guest, 2) FROM main.keys"
			    " WHERE" OF_GROUPS " AND name = ?1"
			    " AND value IS NOT NULL"
			    " ORDER BY length(CAST(guest AS BLOB)) DESC,"
			    " guest DESC",
	[SQL_GROUP_KEYS] = "SELECT name, revision, flags, length(value),"
			   " substr(guest, 2) FROM main.keys"
			   " WHERE" OF_GROUPS " AND value IS NOT NULL"
			   " ORDER BY guest, name",
	[SQL_GIVEN] = "SELECT name, revision, flags, 0, origin FROM main.keys"
		      " WHERE guest = ?1 AND origin IS NOT NULL",
	[SQL_GUESTS] = "SELECT guest, revision, 0, 0, NULL FROM main.key_guests"
		       " WHERE guest >= " BEHIND_GROUPS,
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_PUT] = "INSERT INTO main.keys"
		    " (guest, name, revision, flags, value, origin)"
		    " VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
		    " ON CONFLICT (guest, name) DO UPDATE SET"
		    " revision = ?3, flags = ?4, value = ?5, origin = ?6",
	[SQL_SET_STATE] = "INSERT OR REPLACE INTO main.key_guests"
			  " (guest, revision, floor, boot, vm)"
			  " VALUES (?1, ?2, ?3, ?4, ?5)",
	[SQL_FORGET] = "DELETE FROM main.keys WHERE guest = ?1"
		       " AND value IS NULL AND origin IS NULL"
		       " AND revision <= ?2",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
};

int store_keys_prepare(struct store *s)
{
	char text[128];
	int err = store_prepare(s, sql, SQL_COUNT, s->key_st);

	if (err < 0)
		return err;
	store_query_text(s, "SELECT id FROM main.key_store", text);
	snprintf(s->id, sizeof(s->id), "%.63s", text);
	return 0;
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

static void keep_column(sqlite3_stmt *st, int i, char *text, size_t size)
{
	const char *found = (const char *)sqlite3_column_text(st, i);

	snprintf(text, size, "%s", found ? found : "");
}

int store_keys_state(struct store *s, const char *guest,
		     struct store_keys_state *ret)
{
	sqlite3_stmt *st = bind_guest(s, SQL_STATE, guest);
	int rc = sqlite3_step(st);

	*ret = (struct store_keys_state){ 0 };
	if (rc == SQLITE_ROW) {
		ret->revision = (uint64_t)sqlite3_column_int64(st, 0);
		ret->floor = (uint64_t)sqlite3_column_int64(st, 1);
		keep_column(st, 2, ret->boot, sizeof(ret->boot));
		keep_column(st, 3, ret->vm, sizeof(ret->vm));
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
			.group = (const char *)sqlite3_column_text(st, 4),
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
	sqlite3_stmt *st = bind_guest(s, *guest == STORE_GROUP ?
					 SQL_USAGE_GROUPS : SQL_USAGE, guest);
	int rc;

	sqlite3_bind_int(st, 2, (int)cost);
	rc = sqlite3_step(st);
	*ret = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
	sqlite3_reset(st);
	return store_errno(rc);
}

int store_groups_with(struct store *s, const char *name, store_key_fn fn,
		      void *arg)
{
	unsigned count;

	/* Its one parameter is the key's name. */
	return each(bind_guest(s, SQL_GROUPS_WITH, name), false, fn, arg,
		    &count);
}

int store_group_keys(struct store *s, store_key_fn fn, void *arg)
{
	unsigned count;

	return each(s->key_st[SQL_GROUP_KEYS], true, fn, arg, &count);
}

int store_given_keys(struct store *s, const char *guest, store_key_fn fn,
		     void *arg)
{
	unsigned count;

	return each(bind_guest(s, SQL_GIVEN, guest), true, fn, arg, &count);
}

int store_keys_guests(struct store *s, store_key_fn fn, void *arg)
{
	unsigned count;

	return each(s->key_st[SQL_GUESTS], true, fn, arg, &count);
}

int store_keys_begin(struct store *s)
{
	int err;

	if (s->trouble[0] && clock_now() < s->retry_ns)
		return -EROFS;
	err = store_run(s->key_st[SQL_BEGIN]);
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
	if (key->value && !key->group)
		sqlite3_bind_blob64(st, 5, key->size ? key->value : "",
				    key->size, SQLITE_STATIC);
	else
		sqlite3_bind_null(st, 5);
	sqlite3_bind_text(st, 6, key->group, -1, SQLITE_STATIC);
	err = store_run(st);
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
	sqlite3_bind_text(st, 5, state->vm, -1, SQLITE_STATIC);
	err = store_run(st);
	if (err < 0)
		store_failed(s);
	return err;
}

int store_keys_forget(struct store *s, const char *guest, uint64_t upto)
{
	sqlite3_stmt *st = bind_guest(s, SQL_FORGET, guest);

	sqlite3_bind_int64(st, 2, (sqlite3_int64)upto);
	return store_run(st);
}

int store_keys_commit(struct store *s)
{
	int err = store_run(s->key_st[SQL_COMMIT]);

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
		store_run(s->key_st[SQL_ROLLBACK]);
}
