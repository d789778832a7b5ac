/*
 * agent_events.c - see agent_events.h
 *
 * One thread sends the queue's events in order by host.event.send, each under
 * "AGENT-ID/NUMBER", so that one that is sent again after a broken connection is
 * kept once by the host.  While the host does not take them it tries again with
 * growing pauses; without a session it waits for one, which costs nothing.  An
 * event that the host refuses for good is dropped, with a log line.
 *
 * The same thread notices a resume: a timer on the wall clock is cancelled when
 * that clock is set, which a resume does, and then CLOCK_BOOTTIME has run ahead
 * of CLOCK_MONOTONIC by the time spent asleep.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_events.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/codec.h"
#include "virtagent/fault.h"
#include "virtagent/http_client.h"
#include "virtagent/limits.h"

#define EVENT_NAME_MAX 64u
#define EVENT_DATA_MAX (16u << 10) /* the host's limit (host/events.h) */
#define REPLY_MAX (64u << 10)
#define SEND_NS (10 * NSEC_PER_SEC)
#define PAUSE_FIRST_NS NSEC_PER_SEC
#define PAUSE_MAX_NS (10 * NSEC_PER_SEC)
/* Without a session: should the word that there is one again have been lost. */
#define PAUSE_AWAY_NS (60 * NSEC_PER_SEC)
#define ASLEEP_MIN_NS NSEC_PER_SEC
/* From our own suspend to the system's hook. */
#define SUSPEND_ONCE_NS (10 * NSEC_PER_SEC)
#define STACK_SIZE (256u << 10)

struct event {
	struct event *next;
	uint64_t number;
	size_t size; /* of name and data, as they are counted */
	char name[EVENT_NAME_MAX + 1];
	struct va_value *data;
};

struct agent_events {
	char *host_socket;
	char *agent_id, *boot_id, *state_file;
	pthread_mutex_t lock;
	pthread_cond_t told; /* the queue is empty, or sending failed */
	pthread_t thread;
	int wake_fd, clock_fd;
	int hurry_fd; /* try now, although the host was away */
	bool away;    /* there is no session with the host */
	uint64_t failures; /* to send */
	uint64_t suspended_at; /* when "suspended" was queued last; 0 = never */
	uint64_t asleep_ns; /* CLOCK_BOOTTIME ahead of CLOCK_MONOTONIC */
	uint64_t number;
	unsigned count;
	uint64_t bytes, bytes_max; /* of those that wait */
	uint64_t dropped;
	struct event *first, **end;
};

static void event_free(struct event *ev)
{
	va_value_free(ev->data);
	free(ev);
}

