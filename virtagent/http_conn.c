/*
 * http_conn.c - see http_conn.h
 *
 * The cancel fd.  Each connection has an epoll instance that holds its socket,
 * watched for the peer's closing only, and the server's stop eventfd.  It is
 * readable, for good, once either happened; a handler polls it beside whatever
 * it waits for, and no thread has to watch on its behalf.  (A client that closes
 * its sending side counts as gone, as with most HTTP servers.)
 *
 * Deadlines.  The HTTP library's own timeout is one of inactivity, so a client
 * that drips bytes is never dropped by it.  A reaper thread shuts sockets down
 * that have not delivered a whole request head (or buffered body) in time: the
 * request's time for a fresh connection, the idle time for a kept one.  It
 * sleeps for ever while there are no connections, and wakes no more often than
 * once per request time otherwise, so that starting a deadline never has to
 * wake it.  When all places are taken, the connection that has waited longest
 * without a request makes room.
 *
 * A descriptor may be shut down from another thread only under the lock and
 * while its connection is in the list: it is certain to be that connection's
 * then, since it leaves the list before it is closed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/http_conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "virtagent/limits.h"

/* --- one connection -------------------------------------------------------- */

static int watch(struct http_conn *c)
{
	struct epoll_event gone = { .events = EPOLLRDHUP };
	struct epoll_event stop = { .events = EPOLLIN };

	c->cancel_fd = epoll_create1(EPOLL_CLOEXEC);
	if (c->cancel_fd < 0 ||
	    epoll_ctl(c->cancel_fd, EPOLL_CTL_ADD, c->fd, &gone) < 0 ||
	    epoll_ctl(c->cancel_fd, EPOLL_CTL_ADD, c->all->stop_fd, &stop) < 0)
		return -errno;
	return 0;
}

int http_conn_init(struct http_conn *c, struct http_conns *all, int fd,
		   const struct va_caller *caller)
{
	int r = 0;

	c->all = all;
	c->fd = fd;
	c->cancel_fd = -1;
	c->caller = *caller;
	if (caller->guest && !(c->guest = strdup(caller->guest)))
		r = -ENOMEM;
	c->caller.guest = c->guest;
	if (r == 0)
		r = watch(c);
	if (r < 0)
		http_conn_done(c);
	return r;
}

void http_conn_done(struct http_conn *c)
{
	if (c->cancel_fd >= 0)
		close(c->cancel_fd);
	free(c->guest);
}

static void evict(struct http_conn *c)
{
	if (c->evicted)
		return;
	c->evicted = true;
	c->all->count--;
	shutdown(c->fd, SHUT_RDWR);
}

static void set_state(struct http_conn *c, bool busy, uint64_t delta_ns)
{
	struct http_conns *all = c->all;

	c->busy = busy;
	c->deadline = CLOCK_NEVER;
	all->moved = clock_now();
	if (delta_ns == CLOCK_NEVER)
		return;
	c->since = all->moved;
	c->deadline = c->since + delta_ns;
	if (all->next_wake == CLOCK_NEVER)
		pthread_cond_broadcast(&all->changed);
}

void http_conn_state(struct http_conn *c, bool busy, uint64_t delta_ns)
{
	pthread_mutex_lock(&c->all->lock);
	if (!c->upgraded)
		set_state(c, busy, delta_ns);
	pthread_mutex_unlock(&c->all->lock);
}

void http_conn_upgrade_begins(struct http_conn *c)
{
	pthread_mutex_lock(&c->all->lock);
	set_state(c, true, CLOCK_NEVER);
	c->all->upgraded++;
	c->upgraded = true;
	if (c->all->stopping)
		shutdown(c->fd, SHUT_RDWR);
	pthread_mutex_unlock(&c->all->lock);
}

void http_conn_upgrade_ended(struct http_conn *c)
{
	pthread_mutex_lock(&c->all->lock);
	c->all->upgraded--;
	c->upgraded = false;
	pthread_cond_broadcast(&c->all->changed);
	pthread_mutex_unlock(&c->all->lock);
}

/* --- places ----------------------------------------------------------------- */

static bool same_guest(const struct http_conn *c, const char *guest)
{
	return c->guest && strcmp(c->guest, guest) == 0;
}

/* Makes sure of a place within a limit; guest NULL = counting all. */
static int make_room(struct http_conns *all, unsigned limit, const char *guest)
{
	struct http_conn *oldest = NULL;
	unsigned n = 0;

	for (struct http_conn *c = all->list; c; c = c->next) {
		if (c->evicted || (guest && !same_guest(c, guest)))
			continue;
		n++;
		if (!c->busy && (!oldest || c->since < oldest->since))
			oldest = c;
	}
	if (n < limit)
		return 0;
	if (!oldest)
		return -EMFILE;
	evict(oldest);
	return 0;
}

