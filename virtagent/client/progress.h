/*
 * progress.h - how far a transfer is, on a terminal
 *
 * One line on stderr, drawn at most five times a second, when stderr is a
 * terminal and the user did not ask for quiet.  Callable from any thread.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_PROGRESS_H
#define VA_CLIENT_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
	pthread_mutex_t lock;
	bool shown, drawn;
	char name[128]; /* what is being moved now, escaped */
	uint64_t done, total; /* bytes; total 0 = not known */
	uint64_t resumed;     /* of done, those of an earlier try */
	uint64_t files;
	uint64_t start_ns, last_ns;
};

void progress_init(struct progress *p, bool quiet);
/* A file begins: total grows by size (0 = not known), done by what an earlier
 * try left. */
void progress_file(struct progress *p, const char *name, uint64_t size,
		   uint64_t resumed);
void progress_add(struct progress *p, uint64_t bytes);
/* A try failed and begins again: n bytes do not count. */
void progress_back(struct progress *p, uint64_t bytes);
void progress_file_done(struct progress *p);
/* The last state, and a newline. */
void progress_end(struct progress *p);

/* The line's text without the name, for the tests: bytes, rate and time left
 * at now. */
void progress_text(const struct progress *p, uint64_t now_ns, char *ret,
		   size_t size);

#endif
