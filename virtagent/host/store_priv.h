/*
 * store_priv.h - what store.c, store_events.c and store_keys.c share; nobody else's
 * business
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_STORE_PRIV_H
#define VA_HOST_STORE_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtagent/host/store.h"

/* How many prepared statements each part has. */
#define STORE_EVENT_STATEMENTS 7
#define STORE_KEY_STATEMENTS 17

struct sqlite3;
struct sqlite3_stmt;

struct store {
	char *path;
	struct sqlite3 *db;
	struct sqlite3_stmt *st[STORE_EVENT_STATEMENTS];
	struct sqlite3_stmt *key_st[STORE_KEY_STATEMENTS];
	struct loop *loop;
	pthread_t thread;
	uint64_t last; /* number given last */
	char id[64];   /* of the file: another one's numbers mean nothing here */
	char trouble[256];
	uint64_t retry_ns; /* when to try the disk again; CLOCK_NEVER = never */
	bool missed;	   /* the table in memory holds something */
};

/* SQLite's result code as an errno. */
int store_errno(int rc);
/* The disk failed now; and: it took a write again. */
void store_failed(struct store *s);
void store_recovered(struct store *s);
/* The first value a statement gives, as text or as a number; "" and 0 on an error. */
void store_query_text(struct store *s, const char *statement, char text[128]);
long store_query_number(struct store *s, const char *statement);
/* Makes n statements; 0 or -EIO, then those that could be made stay in st, which is
 * one of the store's own. */
int store_prepare(struct store *s, const char *const *sql, size_t n,
		  struct sqlite3_stmt **st);
/* Runs a statement that gives no rows; 0 or a negative errno. */
int store_run(struct sqlite3_stmt *st);

/* From store_events.c: schema version 1, its statements, with the table in memory
 * and s->last; and what waited in memory, moved to disk (-EIO: not all of it). */
extern const char store_events_schema[];
int store_events_prepare(struct store *s);
int store_events_settle(struct store *s);

/* From store_keys.c: what schema versions 2 and 3 add, and its statements. */
extern const char store_keys_schema[];
extern const char store_groups_schema[];
int store_keys_prepare(struct store *s);

#endif
