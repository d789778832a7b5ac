/*
 * events.c - the host's events: numbered, kept, handed on
 *
 * Everything that is added goes through the store's thread, which numbers it.
 * There is no second path for live consumers: a consumer holds the number of the
 * last event it has and, when told that there are newer ones, reads on from the
 * store.  So a slow consumer costs no memory, and one that was away misses
 * nothing.  Telling is level-triggered: watches on the loop's thread are posted
 * once for any number of events, waiting threads are woken by an eventfd.
 *
 * A guest's rate is a token bucket; what is refused is counted, logged once and,
 * when the guest is served again, told as an event "events-refused" with the
 * count.  The guest is told at once and keeps its event.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "virtagent/host/event_line.h"
#include "virtagent/host/events.h"
#include "virtagent/host/rate.h"
#include "virtagent/host/store.h"

#define LINES_MAX (1u << 20) /* bytes of one batch */
#define TRIM_EVERY 1000u     /* events between two looks at the retention */
#define POSTED_MAX 10000u    /* events that wait for the store's thread */

/* A thread in events_wait(). */
struct waiter {
	struct waiter *next;
	int fd;
};

struct events_watch {
	struct events_watch *next;
	struct events *e;
	loop_fn fn;
	void *arg;
};

struct events {
	struct loop *loop;
	struct store *store;
	struct events_watch *watches; /* loop's thread */
	/* the store's thread: */
	unsigned since_trim;
	/* everything below: */
	pthread_mutex_t lock;
	uint64_t last;
	uint64_t max_age_ns, max_count;
	struct waiter *waiters;
	struct rate rate; /* of the guests */
	unsigned posted; /* jobs under way */
	uint64_t lost;	 /* posts dropped at POSTED_MAX */
	bool told;	 /* a post to the watches is under way */
	char trouble[256];
};

/* An event on its way to the store. */
struct job {
	struct events *e;
	char *guest, *name, *data, *agent;
	struct store_event ev;
	bool must_last;
	int error;
	char text[256];
};

static void job_done(struct job *j)
{
	free(j->guest);
	free(j->name);
	free(j->data);
	free(j->agent);
}

static int64_t wall_ms(void)
{
	return (int64_t)(clock_wall() * 1000);
}

/* --- telling ------------------------------------------------------------ */

static void tell_watches(void *arg)
{
	struct events *e = arg;

	pthread_mutex_lock(&e->lock);
	e->told = false;
	pthread_mutex_unlock(&e->lock);
	for (struct events_watch *w = e->watches, *next; w; w = next) {
		next = w->next;
		w->fn(w->arg);
	}
}

/* Store's thread: there is a new event. */
static void tell(struct events *e)
{
	const uint64_t one = 1;
	bool post;

	pthread_mutex_lock(&e->lock);
	e->last = store_event_last(e->store);
	for (const struct waiter *w = e->waiters; w; w = w->next) {
		if (write(w->fd, &one, sizeof(one)) < 0)
			continue; /* full: it is awake already */
	}
	post = !e->told;
	e->told = true;
	pthread_mutex_unlock(&e->lock);
	if (post)
		loop_post(e->loop, tell_watches, e);
}

struct events_watch *events_watch_new(struct events *e, loop_fn fn, void *arg)
{
	struct events_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	*w = (struct events_watch){ e->watches, e, fn, arg };
	e->watches = w;
	return w;
}