int http_conn_enlist(struct http_conn *c)
{
	struct http_conns *all = c->all;
	int r = 0;

	pthread_mutex_lock(&all->lock);
	if (all->stopping)
		r = -ESHUTDOWN;
	else if (all->alive >= all->alive_max)
		r = -EMFILE;
	else if (all->max_per_guest && c->guest)
		r = make_room(all, all->max_per_guest, c->guest);
	if (r == 0)
		r = make_room(all, all->max, NULL);
	if (r == 0) {
		c->next = all->list;
		c->prev = &all->list;
		if (c->next)
			c->next->prev = &c->next;
		all->list = c;
		all->count++;
		all->alive++;
		set_state(c, false, all->request_ns);
	}
	pthread_mutex_unlock(&all->lock);
	return r;
}

void http_conn_unlist(struct http_conn *c)
{
	pthread_mutex_lock(&c->all->lock);
	if (c->next)
		c->next->prev = c->prev;
	*c->prev = c->next;
	c->all->alive--;
	if (!c->evicted)
		c->all->count--;
	pthread_mutex_unlock(&c->all->lock);
}

struct http_conn *http_conn_find(struct http_conns *all, int fd)
{
	struct http_conn *c;

	pthread_mutex_lock(&all->lock);
	c = all->list;
	while (c && c->fd != fd)
		c = c->next;
	pthread_mutex_unlock(&all->lock);
	return c;
}

uint64_t http_conns_moved(struct http_conns *all)
{
	uint64_t moved;

	pthread_mutex_lock(&all->lock);
	moved = all->moved;
	pthread_mutex_unlock(&all->lock);
	return moved;
}

unsigned http_conns_count(const struct http_conns *all)
{
	struct http_conns *w = (struct http_conns *)(uintptr_t)all;
	unsigned n;

	pthread_mutex_lock(&w->lock);
	n = w->count;
	pthread_mutex_unlock(&w->lock);
	return n;
}

/* --- the reaper --------------------------------------------------------------- */

static uint64_t reap(struct http_conns *all)
{
	uint64_t now = clock_now(), next = CLOCK_NEVER;

	for (struct http_conn *c = all->list; c; c = c->next) {
		if (c->evicted)
			continue;
		if (c->deadline <= now)
			evict(c);
		else if (c->deadline < next)
			next = c->deadline;
	}
	if (all->list && next > now + all->request_ns)
		next = now + all->request_ns;
	return next;
}

static void *reaper_main(void *arg)
{
	struct http_conns *all = arg;

	pthread_mutex_lock(&all->lock);
	while (!all->stopping) {
		struct timespec ts;

		all->next_wake = reap(all);
		if (all->next_wake == CLOCK_NEVER) {
			pthread_cond_wait(&all->changed, &all->lock);
			continue;
		}
		ts.tv_sec = (time_t)(all->next_wake / NSEC_PER_SEC);
		ts.tv_nsec = (long)(all->next_wake % NSEC_PER_SEC);
		pthread_cond_timedwait(&all->changed, &all->lock, &ts);
	}
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

static int start_reaper(struct http_conns *all)
{
	pthread_attr_t attr;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	r = pthread_create(&all->reaper, &attr, reaper_main, all);
	pthread_attr_destroy(&attr);
	return -r;
}

/* --- all of them ---------------------------------------------------------------- */

int http_conns_init(struct http_conns *all, unsigned max, unsigned max_per_guest,
		    unsigned request_timeout_s)
{
	pthread_condattr_t attr;
	int r;

	memset(all, 0, sizeof(*all));
	all->max = max;
	all->max_per_guest = max_per_guest;
	all->alive_max = max * 4 + 64;
	all->request_ns = (uint64_t)(request_timeout_s * clock_scale() * 1e9);
	all->idle_ns = (uint64_t)(VA_HTTP_IDLE_S * clock_scale() * 1e9);
	all->next_wake = CLOCK_NEVER;
	all->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (all->stop_fd < 0)
		return -errno;
	pthread_mutex_init(&all->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&all->changed, &attr);
	pthread_condattr_destroy(&attr);
	r = start_reaper(all);
	if (r < 0)
		http_conns_done(all);
	return r;
}

void http_conns_stop(struct http_conns *all)
{
	uint64_t one = 1;

	if (write(all->stop_fd, &one, sizeof(one)) < 0)
		log_debug("http: stop: %s", strerror(errno));
	pthread_mutex_lock(&all->lock);
	all->stopping = true;
	pthread_cond_broadcast(&all->changed);
	for (struct http_conn *c = all->list; c; c = c->next) {
		if (c->upgraded)
			shutdown(c->fd, SHUT_RDWR);
	}
	while (all->upgraded)
		pthread_cond_wait(&all->changed, &all->lock);
	pthread_mutex_unlock(&all->lock);
	pthread_join(all->reaper, NULL);
}

void http_conns_done(struct http_conns *all)
{
	close(all->stop_fd);
	pthread_cond_destroy(&all->changed);
	pthread_mutex_destroy(&all->lock);
}
