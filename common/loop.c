/*
 * loop.c - see loop.h
 *
 * A watched descriptor has two events, one for reading and one for writing, so
 * that turning one on or off is a single epoll_ctl().
 *
 * libevent's clock is coarse (a tick of the kernel), so a timer may come up
 * some milliseconds before its deadline; it is then armed again for the rest
 * instead of being reported early.
 *
 * Calls from other threads stand in a queue under a mutex; an eventfd wakes the
 * loop.  A call with a deadline is a node on the waiting thread's stack: until
 * it has started it can be unlinked, afterwards the waiter waits for its end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/cleanup.h"

/* Longer waits are cut and armed again. */
#define TIMER_MAX_NS (UINT64_C(86400) * NSEC_PER_SEC)

struct loop_node {
	struct loop_node *next;
	loop_fn fn;
	void *arg;
	/* Of loop_call() only. */
	bool waited_for;
	bool started;
	bool done;
};

struct loop {
	struct event_base *base;
	struct event *wake_event;
	int wake_fd;
	_Atomic bool stop;
	/* Who runs it; 0 before the first run, when calls wait for that. */
	_Atomic pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t finished;
	struct loop_node *head, **tail;
};

struct loop_fd {
	struct loop *loop;
	struct event *read_event, *write_event;
	struct loop_timer *pause; /* made when first needed */
	int fd;
	unsigned events;
	loop_fd_fn fn;
	void *arg;
};

struct loop_timer {
	struct event *event;
	uint64_t deadline;
	loop_fn fn;
	void *arg;
};

struct loop_signal {
	struct event *event;
	loop_signal_fn fn;
	void *arg;
};

static struct loop_node *pop_node(struct loop *loop)
{
	struct loop_node *node;

	pthread_mutex_lock(&loop->lock);
	node = loop->head;
	if (node) {
		loop->head = node->next;
		if (!loop->head)
			loop->tail = &loop->head;
		node->started = true;
	}
	pthread_mutex_unlock(&loop->lock);
	return node;
}

static void finish_node(struct loop *loop, struct loop_node *node)
{
	if (!node->waited_for) {
		free(node);
		return;
	}
	/* The node is gone as soon as the lock is. */
	pthread_mutex_lock(&loop->lock);
	node->done = true;
	pthread_cond_broadcast(&loop->finished);
	pthread_mutex_unlock(&loop->lock);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;
	struct loop_node *node;
	eventfd_t ignored;

	eventfd_read(fd, &ignored);
	while (!loop->stop && (node = pop_node(loop))) {
		node->fn(node->arg);
		finish_node(loop, node);
	}
}

static struct event_base *new_base(void)
{
	struct event_config *cfg = event_config_new();
	struct event_base *base = NULL;

	if (cfg) {
		event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
		event_config_set_flag(cfg, EVENT_BASE_FLAG_NO_CACHE_TIME);
		base = event_base_new_with_config(cfg);
		event_config_free(cfg);
	}
	return base;
}

static int loop_setup(struct loop *loop)
{
	loop->base = new_base();
	if (!loop->base)
		return -ENOMEM;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		return -errno;
	loop->wake_event = event_new(loop->base, loop->wake_fd,
				     EV_READ | EV_PERSIST, on_wake, loop);
	if (!loop->wake_event || event_add(loop->wake_event, NULL) < 0)
		return -ENOMEM;
	return 0;
}

struct loop *loop_new(void)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	pthread_condattr_t attr;
	int r;

	if (!loop)
		return NULL;
	loop->wake_fd = -1;
	loop->tail = &loop->head;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&loop->finished, &attr);
	pthread_condattr_destroy(&attr);
	r = loop_setup(loop);
	if (r < 0) {
		loop_free(loop);
		errno = -r;
		return NULL;
	}
	return loop;
}

void loop_free(struct loop *loop)
{
	struct loop_node *node;

	if (!loop)
		return;
	while ((node = pop_node(loop)))
		finish_node(loop, node);
	if (loop->wake_event)
		event_free(loop->wake_event);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->base)
		event_base_free(loop->base);
	pthread_cond_destroy(&loop->finished);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

