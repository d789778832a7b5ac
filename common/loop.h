/*
 * loop.h - the event loop, and the only place that knows libevent
 *
 * One loop per thread.  Callbacks run on the loop's thread; all calls but
 * loop_post() and loop_call() must come from there.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_LOOP_H
#define VA_COMMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/clock.h"

struct loop;
struct loop_fd;
struct loop_timer;
struct loop_signal;

#define LOOP_READ 1u
#define LOOP_WRITE 2u
#define LOOP_EDGE 4u /* of loop_fd_new() alone */

typedef void (*loop_fd_fn)(int fd, unsigned events, void *arg);
typedef void (*loop_fn)(void *arg);
typedef void (*loop_signal_fn)(int signo, void *arg);

/* NULL with errno on failure. */
struct loop *loop_new(void);
/* Frees the loop; sources still attached must have been freed before. */
void loop_free(struct loop *loop);
/* Runs until loop_stop(); 0 or a negative errno. */
int loop_run(struct loop *loop);
/* Runs what is due and returns, waiting at most until the first source fires. */
int loop_run_once(struct loop *loop, bool wait);
void loop_stop(struct loop *loop);

/*
 * Watches fd, which stays the caller's and must outlive the source.  Level
 * triggered; with LOOP_EDGE in events it reports once what is so now and then
 * each change, also of a hang-up that stays, which nobody can read away.  Error
 * and hang-up are reported as both readable and writable where those were asked
 * for.  events may be 0 and changed later.  NULL with errno on failure.
 */
struct loop_fd *loop_fd_new(struct loop *loop, int fd, unsigned events,
			    loop_fd_fn fn, void *arg);
/* A fd that can't be watched (a regular file) gives -EPERM. */
int loop_fd_set(struct loop_fd *src, unsigned events);
unsigned loop_fd_events(const struct loop_fd *src);
/*
 * Does not look for reading for ns, then does again.  For a listener whose
 * accept() failed: out of descriptors it would be readable for ever, and the
 * process busy with nothing else.  Not for a source that loop_fd_set() is used on.
 */
void loop_fd_pause(struct loop_fd *src, uint64_t ns);
#define LOOP_ACCEPT_PAUSE (100 * NSEC_PER_MSEC)
/* Accepts NULL.  May be called from within the source's own callback. */
void loop_fd_free(struct loop_fd *src);

/* A one-shot timer, unarmed when made. */
struct loop_timer *loop_timer_new(struct loop *loop, loop_fn fn, void *arg);
/* Fires at deadline_ns (clock_now() scale); CLOCK_NEVER disarms. */
int loop_timer_at(struct loop_timer *t, uint64_t deadline_ns);
int loop_timer_in(struct loop_timer *t, uint64_t delta_ns);
void loop_timer_stop(struct loop_timer *t);
bool loop_timer_armed(const struct loop_timer *t);
void loop_timer_free(struct loop_timer *t);

struct loop_signal *loop_signal_new(struct loop *loop, int signo,
				    loop_signal_fn fn, void *arg);
void loop_signal_free(struct loop_signal *s);

/*
 * Runs fn(arg) on the loop's thread, soon, in order; callable from any thread.
 * 0 or a negative errno (nothing was queued then).
 */
int loop_post(struct loop *loop, loop_fn fn, void *arg);
/*
 * Runs fn(arg) on the loop's thread and waits for it to return.  -ETIMEDOUT
 * when it had not STARTED by the deadline: it is then withdrawn and never runs,
 * so arg may live on the caller's stack.  fn must not block.  Called on the
 * loop's own thread, it runs at once.
 */
int loop_call(struct loop *loop, loop_fn fn, void *arg, uint64_t deadline_ns);

#endif
