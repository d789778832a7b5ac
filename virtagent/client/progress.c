/*
 * progress.c - see progress.h
 *
 * The rate is that of the whole transfer, not of the last moment: on a serial
 * channel a moment means little.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "virtagent/client/output.h"

#define PROGRESS_PAUSE_NS (NSEC_PER_SEC / 5)

void progress_init(struct progress *p, bool quiet)
{
	*p = (struct progress){ .shown = !quiet && isatty(STDERR_FILENO),
				.start_ns = clock_now() };
	pthread_mutex_init(&p->lock, NULL);
}

void progress_text(const struct progress *p, uint64_t now_ns, char *ret,
		   size_t size)
{
	double seconds = (double)(now_ns - p->start_ns) / (double)NSEC_PER_SEC;
	double rate = seconds > 0 ? (double)(p->done - p->resumed) / seconds : 0;
	char done[32], per_second[32], percent[16] = "", left[32] = "";

	out_size(done, sizeof(done), (double)p->done);
	out_size(per_second, sizeof(per_second), rate);
	if (p->total && p->done <= p->total) {
		unsigned long s = rate > 0 ? (unsigned long)((double)(p->total -
							      p->done) / rate) :
					     0;

		snprintf(percent, sizeof(percent), "%3u%%  ",
			 (unsigned)(100.0 * (double)p->done /
				    (double)p->total));
		if (p->done < p->total && rate > 0 && s < 360000)
			snprintf(left, sizeof(left), "  %02lu:%02lu:%02lu",
				 s / 3600, s / 60 % 60, s % 60);
	}
	snprintf(ret, size, "%s%10s  %10s/s%s", percent, done, per_second, left);
}

/* Called with the lock held. */
static void draw(struct progress *p, bool now_please)
{
	uint64_t now = clock_now();
	struct winsize w = { 0 };
	char text[160];
	int room = 79;

	if (!p->shown || (!now_please && now - p->last_ns < PROGRESS_PAUSE_NS))
		return;
	p->last_ns = now;
	p->drawn = true;
	progress_text(p, now, text, sizeof(text));
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 10)
		room = w.ws_col - 1;
	room -= (int)strlen(text) + 2;
	fprintf(stderr, "\r%-*.*s  %s\033[K", room > 8 ? room : 8,
		room > 8 ? room : 8, p->name, text);
	fflush(stderr);
}

void progress_file(struct progress *p, const char *name, uint64_t size,
		   uint64_t resumed)
{
	pthread_mutex_lock(&p->lock);
	out_escape(p->name, sizeof(p->name), name, strlen(name));
	p->total += size;
	p->done += resumed;
	p->resumed += resumed;
	draw(p, false);
	pthread_mutex_unlock(&p->lock);
}

void progress_add(struct progress *p, uint64_t bytes)
{
	pthread_mutex_lock(&p->lock);
	p->done += bytes;
	draw(p, false);
	pthread_mutex_unlock(&p->lock);
}

void progress_back(struct progress *p, uint64_t bytes)
{
	pthread_mutex_lock(&p->lock);
	p->done -= bytes < p->done ? bytes : p->done;
	pthread_mutex_unlock(&p->lock);
}

void progress_file_done(struct progress *p)
{
	pthread_mutex_lock(&p->lock);
	p->files++;
	pthread_mutex_unlock(&p->lock);
}

void progress_end(struct progress *p)
{
	pthread_mutex_lock(&p->lock);
	if (p->drawn || p->files > 1) {
		if (p->files > 1)
			snprintf(p->name, sizeof(p->name), "%llu files",
				 (unsigned long long)p->files);
		draw(p, true);
		if (p->drawn)
			fputc('\n', stderr);
	}
	pthread_mutex_unlock(&p->lock);
	pthread_mutex_destroy(&p->lock);
}