int loop_run(struct loop *loop)
{
	int r = 0;

	loop->thread = pthread_self();
	while (!loop->stop && r >= 0)
		r = event_base_loop(loop->base, 0);
	loop->stop = false;
	return r < 0 ? -EIO : 0;
}

int loop_run_once(struct loop *loop, bool wait)
{
	loop->thread = pthread_self();
	return event_base_loop(loop->base,
			       EVLOOP_ONCE | (wait ? 0 : EVLOOP_NONBLOCK)) < 0 ?
		       -EIO : 0;
}

void loop_stop(struct loop *loop)
{
	loop->stop = true;
	event_base_loopbreak(loop->base);
}

static void on_fd(evutil_socket_t fd, short what, void *arg)
{
	struct loop_fd *src = arg;

	src->fn(fd, what & EV_WRITE ? LOOP_WRITE : LOOP_READ, src->arg);
}

struct loop_fd *loop_fd_new(struct loop *loop, int fd, unsigned events,
			    loop_fd_fn fn, void *arg)
{
	struct loop_fd *src = calloc(1, sizeof(*src));
	short flags = EV_PERSIST | (events & LOOP_EDGE ? EV_ET : 0);
	int r = -ENOMEM;

	if (!src)
		return NULL;
	src->loop = loop;
	src->fd = fd;
	src->fn = fn;
	src->arg = arg;
	src->read_event = event_new(loop->base, fd, EV_READ | flags, on_fd, src);
	src->write_event = event_new(loop->base, fd, EV_WRITE | flags, on_fd, src);
	if (src->read_event && src->write_event)
		r = loop_fd_set(src, events);
	if (r < 0) {
		loop_fd_free(src);
		errno = -r;
		return NULL;
	}
	return src;
}

static int set_event(struct event *ev, bool was, bool on)
{
	if (was == on)
		return 0;
	if (!on) {
		event_del(ev);
		return 0;
	}
	errno = 0;
	if (event_add(ev, NULL) == 0)
		return 0;
	return errno ? -errno : -EIO;
}

int loop_fd_set(struct loop_fd *src, unsigned events)
{
	int r = set_event(src->read_event, src->events & LOOP_READ, events & LOOP_READ);

	if (r < 0)
		return r;
	src->events = (src->events & ~LOOP_READ) | (events & LOOP_READ);
	r = set_event(src->write_event, src->events & LOOP_WRITE, events & LOOP_WRITE);
	if (r < 0)
		return r;
	src->events = (src->events & ~LOOP_WRITE) | (events & LOOP_WRITE);
	return 0;
}

static void on_pause_over(void *arg)
{
	struct loop_fd *src = arg;

	(void)loop_fd_set(src, src->events | LOOP_READ);
}

void loop_fd_pause(struct loop_fd *src, uint64_t ns)
{
	if (!src->pause)
		src->pause = loop_timer_new(src->loop, on_pause_over, src);
	/* Without a timer nothing would end it. */
	if (src->pause && loop_timer_in(src->pause, ns) == 0)
		(void)loop_fd_set(src, src->events & ~LOOP_READ);
}

unsigned loop_fd_events(const struct loop_fd *src)
{
	return src->events;
}

void loop_fd_free(struct loop_fd *src)
{
	if (!src)
		return;
	if (src->read_event)
		event_free(src->read_event);
	if (src->write_event)
		event_free(src->write_event);
	loop_timer_free(src->pause);
	free(src);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct loop_timer *t = arg;

	if (clock_now() < t->deadline)
		loop_timer_at(t, t->deadline);
	else
		t->fn(t->arg);
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_fn fn, void *arg)
{
	struct loop_timer *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->fn = fn;
	t->arg = arg;
	t->event = event_new(loop->base, -1, 0, on_timer, t);
	if (!t->event) {
		free(t);
		errno = ENOMEM;
		return NULL;
	}
	return t;
}

