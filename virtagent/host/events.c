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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "virtagent/host/events_priv.h"
#include "virtagent/limits.h"

#define TRIM_EVERY 1000u     /* events between two looks at the retention */
#define STEP_MS (60 * 60 * 1000) /* more than a clock is wrong by itself */
#define POSTED_MAX 10000u    /* events that wait for the store's thread */

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

/* --- adding ------------------------------------------------------------- */

/*
 * The time from which events' ages count.  By a clock that was set on by years every
 * event is too old, by one that was set back and right again those of meanwhile: so
 * it is the lowest of all that the clock was set to, and time that went by since.  (The
 * machine's sleep does not count.)
 */
static int64_t steady_ms(struct events *e)
{
	int64_t now = (int64_t)(clock_now() / NSEC_PER_MSEC);
	int64_t ahead = wall_ms() - now, by = ahead - e->wall_ahead;

	if (!e->wall_known)
		e->wall_low = ahead;
	else if (by < STEP_MS && by > -STEP_MS)
		e->wall_low += by;
	else if (ahead < e->wall_low)
		e->wall_low = ahead;
	e->wall_known = true;
	e->wall_ahead = ahead;
	return now + e->wall_low;
}

static void trim(struct events *e)
{
	uint64_t age, count;

	pthread_mutex_lock(&e->lock);
	age = e->max_age_ns;
	count = e->max_count;
	pthread_mutex_unlock(&e->lock);
	store_event_trim(e->store, steady_ms(e) - (int64_t)(age / NSEC_PER_MSEC),
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

static bool may_send(struct events *e, const char *guest, uint64_t *refused,
		     unsigned *per_sec)
{
	bool ok, first;

	pthread_mutex_lock(&e->lock);
	*per_sec = (unsigned)e->rate.per_sec;
	ok = rate_take(&e->rate, guest, clock_now(), refused);
	first = !ok && *refused == 1;
	pthread_mutex_unlock(&e->lock);
	if (first)
		log_warning("guest %s: sends more than %u events a second, the "
			    "limit (guest-events in hostd.conf); refusing", guest,
			    *per_sec);
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
	unsigned per_sec;
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
	else if (err < 0)
		snprintf(text, size, "not kept: %s", strerror(-err));
	if (err < 0)
		return err;
	if (!may_send(e, sent->guest, &refused, &per_sec)) {
		snprintf(text, size, "more than %u events a second (bursts of "
			 "%u), the limit (guest-events in hostd.conf); send it "
			 "again later", per_sec, per_sec * VA_GUEST_EVENTS_BURST);
		return -EBUSY;
	}
	if (refused)
		tell_refused(e, sent->guest, refused);
	j.ev.agent_seq = sent->agent_seq;
	err = loop_call(store_loop(e->store), run_send, &j, deadline_ns);
	if (err < 0) {
		snprintf(text, size, "not kept: the host's store does not answer: %s",
			 strerror(-err));
		return err;
	}
	*again = j.error == -EEXIST;
	*seq = j.ev.seq;
	if (j.error < 0 && !*again)
		snprintf(text, size, "not kept: %s",
			 j.text[0] ? j.text : strerror(-j.error));
	return *again ? 0 : j.error;
}

/* --- the whole ---------------------------------------------------------- */

static void set_rate(struct events *e, unsigned per_sec)
{
	e->rate.per_sec = per_sec ? per_sec : VA_GUEST_EVENTS_MAX;
	e->rate.burst = e->rate.per_sec * VA_GUEST_EVENTS_BURST;
}

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
	pthread_mutex_init(&e->lock, NULL);
	set_rate(e, cfg->per_sec);
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

struct store *events_store(struct events *e)
{
	return e->store;
}

void events_set_limits(struct events *e, uint64_t max_age_ns,
		       uint64_t max_count, unsigned per_sec)
{
	pthread_mutex_lock(&e->lock);
	set_rate(e, per_sec);
	e->max_age_ns = max_age_ns;
	e->max_count = max_count;
	pthread_mutex_unlock(&e->lock);
}

unsigned events_per_sec(struct events *e)
{
	unsigned n;

	pthread_mutex_lock(&e->lock);
	n = (unsigned)e->rate.per_sec;
	pthread_mutex_unlock(&e->lock);
	return n;
}
