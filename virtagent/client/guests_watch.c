/*
 * guests_watch.c - guests --watch
 *
 * What happens to guests is an event of va-hostd's, so that is waited for, and the
 * guests are asked for again when one came.  Counters change without events: a
 * terminal shows them anew every REDRAW_NS.  While va-hostd is away its sockets are
 * looked at as often.  A host that takes long to answer is asked less often, so
 * that watching a thousand guests costs it a tenth of its time at most.
 *
 * On a terminal the table is drawn over the one before, cut to the window; nothing
 * else is printed meanwhile.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "virtagent/client/event_feed.h"
#include "virtagent/client/guests_view.h"
#include "virtagent/client/interrupt.h"
#include "virtagent/client/member.h"
#include "virtagent/client/output.h"

#define REDRAW_NS (2 * NSEC_PER_SEC)
#define CHECK_NS (30 * NSEC_PER_SEC) /* where only events make a difference */
#define PAUSE_MIN_NS (NSEC_PER_SEC / 4)
#define NEWEST_NS (2 * NSEC_PER_SEC)
#define PAUSE_PART 10u /* pauses are so many times as long as an answer took */

struct watch {
	struct client *cl;
	struct rpc *rpc; /* to va-hostd */
	struct event_feed feed;
	struct guest_list last;
	bool terminal, begun, away;
	size_t drawn;	/* lines on the terminal */
	char *text;	/* which ones */
};

/* --- on a terminal ------------------------------------------------------ */

static char *draw_text(const struct watch *w, const struct guest_list *l)
{
	struct table_form form = { 0 };
	struct winsize size = { 0 };
	char *text = NULL;
	size_t n;
	FILE *mem;
	int error;

	/* One line stays free: below the last one stands the cursor. */
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row > 2) {
		form.width = size.ws_col;
		form.lines = size.ws_row - 1u;
	}
	mem = open_memstream(&text, &n);
	if (!mem)
		return NULL;
	error = guests_table(l, mem, &form);
	if (fclose(mem) || error) {
		free(text);
		return NULL;
	}
	return text;
}

static int draw(struct watch *w, const struct guest_list *l)
{
	char *text = draw_text(w, l);
	const char *line = text;

	if (!text)
		return -ENOMEM;
	if (w->text && strcmp(w->text, text) == 0) {
		free(text);
		return 0;
	}
	if (w->drawn)
		printf("\033[%zuA", w->drawn);
	for (w->drawn = 0; *line; w->drawn++) {
		size_t n = strcspn(line, "\n");

		printf("\r%.*s\033[K\n", (int)n, line);
		line += n + (line[n] == '\n');
	}
	printf("\033[J");
	free(w->text);
	w->text = text;
	return fflush(stdout) ? -EIO : 0;
}

/* --- elsewhere ---------------------------------------------------------- */

static int print_json(const struct watch *w, const struct guest_entry *g, const char *when,
		      const char *state)
{
	CLEANUP_VALUE struct va_value *v = guest_entry_value(g);
	CLEANUP_BUF struct buf line = BUF_INIT(1u << 20);

	if (!v || va_set(v, "time", va_string(when)) ||
	    va_set(v, "state", va_string(state)) || va_to_json(v, false, &line))
		return -ENOMEM;
	return out_text(w->cl, buf_data(&line), buf_len(&line));
}

static int print_text(const struct watch *w, const struct guest_entry *g, const char *when,
		      const char *state)
{
	const char *version = member_text(g->info, "version");
	const char *kind = member_text(g->info, "kind");
	CLEANUP_BUF struct buf line = BUF_INIT(4096);
	int error = buf_printf(&line, "%s %s %s %s %s %" PRId64 " %" PRId64, when, g->name,
			       state, *version ? version : "-", *kind ? kind : "-",
			       member_int(g->info, "calls", 0), guest_entry_bytes(g));

	return error ? error : out_text(w->cl, buf_data(&line), buf_len(&line));
}