static bool name_ok(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n <= EVENT_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

/* Bytes of the data as JSON; 0 = more than may be. */
static size_t data_size(const struct va_value *data)
{
	CLEANUP_BUF struct buf json = BUF_INIT(EVENT_DATA_MAX);

	return va_to_json(data, false, &json) == 0 ? buf_len(&json) : 0;
}

/* Takes the oldest event out; the lock is held. */
static struct event *take_first(struct agent_events *e)
{
	struct event *ev = e->first;

	e->first = ev->next;
	if (!e->first)
		e->end = &e->first;
	e->count--;
	e->bytes -= ev->size;
	return ev;
}

/* Drops the oldest until the rest fits; the lock is held.  How many. */
static unsigned drop_excess(struct agent_events *e)
{
	unsigned n = 0;

	while (e->count > AGENT_EVENTS_MAX || e->bytes > e->bytes_max) {
		event_free(take_first(e));
		n++;
	}
	e->dropped += n;
	return n;
}

static void tell_dropped(struct agent_events *e, unsigned n, uint64_t max)
{
	static struct log_limit limit = LOG_LIMIT_INIT;

	log_ratelimited(&limit, LOG_LVL_WARNING, "events: the oldest %u of those that wait "
			"for the host were dropped: %llu bytes are kept (event-queue in "
			"agent.conf), and %u of them", n, (unsigned long long)max,
			AGENT_EVENTS_MAX);
}

void agent_events_set_max(struct agent_events *e, uint64_t bytes)
{
	unsigned n;

	pthread_mutex_lock(&e->lock);
	e->bytes_max = bytes;
	n = drop_excess(e);
	pthread_mutex_unlock(&e->lock);
	if (n)
		tell_dropped(e, n, bytes);
}

/* A suspend that was asked for here is told again by the system's own hook. */
static bool told_before(struct agent_events *e, const char *name)
{
	uint64_t now = clock_now();
	bool again;

	if (strcmp(name, "suspended") != 0)
		return false;
	pthread_mutex_lock(&e->lock);
	again = e->suspended_at && now - e->suspended_at < SUSPEND_ONCE_NS;
	e->suspended_at = now;
	pthread_mutex_unlock(&e->lock);
	return again;
}

int agent_events_post(struct agent_events *e, const char *name,
		      struct va_value *data)
{
	CLEANUP_VALUE struct va_value *owned = data ? data : va_struct();
	uint64_t one = 1, max;
	struct event *ev;
	unsigned dropped;
	size_t size;

	if (!owned)
		return -ENOMEM;
	if (!name_ok(name) || va_typeof(owned) != VA_STRUCT)
		return -EINVAL;
	size = data_size(owned);
	if (!size)
		return -EMSGSIZE;
	if (told_before(e, name))
		return 0;
	ev = calloc(1, sizeof(*ev));
	if (!ev)
		return -ENOMEM;
	snprintf(ev->name, sizeof(ev->name), "%s", name);
	ev->data = take_ptr(owned);
	ev->size = strlen(name) + size;
	pthread_mutex_lock(&e->lock);
	ev->number = ++e->number;
	*e->end = ev;
	e->end = &ev->next;
	e->count++;
	e->bytes += ev->size;
	dropped = drop_excess(e);
	max = e->bytes_max;
	pthread_mutex_unlock(&e->lock);
	if (dropped)
		tell_dropped(e, dropped, max);
	/* A full counter is a wake-up already. */
	if (write(e->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return -errno;
	return 0;
}

int agent_events_flush(struct agent_events *e, uint64_t deadline_ns)
{
	struct timespec until = { (time_t)(deadline_ns / NSEC_PER_SEC),
				  (long)(deadline_ns % NSEC_PER_SEC) };
	uint64_t one = 1, failures;
	int r = 0;

	pthread_mutex_lock(&e->lock);
	failures = e->failures;
	/* A full counter is a wake-up already. */
	if (e->first && write(e->hurry_fd, &one, sizeof(one)) < 0 &&
	    errno != EAGAIN)
		r = errno;
	while (e->first && r == 0)
		r = e->failures != failures ?
			    EAGAIN :
			    pthread_cond_timedwait(&e->told, &e->lock, &until);
	pthread_mutex_unlock(&e->lock);
	return -r;
}

void agent_events_host(struct agent_events *e, bool there)
{
	uint64_t one = 1;

	pthread_mutex_lock(&e->lock);
	e->away = !there;
	pthread_mutex_unlock(&e->lock);
	/* A full counter is a wake-up already. */
	if (there && write(e->hurry_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_warning("events: %s", strerror(errno));
}

unsigned agent_events_waiting(struct agent_events *e)
{
	unsigned n;

	pthread_mutex_lock(&e->lock);
	n = e->count;
	pthread_mutex_unlock(&e->lock);
	return n;
}

/* --- sending ---------------------------------------------------------------- */

/* The oldest event as a call document; its number, or 0 when there is none. */
static uint64_t next_call(struct agent_events *e, struct buf *xml, char *name)
{
	CLEANUP_VALUE struct va_value *params = va_array();
	CLEANUP_FREE char *id = NULL;
	uint64_t number = 0;
	int r = 0;

	pthread_mutex_lock(&e->lock);
	if (e->first) {
		struct event *ev = e->first;

		number = ev->number;
		memcpy(name, ev->name, sizeof(ev->name));
		if (e->dropped)
			r |= va_set(ev->data, "events_dropped", va_int((int64_t)e->dropped));
		id = str_printf("%s/%llu", e->agent_id, (unsigned long long)number);
		r |= va_append(params, va_string(ev->name));
		r |= va_append(params, va_value_copy(ev->data));
		r |= va_append(params, id ? va_string(id) : NULL);
	}
	pthread_mutex_unlock(&e->lock);
	if (!number || r < 0 || codec_encode_call("host.event.send", params, xml) < 0)
		return 0;
	return number;
}

static void sent(struct agent_events *e, uint64_t number)
{
	struct event *ev = NULL;

	pthread_mutex_lock(&e->lock);
	/* It may have been dropped meanwhile, to make room. */
	if (e->first && e->first->number == number) {
		ev = take_first(e);
		if (!e->first)
			pthread_cond_broadcast(&e->told);
		e->dropped = 0;
	}
	pthread_mutex_unlock(&e->lock);
	if (ev)
		event_free(ev);
}

/* Sends the oldest event: 0 = there is none, 1 = it is done with, or -EAGAIN. */
static int send_one(struct agent_events *e, struct http_client **http)
{
	static const char *const headers[] = { "Content-Type: text/xml", NULL };
	CLEANUP_BUF struct buf xml = BUF_INIT(VA_XML_MAX), reply = BUF_INIT(REPLY_MAX);
	CLEANUP_VALUE struct va_value *result = NULL;
	char name[EVENT_NAME_MAX + 1] = "";
	struct va_fault fault = { .code = 0 };
	uint64_t number = next_call(e, &xml, name);
	struct http_call call = {
		.method = "POST",
		.target = "/RPC2",
		.headers = headers,
		.body = buf_data(&xml),
		.body_len = buf_len(&xml),
		.reply = &reply,
		.deadline_ns = clock_now() + SEND_NS,
		.repeatable = true, /* the host knows the number */
	};
	int r;

	if (!number)
		return 0;
	if (!*http)
		*http = http_client_new(e->host_socket);
	if (!*http || http_client_perform(*http, &call) < 0 || call.status != 200)
		return -EAGAIN;
	r = codec_decode_reply(buf_data(&reply), buf_len(&reply), &result, &fault);
	/* At the host's rate limit, or while its disk takes no writes, later. */
	if (r == -EREMOTEIO && (fault.code == VA_FAULT_LIMIT || fault.code == VA_FAULT_BUSY ||
				fault.code >= VA_FAULT_ERRNO + ENOSPC))
		return -EAGAIN;
	if (r < 0)
		log_warning("event %s: the host does not take it: %s", name, fault.text);
	sent(e, number);
	return 1;
}

/* --- the thread --------------------------------------------------------------- */

static uint64_t asleep(void)
{
	struct timespec boot, mono;
	int64_t ns;

	if (clock_gettime(CLOCK_BOOTTIME, &boot) < 0)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &mono);
	ns = (boot.tv_sec - mono.tv_sec) * (int64_t)NSEC_PER_SEC +
	     (boot.tv_nsec - mono.tv_nsec);
	return ns > 0 ? (uint64_t)ns : 0;
}

static void watch_clock(struct agent_events *e)
{
	/* Far away: only its cancellation is wanted. */
	struct itimerspec far = { .it_value = { .tv_sec = INT32_MAX } };

	if (e->clock_fd >= 0 &&
	    timerfd_settime(e->clock_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET,
			    &far, NULL) < 0) {
		close(e->clock_fd);
		e->clock_fd = -1;
	}
}

static void clock_was_set(struct agent_events *e)
{
	CLEANUP_VALUE struct va_value *data = NULL;
	uint64_t now = asleep(), count;

	if (read(e->clock_fd, &count, sizeof(count)) < 0 && errno != ECANCELED)
		return;
	watch_clock(e);
	if (now < e->asleep_ns + ASLEEP_MIN_NS)
		return;
	data = va_struct();
	if (va_set(data, "seconds", va_double((double)(now - e->asleep_ns) /
					      (double)NSEC_PER_SEC)) == 0)
		agent_events_post(e, "resumed", take_ptr(data));
	pthread_mutex_lock(&e->lock);
	e->suspended_at = 0;
	pthread_mutex_unlock(&e->lock);
	e->asleep_ns = now;
}

static void failed(struct agent_events *e)
{
	pthread_mutex_lock(&e->lock);
	e->failures++;
	pthread_cond_broadcast(&e->told);
	pthread_mutex_unlock(&e->lock);
}

static bool away(struct agent_events *e)
{
	bool is;

	pthread_mutex_lock(&e->lock);
	is = e->away;
	pthread_mutex_unlock(&e->lock);
	return is;
}

/* As send_one(), which is not tried without a session unless it is due. */
static int send_if(struct agent_events *e, struct http_client **http, bool due)
{
	if (due || !away(e))
		return send_one(e, http);
	return agent_events_waiting(e) ? -EAGAIN : 0;
}

static void *sender(void *arg)
{
	struct agent_events *e = arg;
	struct http_client *http = NULL;
	uint64_t pause = PAUSE_FIRST_NS, count;
	bool due = false;

	for (;;) {
		int r = send_if(e, &http, due), n;
		struct pollfd fds[3] = { { .fd = e->wake_fd, .events = POLLIN },
					 { .fd = e->clock_fd, .events = POLLIN },
					 { .fd = e->hurry_fd, .events = POLLIN } };

		if (r > 0) {
			pause = PAUSE_FIRST_NS;
			continue;
		}
		/* An idle agent holds neither a stream nor libcurl's memory. */
		http_client_free(take_ptr(http));
		/* A new event is no reason to try a host that is away. */
		if (r < 0)
			fds[0].fd = -1;
		if (r < 0)
			failed(e);
		if (away(e))
			pause = PAUSE_AWAY_NS;
		n = poll(fds, 3, r < 0 ? (int)(pause / NSEC_PER_MSEC) : -1);
		due = n == 0 || (n > 0 && fds[2].revents);
		if (fds[1].revents)
			clock_was_set(e);
		if (fds[2].revents &&
		    read(e->hurry_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			break;
		if (fds[0].revents && read(e->wake_fd, &count, sizeof(count)) < 0 &&
		    errno != EAGAIN)
			break;
		if (fds[2].revents)
			pause = PAUSE_FIRST_NS;
		else if (r < 0)
			pause = pause * 2 < PAUSE_MAX_NS ? pause * 2 : PAUSE_MAX_NS;
	}
	http_client_free(http);
	return NULL;
}

/* --- start ---------------------------------------------------------------------- */

/* Once a boot, whichever agent process comes first. */
static void report_boot(struct agent_events *e)
{
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_VALUE struct va_value *data = NULL;
	char known[64] = "";
	ssize_t n;

	if (!e->state_file || !e->boot_id[0])
		return;
	fd = open(e->state_file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	n = read(fd, known, sizeof(known) - 1);
	if (n > 0 && !strcmp(known, e->boot_id))
		return;
	if (ftruncate(fd, 0) < 0 ||
	    pwrite(fd, e->boot_id, strlen(e->boot_id), 0) < 0)
		return;
	data = va_struct();
	if (va_set(data, "boot_id", va_string(e->boot_id)) == 0)
		agent_events_post(e, "booted", take_ptr(data));
}

static int start_thread(struct agent_events *e)
{
	pthread_attr_t attr;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	r = pthread_create(&e->thread, &attr, sender, e);
	pthread_attr_destroy(&attr);
	return -r;
}

struct agent_events *agent_events_new(const char *host_socket,
				      const char *agent_id, const char *boot_id,
				      const char *state_file, bool there)
{
	struct agent_events *e = calloc(1, sizeof(*e));
	pthread_condattr_t attr;

	if (!e)
		return NULL;
	e->host_socket = strdup(host_socket);
	e->agent_id = strdup(agent_id);
	e->boot_id = strdup(boot_id);
	e->state_file = state_file ? strdup(state_file) : NULL;
	e->away = !there;
	e->end = &e->first;
	e->bytes_max = VA_EVENT_QUEUE_MAX;
	e->asleep_ns = asleep();
	pthread_mutex_init(&e->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->told, &attr);
	pthread_condattr_destroy(&attr);
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->hurry_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	watch_clock(e);
	if (e->host_socket && e->agent_id && e->boot_id && e->wake_fd >= 0 &&
	    e->hurry_fd >= 0) {
		report_boot(e);
		if (start_thread(e) == 0)
			return e;
	}
	/* At start only, where failing ends the process: nothing to take back. */
	errno = ENOMEM;
	return NULL;
}