int loop_timer_at(struct loop_timer *t, uint64_t deadline_ns)
{
	uint64_t now = clock_now(), delta = 0;
	struct timeval tv;

	t->deadline = deadline_ns;
	if (deadline_ns == CLOCK_NEVER) {
		event_del(t->event);
		return 0;
	}
	if (deadline_ns > now)
		delta = deadline_ns - now;
	if (delta > TIMER_MAX_NS)
		delta = TIMER_MAX_NS;
	delta = (delta + NSEC_PER_USEC - 1) / NSEC_PER_USEC;
	tv.tv_sec = (time_t)(delta / 1000000);
	tv.tv_usec = (suseconds_t)(delta % 1000000);
	return event_add(t->event, &tv) < 0 ? -ENOMEM : 0;
}

int loop_timer_in(struct loop_timer *t, uint64_t delta_ns)
{
	uint64_t deadline;

	if (__builtin_add_overflow(clock_now(), delta_ns, &deadline))
		deadline = CLOCK_NEVER;
	return loop_timer_at(t, deadline);
}

void loop_timer_stop(struct loop_timer *t)
{
	loop_timer_at(t, CLOCK_NEVER);
}

bool loop_timer_armed(const struct loop_timer *t)
{
	return event_pending(t->event, EV_TIMEOUT, NULL);
}

void loop_timer_free(struct loop_timer *t)
{
	if (!t)
		return;
	event_free(t->event);
	free(t);
}

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
	struct loop_signal *s = arg;

	s->fn(signo, s->arg);
}

struct loop_signal *loop_signal_new(struct loop *loop, int signo,
				    loop_signal_fn fn, void *arg)
{
	struct loop_signal *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->fn = fn;
	s->arg = arg;
	s->event = event_new(loop->base, signo, EV_SIGNAL | EV_PERSIST, on_signal, s);
	if (!s->event || event_add(s->event, NULL) < 0) {
		loop_signal_free(s);
		errno = ENOMEM;
		return NULL;
	}
	return s;
}

void loop_signal_free(struct loop_signal *s)
{
	if (!s)
		return;
	if (s->event)
		event_free(s->event);
	free(s);
}

/* Appends under the lock, which the caller holds. */
static void push_node(struct loop *loop, struct loop_node *node)
{
	node->next = NULL;
	*loop->tail = node;
	loop->tail = &node->next;
	/* Fails only when the counter is full, and then the loop is awake. */
	eventfd_write(loop->wake_fd, 1);
}

int loop_post(struct loop *loop, loop_fn fn, void *arg)
{
	struct loop_node *node = calloc(1, sizeof(*node));

	if (!node)
		return -ENOMEM;
	node->fn = fn;
	node->arg = arg;
	pthread_mutex_lock(&loop->lock);
	push_node(loop, node);
	pthread_mutex_unlock(&loop->lock);
	return 0;
}

static void unlink_node(struct loop *loop, struct loop_node *node)
{
	struct loop_node **at = &loop->head;

	while (*at && *at != node)
		at = &(*at)->next;
	if (!*at)
		return;
	*at = node->next;
	if (loop->tail == &node->next)
		loop->tail = at;
}

int loop_call(struct loop *loop, loop_fn fn, void *arg, uint64_t deadline_ns)
{
	struct loop_node node = { .fn = fn, .arg = arg, .waited_for = true };
	struct timespec ts = {
		.tv_sec = (time_t)(deadline_ns / NSEC_PER_SEC),
		.tv_nsec = (long)(deadline_ns % NSEC_PER_SEC),
	};
	int r = 0;

	if (pthread_equal(loop->thread, pthread_self())) {
		fn(arg);
		return 0;
	}
	pthread_mutex_lock(&loop->lock);
	push_node(loop, &node);
	while (!node.done) {
		if (node.started || deadline_ns == CLOCK_NEVER)
			r = pthread_cond_wait(&loop->finished, &loop->lock);
		else
			r = pthread_cond_timedwait(&loop->finished, &loop->lock, &ts);
		if (r == ETIMEDOUT && !node.started) {
			unlink_node(loop, &node);
			break;
		}
		r = 0;
	}
	pthread_mutex_unlock(&loop->lock);
	return -r;
}