static int print_one(const struct watch *w, const struct guest_entry *g, const char *state)
{
	time_t now = time(NULL);
	char when[32] = "";
	struct tm tm;
	int error;

	if (gmtime_r(&now, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	error = (w->cl->json ? print_json : print_text)(w, g, when, state);
	if (!error && (putchar('\n') == EOF || fflush(stdout)))
		error = -EIO;
	return error;
}

static const struct guest_entry *find(const struct guest_list *l, const char *name)
{
	for (size_t i = 0; i < l->count; i++)
		if (strcmp(l->guest[i].name, name) == 0)
			return &l->guest[i];
	return NULL;
}

static bool same(const struct guest_entry *a, const struct guest_entry *b)
{
	static const char *const members[] = { "version", "kind" };

	if (strcmp(a->state, b->state) != 0)
		return false;
	/* While va-hostd is away nobody tells. */
	for (size_t i = 0; a->info && b->info && i < NROWS(members); i++)
		if (strcmp(member_text(a->info, members[i]),
			   member_text(b->info, members[i])) != 0)
			return false;
	return true;
}

static int print_changes(const struct watch *w, const struct guest_list *l)
{
	int error = 0;

	for (size_t i = 0; i < l->count && !error; i++) {
		const struct guest_entry *g = &l->guest[i], *before = find(&w->last, g->name);

		if (!before || !same(before, g))
			error = print_one(w, g, g->state);
	}
	for (size_t i = 0; i < w->last.count && !error; i++)
		if (!find(l, w->last.guest[i].name))
			error = print_one(w, &w->last.guest[i], "gone");
	return error;
}

/* --- both --------------------------------------------------------------- */

static int on_event(void *arg, const struct va_value *v, const char *line, size_t n)
{
	return -ECANCELED; /* enough: the guests are asked for */
}

/* Until something happened, or it is time to look anyway. */
static void wait_for_change(struct watch *w, uint64_t began, uint64_t deadline)
{
	uint64_t now = clock_now();
	uint64_t pause = (now - began) * PAUSE_PART;
	uint64_t until = now + (w->terminal || w->away ? REDRAW_NS : CHECK_NS);

	if (pause < PAUSE_MIN_NS)
		pause = PAUSE_MIN_NS;
	if (until < now + pause)
		until = now + pause;
	if (until > deadline)
		until = deadline;
	if (!w->away)
		event_feed_run(&w->feed, w->rpc, until);
	interrupt_sleep_until(w->away || until < now + pause ? until : now + pause);
}

static void begin_feed(struct watch *w)
{
	rpc_set_deadline(w->rpc, clock_now() + NEWEST_NS);
	w->feed.last = event_feed_newest(w->rpc);
}

static int look(struct watch *w)
{
	struct guest_list l;
	int error = 0, code;

	/* The error is told once, and while a table stands nothing else. */
	if (!w->begun) {
		code = guests_get(w->cl, &l);
		if (code)
			return code;
	} else if (guest_list_get(w->cl, &l)) {
		w->away = true;
		return VAC_OK;
	}
	w->begun = true;
	if (l.from_hostd && (w->away || w->feed.last < 0))
		begin_feed(w);
	w->away = !l.from_hostd;
	error = w->terminal ? draw(w, &l) : print_changes(w, &l);
	guest_list_done(&w->last);
	w->last = l;
	if (!error)
		return VAC_OK;
	out_error(NULL, "guests", "cannot write the output: %s", strerror(-error));
	return VAC_ERROR;
}

int guests_watch(struct client *cl)
{
	struct watch w = {
		.cl = cl,
		.feed = { EVENT_FEED_INIT, .follow = true, .event = on_event },
		.terminal = !cl->json && isatty(STDOUT_FILENO),
	};
	uint64_t deadline = client_deadline(cl, 0), began;
	int code;

	w.rpc = rpc_open_hostd(cl, NEWEST_NS);
	if (!w.rpc)
		return VAC_ERROR;
	interrupt_catch();
	/* From before the first look on, so that nothing falls between. */
	begin_feed(&w);
	do {
		began = clock_now();
		code = look(&w);
		if (code == VAC_OK && !interrupt_seen())
			wait_for_change(&w, began, deadline);
	} while (code == VAC_OK && !interrupt_seen() && clock_now() < deadline);
	if (interrupt_seen())
		code = interrupt_status();
	event_feed_done(&w.feed);
	guest_list_done(&w.last);
	rpc_free(w.rpc);
	free(w.text);
	return code;
}