void events_watch_free(struct events_watch *w)
{
	if (!w)
		return;
	for (struct events_watch **p = &w->e->watches; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	free(w);
}

static int poll_ms(uint64_t deadline_ns)
{
	uint64_t now = clock_now();

	if (deadline_ns == CLOCK_NEVER)
		return -1;
	if (deadline_ns <= now)
		return 0;
	if (deadline_ns - now > 3600 * NSEC_PER_SEC)
		return 3600 * 1000;
	return (int)((deadline_ns - now) / NSEC_PER_MSEC) + 1;
}

static void remove_waiter(struct events *e, struct waiter *w)
{
	pthread_mutex_lock(&e->lock);
	for (struct waiter **p = &e->waiters; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	pthread_mutex_unlock(&e->lock);
}

int events_wait(struct events *e, uint64_t since, int cancel_fd,
		uint64_t deadline_ns)
{
	CLEANUP_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct waiter w = { .fd = fd };
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
			       { .fd = cancel_fd, .events = POLLIN } };
	bool there;
	int n;

	if (fd < 0)
		return -errno;
	pthread_mutex_lock(&e->lock);
	there = e->last > since;
	if (!there) {
		w.next = e->waiters;
		e->waiters = &w;
	}
	pthread_mutex_unlock(&e->lock);
	if (there)
		return 0;
	do
		n = poll(p, 2, poll_ms(deadline_ns));
	while (n < 0 && errno == EINTR);
	remove_waiter(e, &w);
	if (n < 0)
		return -errno;
	if (p[1].revents)
		return -ECANCELED;
	return p[0].revents ? 0 : -ETIMEDOUT;
}

uint64_t events_last(struct events *e)
{
	uint64_t last;

	pthread_mutex_lock(&e->lock);
	last = e->last;
	pthread_mutex_unlock(&e->lock);
	return last;
}

void events_trouble(struct events *e, char *text, size_t size)
{
	pthread_mutex_lock(&e->lock);
	snprintf(text, size, "%s", e->trouble);
	pthread_mutex_unlock(&e->lock);
}

/* --- adding ------------------------------------------------------------- */

static void trim(struct events *e)
{
	uint64_t age, count;

	pthread_mutex_lock(&e->lock);
	age = e->max_age_ns;
	count = e->max_count;
	pthread_mutex_unlock(&e->lock);
	store_event_trim(e->store, wall_ms() - (int64_t)(age / NSEC_PER_MSEC),
			 count);
}

/* Store's thread. */
static void add(struct job *j)
{
	struct events *e = j->e;
	const char *why;

	j->ev.guest = j->guest;
	j->ev.name = j->name;
	j->ev.data = j->data;
	j->ev.agent = j->agent;
	j->error = store_event_add(e->store, &j->ev, j->must_last);
	why = store_trouble(e->store);
	snprintf(j->text, sizeof(j->text), "%s", why ? why : "");
	pthread_mutex_lock(&e->lock);
	snprintf(e->trouble, sizeof(e->trouble), "%s", why ? why : "");
	pthread_mutex_unlock(&e->lock);
	if (j->error == 0)
		tell(e);
	if (++e->since_trim >= TRIM_EVERY) {
		e->since_trim = 0;
		trim(e);
	}
}

static void run_post(void *arg)
{
	struct job *j = arg;
	struct events *e = j->e;

	add(j);
	if (j->error < 0)
		log_warning("guest %s: event %s is lost: %s", j->guest, j->name,
			    strerror(-j->error));
	pthread_mutex_lock(&e->lock);
	e->posted--;
	pthread_mutex_unlock(&e->lock);
	job_done(j);
	free(j);
}

/* data as JSON text; NULL on ENOMEM or over EVENT_DATA_MAX. */
static char *json_text(const struct va_value *data)
{
	CLEANUP_BUF struct buf b = BUF_INIT(EVENT_DATA_MAX + 1);
	const char *text;

	if (!data)
		return strdup("{}");
	if (va_to_json(data, false, &b) < 0)
		return NULL;
	text = buf_cstr(&b);
	return text ? strdup(text) : NULL;
}

static int fill_job(struct job *j, struct events *e, const char *guest,
		    const char *name, const struct va_value *data)
{
	j->e = e;
	j->guest = strdup(guest);
	j->name = strdup(name);
	j->ev.time_ms = wall_ms();
	if (!j->guest || !j->name)
		return -ENOMEM;
	j->data = json_text(data);
	return j->data ? 0 : -EMSGSIZE;
}

/* Room for one more post? */
static bool count_post(struct events *e)
{
	bool ok;

	pthread_mutex_lock(&e->lock);
	ok = e->posted < POSTED_MAX;
	if (ok)
		e->posted++;
	else if (e->lost++ == 0)
		log_warning("events are lost: %u wait for the disk", POSTED_MAX);
	pthread_mutex_unlock(&e->lock);
	return ok;
}

void events_post(struct events *e, const char *guest, const char *name,
		 struct va_value *data)
{
	CLEANUP_VALUE struct va_value *owned = data;
	CLEANUP_FREE struct job *j = calloc(1, sizeof(*j));
	int err = j ? fill_job(j, e, guest, name, owned) : -ENOMEM;

	if (err == 0 && count_post(e)) {
		err = loop_post(store_loop(e->store), run_post, j);
		if (err == 0) {
			j = NULL;
			return;
		}
		pthread_mutex_lock(&e->lock);
		e->posted--;
		pthread_mutex_unlock(&e->lock);
	}
	if (err < 0)
		log_warning("guest %s: event %s is lost: %s", guest, name,
			    strerror(-err));
	if (j)
		job_done(j);
}

/* --- what guests send --------------------------------------------------- */

bool events_name_ok(const char *name)
{
	size_t n = strlen(name);

	return n >= 1 && n <= EVENT_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static void tell_refused(struct events *e, const char *guest, uint64_t refused)
{
	struct va_value *data = va_struct();

	if (va_set(data, "count", va_int((int64_t)refused)) < 0)
		return;
	events_post(e, guest, "events-refused", data);
}

static bool may_send(struct events *e, const char *guest, uint64_t *refused)
{
	bool ok, first;

	pthread_mutex_lock(&e->lock);
	ok = rate_take(&e->rate, guest, clock_now(), refused);
	first = !ok && *refused == 1;
	pthread_mutex_unlock(&e->lock);
	if (first)
		log_warning("guest %s: sends more than %u events a second; "
			    "refusing", guest, EVENTS_PER_SEC);
	return ok;
}

static void run_send(void *arg)
{
	add(arg);
}

int events_send(struct events *e, const struct event_sent *sent,
		uint64_t deadline_ns, uint64_t *seq, bool *again, char *text,
		size_t size)
{
	CLEANUP(job_done) struct job j = { .must_last = true };
	uint64_t refused;
	int err;

	text[0] = '\0';
	if (!events_name_ok(sent->name)) {
		snprintf(text, size, "an event's name is 1 to %u lower-case "
			 "letters, digits and dashes", EVENT_NAME_MAX);
		return -EINVAL;
	}
	err = fill_job(&j, e, sent->guest, sent->name, sent->data);
	if (err == 0 && sent->agent) {
		j.agent = strdup(sent->agent);
		err = j.agent ? 0 : -ENOMEM;
	}
	if (err == -EMSGSIZE)
		snprintf(text, size, "an event's data is at most %u bytes of "
			 "JSON", EVENT_DATA_MAX);
	if (err < 0)
		return err;
	if (!may_send(e, sent->guest, &refused)) {
		snprintf(text, size, "more than %u events a second (bursts of "
			 "%u); send it again later", EVENTS_PER_SEC,
			 EVENTS_BURST);
		return -EBUSY;
	}
	if (refused)
		tell_refused(e, sent->guest, refused);
	j.ev.agent_seq = sent->agent_seq;
	err = loop_call(store_loop(e->store), run_send, &j, deadline_ns);
	if (err < 0) {
		snprintf(text, size, "the host's store does not answer");
		return err;
	}
	*again = j.error == -EEXIST;
	*seq = j.ev.seq;
	if (j.error < 0 && !*again)
		snprintf(text, size, "not kept: %s",
			 j.text[0] ? j.text : strerror(-j.error));
	return *again ? 0 : j.error;
}

/* --- reading ------------------------------------------------------------ */

static int take_event(void *arg, const struct store_event *ev)
{
	struct event_batch *batch = arg;
	size_t before = buf_len(&batch->lines);
	int err = event_line(&batch->lines, ev);

	if (err < 0) {
		/* Full: the next batch begins with this one. */
		buf_truncate(&batch->lines, before);
		if (before == 0)
			batch->error = err;
		return 1;
	}
	batch->last = ev->seq;
	batch->count++;
	return 0;
}

struct read_job {
	struct events *e;
	uint64_t since;
	char *guest;
	unsigned limit;
	struct event_batch batch;
	void (*fn)(void *arg, const struct event_batch *batch);
	void *arg;
};

static void run_read(void *arg)
{
	struct read_job *j = arg;
	int err;

	buf_init(&j->batch.lines, LINES_MAX);
	j->batch.last = j->since;
	err = store_event_read(j->e->store, j->since, j->guest,
			       j->limit < EVENTS_READ_MAX ? j->limit :
							    EVENTS_READ_MAX,
			       take_event, &j->batch);
	if (err < 0)
		j->batch.error = err;
}

int events_read(struct events *e, uint64_t since, const char *guest,
		unsigned limit, uint64_t deadline_ns, struct event_batch *batch)
{
	struct read_job j = { .e = e, .since = since, .limit = limit,
			      .guest = (char *)(uintptr_t)guest };
	int err;

	buf_init(&j.batch.lines, LINES_MAX);
	err = loop_call(store_loop(e->store), run_read, &j, deadline_ns);
	*batch = j.batch;
	return err < 0 ? err : batch->error;
}

static void read_job_free(struct read_job *j)
{
	buf_done(&j->batch.lines);
	free(j->guest);
	free(j);
}

/* Loop's thread again. */
static void finish_fetch(void *arg)
{
	struct read_job *j = arg;

	j->fn(j->arg, &j->batch);
	read_job_free(j);
}

static void run_fetch(void *arg)
{
	struct read_job *j = arg;

	run_read(j);
	if (loop_post(j->e->loop, finish_fetch, j) < 0)
		read_job_free(j);
}

int events_fetch(struct events *e, uint64_t since, const char *guest,
		 unsigned limit,
		 void (*fn)(void *arg, const struct event_batch *batch),
		 void *arg)
{
	struct read_job *j = calloc(1, sizeof(*j));
	int err;

	if (!j)
		return -ENOMEM;
	*j = (struct read_job){ .e = e, .since = since, .limit = limit,
				.fn = fn, .arg = arg };
	j->guest = guest ? strdup(guest) : NULL;
	err = guest && !j->guest ? -ENOMEM :
				   loop_post(store_loop(e->store), run_fetch, j);
	if (err < 0)
		read_job_free(j);
	return err;
}

/* --- the whole ---------------------------------------------------------- */

static void run_start(void *arg)
{
	struct events *e = arg;
	const char *why = store_trouble(e->store);

	trim(e);
	pthread_mutex_lock(&e->lock);
	e->last = store_event_last(e->store);
	snprintf(e->trouble, sizeof(e->trouble), "%s", why ? why : "");
	pthread_mutex_unlock(&e->lock);
}

struct events *events_new(const struct events_config *cfg)
{
	struct events *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->loop = cfg->loop;
	e->max_age_ns = cfg->max_age_ns;
	e->max_count = cfg->max_count;
	e->rate = RATE_INIT(EVENTS_PER_SEC, EVENTS_BURST);
	pthread_mutex_init(&e->lock, NULL);
	e->store = store_open(cfg->path);
	if (!e->store ||
	    loop_call(store_loop(e->store), run_start, e, CLOCK_NEVER) < 0) {
		int saved = errno;

		events_free(e);
		errno = saved;
		return NULL;
	}
	return e;
}

void events_free(struct events *e)
{
	if (!e)
		return;
	store_close(e->store);
	while (e->watches)
		events_watch_free(e->watches);
	rate_done(&e->rate);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

void events_set_limits(struct events *e, uint64_t max_age_ns,
		       uint64_t max_count)
{
	pthread_mutex_lock(&e->lock);
	e->max_age_ns = max_age_ns;
	e->max_count = max_count;
	pthread_mutex_unlock(&e->lock);
}
